"""Real QEMUs: the distribution's kernel without a root file system, from first byte to panic."""

import re
import shutil
import signal
from pathlib import Path

import pytest

from harness.host.cache import Cache
from harness.host.command import run
from harness.host.paths import cache_root
from harness.kernel.default import distribution_kernel
from harness.model.arch import AccelKind, Arch
from harness.model.errors import RigError
from harness.vm.accel import Accelerator, probe_accelerator, probe_argv
from harness.vm.arches import load_arch
from harness.vm.console import ChannelClosed
from harness.vm.guest_vm import VirtualMachine
from harness.vm.machine import MachineSpec, kernel_cmdline
from harness.vm.payload import GREETING, probe_firmware
from harness.vm.qemu import QemuBinary, find_qemu
from harness.vm.timeline import offset_at, read_timeline, time_of

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="the kernel is fetched by apt"),
]

BOOT_S = 120.0


@pytest.fixture(params=list(Arch))
def arch(request: pytest.FixtureRequest) -> Arch:
    found = request.param
    assert isinstance(found, Arch)
    return found


def machine(arch: Arch) -> tuple[MachineSpec, QemuBinary]:
    spec, cache = load_arch(arch), Cache(cache_root())
    qemu = find_qemu(spec, cache)
    accel = probe_accelerator(spec, qemu, cache)
    made = MachineSpec(
        arch_spec=spec,
        kernel_image=distribution_kernel(spec, cache, lambda _: None).image,
        initrd=None,
        cmdline=kernel_cmdline(spec, accel.kind),
        memory_mib=512,
        cpus=2,
        accel=accel,
    )
    return made, qemu


def test_a_kernel_without_a_root_panics_and_everything_is_kept(arch: Arch, tmp_path: Path) -> None:
    spec, qemu = machine(arch)
    seen = bytearray()
    with VirtualMachine(spec, tmp_path, qemu, on_console=seen.extend) as vm:
        vm.console.expect_exact("Kernel panic - not syncing: VFS", timeout=BOOT_S)
        assert vm.wait(BOOT_S) == 0
        event = vm.monitor.wait_event({"SHUTDOWN"}, 10)
        assert event is not None
        assert event.data["reason"] == "guest-reset"
        with pytest.raises(ChannelClosed):
            vm.output.read_chunk(10)
    log = (tmp_path / "console.log").read_bytes()
    assert bytes(seen) == log
    assert re.search(rb"\[ +0\.000000\] Linux version", log)  # the kernel's first line is there
    assert b"Kernel Offset" in log  # and one of its last, after the panic's
    assert (tmp_path / "qemu.stderr").read_bytes() == b""


def test_the_timeline_places_the_logs_bytes(arch: Arch, tmp_path: Path) -> None:
    spec, qemu = machine(arch)
    with VirtualMachine(spec, tmp_path, qemu) as vm:
        vm.console.expect_exact("Kernel panic", timeout=BOOT_S)
        assert vm.wait(BOOT_S) == 0
        end_s = vm.timeline.now_s()
    moments = read_timeline(tmp_path / "timeline.jsonl")
    panic_b = (tmp_path / "console.log").read_bytes().index(b"Kernel panic")
    panic_s = time_of(moments, "console", panic_b)
    assert panic_s is not None
    assert 0 < panic_s < end_s
    assert offset_at(moments, "console", panic_s) <= panic_b


def test_a_qemu_that_is_killed_is_noticed(arch: Arch, tmp_path: Path) -> None:
    spec, qemu = machine(arch)
    with VirtualMachine(spec, tmp_path, qemu) as vm:
        vm.console.expect_exact("Linux version", timeout=BOOT_S)
        vm.kill()
        assert vm.monitor.wait_death(1)
        assert vm.poll() == -signal.SIGKILL
    assert b"Linux version" in (tmp_path / "console.log").read_bytes()


def test_a_processor_that_does_not_exist_is_qemus_own_complaint(arch: Arch, tmp_path: Path) -> None:
    spec, qemu = machine(arch)
    wrong = Accelerator(kind=AccelKind.TCG, cpu_model="no-such-cpu", reason="a test")
    broken = MachineSpec(
        arch_spec=spec.arch_spec,
        kernel_image=spec.kernel_image,
        initrd=None,
        cmdline="",
        memory_mib=512,
        cpus=1,
        accel=wrong,
    )
    with pytest.raises(RigError, match="QEMU ended with status 1") as caught:
        VirtualMachine(broken, tmp_path, qemu).start()
    assert "no-such-cpu" in "".join(caught.value.evidence)


def test_the_tiny_guest_of_the_kvm_probe_runs(arch: Arch, tmp_path: Path) -> None:
    spec = load_arch(arch)
    qemu = find_qemu(spec, Cache(cache_root()))
    firmware = tmp_path / "firmware"
    firmware.write_bytes(probe_firmware(arch))
    argv = probe_argv(spec, qemu, spec.tcg_cpu, firmware)
    emulated = tuple("tcg" if word == "kvm" else word for word in argv)
    finished = run(emulated, timeout_s=60)
    assert finished.stdout == GREETING.decode()
