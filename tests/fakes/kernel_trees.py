"""A kernel source tree of a few files, with a makefile that behaves and talks as kbuild does.

Everything that is "compiled" is copied; a source with the word BROKEN does not compile, and one
with HANG is never done. Kconfig, the options' lists and the parts of an artifact are real enough.
"""

import stat
from pathlib import Path

from harness.model.arch import Arch
from tests.fakes import kernels
from tests.fakes import packages as fake

VERSION = "5.14.0"
MODULES = ("fs/btrfs/btrfs", "drivers/net/netdevsim/netdevsim")

_MAKEFILE = """\
VERSION = 5
PATCHLEVEL = 14
SUBLEVEL = 0
EXTRAVERSION =
RELEASE := 5.14.0$(LOCALVERSION)
T := $(CURDIR)
IMAGE := $(if $(filter arm64,$(ARCH)),arm64/boot/Image,x86/boot/bzImage)
CONFIG_BTRFS_FS := m
CONFIG_NETDEVSIM := m
modules-$(CONFIG_BTRFS_FS) += fs/btrfs/btrfs.ko
modules-$(CONFIG_NETDEVSIM) += drivers/net/netdevsim/netdevsim.ko

allnoconfig alldefconfig:
\t@mkdir -p $(O)/include/config $(O)/scripts
\t@{ echo '# Linux/$(ARCH) 5.14.0 Kernel Configuration'; \\
\t   grep -v NOT_IN_THIS_TREE $(KCONFIG_ALLCONFIG); } > $(O)/.config
\t@echo $(RELEASE) > $(O)/include/config/kernel.release

all: $(O)/arch/$(IMAGE) $(O)/modules.order

$(O)/init/main.o: $(T)/init/main.c
\t$(call compile,CC     ,init/main)
$(O)/fs/btrfs/super.o: $(T)/fs/btrfs/super.c
\t$(call compile,CC [M] ,fs/btrfs/super)
$(O)/drivers/net/netdevsim/netdev.o: $(T)/drivers/net/netdevsim/netdev.c
\t$(call compile,CC [M] ,drivers/net/netdevsim/netdev)

$(O)/vmlinux: $(O)/init/main.o $(patsubst %.ko,$(O)/%.ko,$(modules-m))
\t@echo '  LD      vmlinux'
\t@cp $(T)/made/$(ARCH)/vmlinux $@
\t@cp $(T)/made/symvers $(O)/Module.symvers
$(O)/arch/$(IMAGE): $(O)/vmlinux
\t@echo '  OBJCOPY $(notdir $@)'
\t@mkdir -p $(dir $@); cp $(T)/made/$(ARCH)/$(notdir $@) $@
$(O)/fs/btrfs/btrfs.ko: $(O)/fs/btrfs/super.o
\t@cp $(T)/made/$(notdir $@) $@
$(O)/drivers/net/netdevsim/netdevsim.ko: $(O)/drivers/net/netdevsim/netdev.o
\t@cp $(T)/made/$(notdir $@) $@
$(O)/modules.order: $(O)/vmlinux
\t@printf '%s\\n' $(modules-m) > $@

define compile
@echo '  $(1) $(2).o'
@mkdir -p $(O)/$(dir $(2)); echo $(2) >> $(O)/compiled
@if grep -q BROKEN $<; then echo "$<:3:1: error: expected ';' before '}' token"; exit 1; fi
@if grep -q FULL $<; then echo "as: $@: No space left on device"; exit 1; fi
@while grep -q HANG $<; do sleep 0.05; done
@cp $< $@
endef
"""
_KCONFIG = """\
config MODULES
\tbool "modules"
config BTRFS_FS
\ttristate "btrfs"
\tdepends on BLOCK
"""
_PROGRAMS = ("flex", "bison", "bc", "perl", "pahole", "gcc", "ld", "strip")


def kernel_tree(root: Path, release: str = VERSION) -> Path:
    """Write the tree; `release` is what its images say that they are."""
    files = {
        "Makefile": _MAKEFILE,
        "Kconfig": 'source "arch/$(SRCARCH)/Kconfig"\n',
        "arch/x86/Kconfig": _KCONFIG,
        "arch/arm64/Kconfig": _KCONFIG,
        "scripts/Makefile.build": "",
        "scripts/link-vmlinux.sh": "",
        "init/main.c": "int main;\n",
        "fs/btrfs/super.c": "int super;\n",
        "fs/btrfs/Makefile": "obj-$(CONFIG_BTRFS_FS) := btrfs.o\nbtrfs-y += \\\n\tsuper.o\n",
        "drivers/net/netdevsim/netdev.c": "int netdev;\n",
        "drivers/net/netdevsim/Makefile": (
            "obj-$(CONFIG_NETDEVSIM) += netdevsim.o\nnetdevsim-objs := netdev.o\n"
        ),
        "include/uapi/linux/btf.h": (
            "enum { BTF_KIND_INT, BTF_KIND_STRUCT, BTF_KIND_FUNC, BTF_KIND_FUNC_PROTO };\n"
        ),
        "tools/testing/selftests/bpf/config": "CONFIG_BPF=y\nCONFIG_NOT_IN_THIS_TREE=y\n",
        "made/symvers": "0x1\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for arch, kernel_arch, image in (
        (Arch.X86_64, "x86", "bzImage"),
        (Arch.AARCH64, "arm64", "Image"),
    ):
        made = root / "made" / kernel_arch
        made.mkdir(parents=True)
        machine = 62 if arch is Arch.X86_64 else 183
        (made / "vmlinux").write_bytes(fake.elf({".BTF": kernels.SMALL_BTF}, machine=machine))
        (made / image).write_bytes(kernels.image_of(arch, release))
    for name in MODULES:
        stem = Path(name).name
        module = fake.module(stem, depends="", vermagic=f"{release} SMP preempt ")
        (root / "made" / f"{stem}.ko").write_bytes(module)
    return root


def programs(folder: Path) -> Path:
    """Compilers and tools that do nothing, well; make, bash and the like are the host's."""
    folder.mkdir(exist_ok=True)
    for name in _PROGRAMS:
        for prefix in ("", "aarch64-linux-gnu-", "x86_64-linux-gnu-"):
            path = folder / f"{prefix}{name}"
            path.write_text(f"#!/bin/sh\necho '{path.name} 1.0'\necho '{_HELP}'\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return folder


_HELP = "  --skip_encoding_btf_enum64   Do not encode ENUM64s in BTF."
