"""The command line that runs a guest."""

import dataclasses
import itertools
import os
from pathlib import Path

import pytest

from harness.model.arch import AccelKind, Arch
from harness.model.errors import RigError
from harness.vm.accel import Accelerator
from harness.vm.arches import load_arch
from harness.vm.machine import Sockets, kernel_cmdline, machine_argv
from tests.fakes.machines import QEMU, machine

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "vm"
INHERITED = Sockets(monitor=11, console=12, control=13, output=14)


def following(argv: tuple[str, ...], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(argv) if name == option]


@pytest.mark.parametrize("arch", Arch)
def test_the_whole_command_is_the_reviewed_one(arch: Arch) -> None:
    spec = machine(arch, kernel_cmdline(load_arch(arch), AccelKind.TCG, ("lsm=bpf",)))
    text = "\n".join((*machine_argv(spec, INHERITED, QEMU), ""))
    golden = GOLDEN / f"argv-{arch}.txt"
    if "UPDATE_GOLDEN" in os.environ:
        golden.write_text(text)
    assert text == golden.read_text()


def test_kvm_gets_the_model_that_the_probe_found_and_no_emulator_options() -> None:
    accel = Accelerator(kind=AccelKind.KVM, cpu_model="host", reason="")
    argv = machine_argv(dataclasses.replace(machine(), accel=accel), INHERITED, QEMU)
    assert following(argv, "-accel") == ["kvm"]
    assert following(argv, "-cpu") == ["host"]


def test_a_guest_has_no_network() -> None:
    argv = machine_argv(machine(), INHERITED, QEMU)
    assert following(argv, "-nic") == ["none"]
    assert "-nodefaults" in argv
    assert not any(word.startswith(("-netdev", "-net")) for word in argv)


def test_no_initrd_no_option() -> None:
    argv = machine_argv(dataclasses.replace(machine(), initrd=None), INHERITED, QEMU)
    assert "-initrd" not in argv


@pytest.mark.parametrize(
    ("lacks", "option"),
    [
        ({"devices": frozenset[str]()}, "pvpanic-pci"),
        ({"devices": frozenset[str]()}, "virtio-rng-pci"),
        ({"has_sandbox": False}, "-sandbox"),
        ({"options": frozenset[str]()}, "-action"),
    ],
)
def test_what_this_qemu_lacks_is_left_out(lacks: dict[str, object], option: str) -> None:
    poorer = dataclasses.replace(QEMU, **lacks)  # type: ignore[arg-type]
    assert option in machine_argv(machine(), INHERITED, QEMU)
    assert option not in machine_argv(machine(), INHERITED, poorer)


def test_without_action_a_reboot_still_ends_qemu() -> None:
    old = dataclasses.replace(QEMU, options=frozenset())
    assert "-no-reboot" in machine_argv(machine(), INHERITED, old)


def test_the_sandbox_can_be_left_off() -> None:
    spec = dataclasses.replace(machine(), sandbox=False)
    assert "-sandbox" not in machine_argv(spec, INHERITED, QEMU)


def test_a_pasteable_command_listens_on_paths_with_commas_doubled() -> None:
    argv = machine_argv(machine(), Sockets.in_folder(Path("/tmp/a,b")), QEMU)
    assert "socket,id=console,server=on,wait=off,path=/tmp/a,,b/console" in following(
        argv, "-chardev"
    )


def test_a_path_that_no_socket_can_have_is_said_so() -> None:
    with pytest.raises(RigError, match="107 bytes"):
        machine_argv(machine(), Sockets.in_folder(Path("/" + "x" * 107)), QEMU)


def test_extra_words_come_last_so_that_they_overrule() -> None:
    cmdline = kernel_cmdline(load_arch(Arch.AARCH64), AccelKind.KVM, ("panic=0", "quiet"))
    assert cmdline.endswith(" panic=0 quiet")


def test_only_an_emulated_guest_is_given_emulator_patience() -> None:
    spec = load_arch(Arch.X86_64)
    assert "nosoftlockup" in kernel_cmdline(spec, AccelKind.TCG)
    assert "nosoftlockup" not in kernel_cmdline(spec, AccelKind.KVM)
