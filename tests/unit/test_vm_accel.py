"""KVM is what runs a guest, not what opens."""

import dataclasses
import time
from pathlib import Path

import pytest

from harness.host.cache import Cache
from harness.model.arch import AccelKind, Arch, ArchSpec
from harness.vm import accel
from harness.vm.accel import Accelerator, probe_accelerator
from harness.vm.arches import load_arch
from harness.vm.payload import GREETING, probe_firmware
from harness.vm.qemu import QemuBinary
from tests.fakes.machines import fake_qemu


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """Something that opens."""
    path = tmp_path / "kvm"
    path.touch()
    return path


def models(*names: str) -> ArchSpec:
    return dataclasses.replace(load_arch(Arch.X86_64), kvm_cpus=names)


def probed(spec: ArchSpec, device: Path, *, fresh: bool = False) -> Accelerator:
    cache = Cache(device.parent / "cache")
    return probe_accelerator(
        spec, fake_qemu(device.parent), cache, fresh=fresh, device=device, host_machine="x86_64"
    )


def test_the_first_model_that_runs_a_guest_is_taken(device: Path) -> None:
    found = probed(models("aborts", "resets", "works", "hangs"), device)
    assert (found.kind, found.cpu_model) == (AccelKind.KVM, "works")


def test_a_kvm_that_opens_and_runs_nothing_is_none(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accel, "_ATTEMPT_S", 2.0)
    spec = models("aborts", "hangs", "resets")
    found = probed(spec, device)
    assert (found.kind, found.cpu_model) == (AccelKind.TCG, spec.tcg_cpu)
    assert "aborts: failed to set MSR 0x10a to 0x69" in found.reason
    assert "hangs: no answer within" in found.reason
    assert "resets: it ended without a word" in found.reason


def test_all_models_together_have_ten_seconds(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accel, "_ATTEMPT_S", 0.4)
    monkeypatch.setattr(accel, "_TOTAL_S", 0.7)
    begin = time.monotonic()
    found = probed(models("hangs", "hangs", "works"), device)
    assert time.monotonic() - begin < 3
    assert found.kind is AccelKind.TCG
    assert "works: not tried" in found.reason


def test_it_is_tried_once(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = probed(models("works"), device)
    monkeypatch.setattr(accel, "_tried", lambda spec, qemu: pytest.fail("tried again"))
    assert probed(models("works"), device) == first


def test_fresh_tries_again(device: Path) -> None:
    spec = models("works")
    assert probed(spec, device).kind is AccelKind.KVM
    for file in (device.parent / "cache").rglob("found.json"):
        file.write_text('{"cpu_model": "", "reason": "an old answer"}')
    assert probed(spec, device).reason == "an old answer"
    assert probed(spec, device, fresh=True).kind is AccelKind.KVM


def test_another_device_is_tried_anew(device: Path) -> None:
    probed(models("works"), device)
    for file in (device.parent / "cache").rglob("found.json"):
        file.write_text('{"cpu_model": "", "reason": "an old answer"}')
    device.chmod(0o600)
    assert probed(models("works"), device).kind is AccelKind.KVM


def test_a_foreign_architecture_is_emulated_at_once(device: Path) -> None:
    spec = dataclasses.replace(load_arch(Arch.AARCH64), kvm_cpus=("works",))
    found = probed(spec, device)
    assert found.kind is AccelKind.TCG
    assert found.cpu_model == "max,pauth-impdef=on"
    assert "x86_64" in found.reason


def test_no_device_and_no_support_are_told_apart(device: Path) -> None:
    def reason(qemu: QemuBinary, device: Path) -> str:
        cache = Cache(device.parent / "cache")
        return probe_accelerator(
            models("works"), qemu, cache, device=device, host_machine="x86_64"
        ).reason

    qemu = fake_qemu(device.parent)
    assert "has no KVM" in reason(dataclasses.replace(qemu, accels=frozenset({"tcg"})), device)
    assert "there is no" in reason(qemu, device.parent / "gone")


def test_a_pcs_firmware_has_its_reset_vector() -> None:
    firmware = probe_firmware(Arch.X86_64)
    assert len(firmware) == 65536
    assert firmware[0xFFF0] == 0xEA  # a far jump
    assert firmware[0xF0 : 0xF0 + len(GREETING) + 1] == GREETING + b"\0"


def test_the_code_of_aarch64_ends_where_its_text_begins() -> None:
    firmware = probe_firmware(Arch.AARCH64)
    assert firmware[0x38:0x3C] == bytes.fromhex("00000014")
    assert firmware[0x3C:].startswith(GREETING + b"\0")
