"""From the folder that a kernel was built in to an artifact: what is kept, and where it lies.

boot/{vmlinuz,vmlinux,config,System.map,symvers}-<release>, lib/modules/<release>, as a package has
them; and `devel`, what external modules are built with.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from harness.host.command import run
from harness.kernel.build_tools import Tools
from harness.model.arch import ArchSpec
from harness.model.errors import RigError
from harness.packages.elf import module_name

_INDEXES = ("modules.builtin", "modules.builtin.modinfo")
_DEVEL_TOOLS = ("tools/objtool/objtool", "tools/bpf/resolve_btfids/resolve_btfids")
_NOT_DEVEL = shutil.ignore_patterns("*.o", "*.a", "*.cmd", "*.d", ".*.d", "*.order", "*.mod")


def built_image(out: Path, arch_spec: ArchSpec) -> Path | None:
    """The bootable image in a build's folder; None when there is none."""
    folder = out / "arch" / arch_spec.kernel_arch / "boot"
    path = folder / arch_spec.image_names[0]
    return path if path.is_file() else None


def built_modules(out: Path) -> tuple[str, ...]:
    """Modules that were built, in the order of the makefiles: paths in the build's folder."""
    try:
        lines = (out / "modules.order").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    found = []
    for line in lines:
        # Linux 6.3 and later write fs/btrfs/btrfs.o, older ones …/btrfs.ko, and before 5.4 with
        # kernel/ in front.
        path = f"{line.strip().removesuffix('.o').removesuffix('.ko')}.ko"
        for name in (path, path.removeprefix("kernel/")):
            if (out / name).is_file():
                found.append(name)
                break
    return tuple(dict.fromkeys(found))


def install(
    out: Path, folder: Path, release: str, tools: Tools, arch_spec: ArchSpec
) -> tuple[str, ...]:
    """Copy what was built below `folder`; return the names of the modules.

    Raises RigError when there is no image.
    """
    image = built_image(out, arch_spec)
    if image is None:
        raise RigError(f"no {arch_spec.image_names[0]} was built in {out}")
    boot = folder / "boot"
    boot.mkdir(parents=True)
    shutil.copyfile(image, boot / f"vmlinuz-{release}")
    for name, kept in (
        ("vmlinux", "vmlinux"),
        (".config", "config"),
        ("System.map", "System.map"),
        ("Module.symvers", "symvers"),
    ):
        if (out / name).is_file():
            shutil.copyfile(out / name, boot / f"{kept}-{release}")
    modules = built_modules(out)
    if modules:
        _install_modules(out, folder / "lib" / "modules" / release, modules, tools)
    _install_devel(out, folder / "devel", release, arch_spec)
    return tuple(module_name(Path(name)) for name in modules)


def headers_folder(devel: Path, tree: Path, into: Path) -> None:
    """Make a folder for `make -C <it> M=…`: a kept `devel`, and the tree that it is from."""
    for path in devel.iterdir():
        (into / path.name).symlink_to(path)
    (into / "source").symlink_to(tree)
    (into / "Makefile").write_text(f"include {tree}/Makefile\n")


def _install_modules(out: Path, folder: Path, modules: Sequence[str], tools: Tools) -> None:
    targets = []
    for name in modules:
        target = folder / "kernel" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / name, target)
        targets.append(str(target))
    run((tools.strip, "--strip-debug", "--", *targets))
    for name in _INDEXES:
        if (out / name).is_file():
            shutil.copyfile(out / name, folder / name)
    order = "".join(f"kernel/{name}\n" for name in modules)
    (folder / "modules.order").write_text(order, encoding="utf-8")


def _install_devel(out: Path, devel: Path, release: str, arch_spec: ArchSpec) -> None:
    generated = f"arch/{arch_spec.kernel_arch}/include/generated"
    for name in ("include", "scripts", generated):
        if (out / name).is_dir():
            shutil.copytree(out / name, devel / name, symlinks=True, ignore=_NOT_DEVEL)
    for name in (".config", "Module.symvers", *_DEVEL_TOOLS):
        if (out / name).is_file():
            (devel / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(out / name, devel / name)
    os.symlink(f"../boot/vmlinux-{release}", devel / "vmlinux")  # noqa: PTH211
