"""Architectures, and the names that each of them goes by."""

from dataclasses import dataclass
from enum import StrEnum


class Arch(StrEnum):
    """An architecture by the name that `uname -m` prints."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"


class AccelKind(StrEnum):
    """What executes the guest's instructions."""

    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchSpec:
    """One architecture's names and machine, as read from `configs/arches/<arch>.toml`.

    One thing has a different name in each community; each field says whose name it is.
    """

    arch: Arch
    kernel_arch: str
    """Value of ARCH for the kernel's build: `x86`, `arm64`."""
    debian_arch: str
    """dpkg's name: `amd64`, `arm64`."""
    rpm_arch: str
    gnu_triple: str
    """Prefix of the cross toolchain without the dash; also Debian's multiarch folder."""
    elf_machine: str
    """pyelftools' name: `EM_X86_64`, `EM_AARCH64`."""
    bpf_target_arch: str
    """`__TARGET_ARCH_<this>` of libbpf's bpf_tracing.h: `x86`, `arm64`."""
    qemu_binaries: tuple[str, ...]
    """Programs to look for, best first; absolute paths or names for PATH."""
    machine: str
    """QEMU board with its properties: `q35`, `virt,gic-version=3`."""
    tcg_cpu: str
    kvm_cpus: tuple[str, ...]
    """CPU models that the KVM probe tries, in order."""
    console: str
    """The kernel's name for the first serial line: `ttyS0`, `ttyAMA0`."""
    loader: str
    """Path of the dynamic loader in the guest."""
    image_names: tuple[str, ...]
    """File names of a bootable image under arch/*/boot, best first."""
    extra_qemu_args: tuple[str, ...] = ()
    extra_cmdline: tuple[str, ...] = ()
    tcg_cmdline: tuple[str, ...] = ()
    """More for the kernel's command line where the CPU is emulated."""
