"""Machines for tests: the real specs, and a QEMU that is a fake."""

import dataclasses
import sys
from pathlib import Path

from harness.model.arch import AccelKind, Arch
from harness.vm.accel import Accelerator
from harness.vm.arches import load_arch
from harness.vm.machine import MachineSpec
from harness.vm.qemu import QemuBinary

_FAKE = Path(__file__).with_name("fake_qemu.py")

QEMU = QemuBinary(
    path=Path("/usr/bin/qemu-system-x86_64"),
    version="7.2.22",
    description="QEMU emulator version 7.2.22",
    identity="0",
    accels=frozenset({"tcg", "kvm"}),
    devices=frozenset({"virtio-rng-pci", "pvpanic-pci"}),
    machines=frozenset({"q35", "virt"}),
    options=frozenset({"action", "sandbox"}),
    has_sandbox=True,
)


def install_fake(folder: Path) -> Path:
    """Put the fake into a folder, to be run by this very Python and none of its packages."""
    path = folder / "qemu-fake"
    text = _FAKE.read_text()
    path.write_text(text.replace("#!/usr/bin/env python3", f"#!{sys.executable} -IS", 1))
    path.chmod(0o755)
    return path


def fake_qemu(folder: Path) -> QemuBinary:
    """The fake with all that a QEMU may have, installed in that folder."""
    return dataclasses.replace(QEMU, path=install_fake(folder))


def machine(arch: Arch = Arch.X86_64, cmdline: str = "console=ttyS0") -> MachineSpec:
    spec = load_arch(arch)
    return MachineSpec(
        arch_spec=spec,
        kernel_image=Path("/artifacts/bzImage"),
        initrd=Path("/artifacts/initramfs,with,commas.cpio"),
        cmdline=cmdline,
        memory_mib=2048,
        cpus=2,
        accel=Accelerator(kind=AccelKind.TCG, cpu_model=spec.tcg_cpu, reason="a test"),
    )


def fake_machine(behaviour: str, **words: object) -> MachineSpec:
    """A machine for the fake QEMU, which plays `behaviour`."""
    pairs = {"fake": behaviour, **words}
    return machine(cmdline=" ".join(f"{key}={value}" for key, value in pairs.items()))
