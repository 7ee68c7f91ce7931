"""What shall execute a guest's instructions: KVM where it really does, TCG elsewhere.

A `/dev/kvm` that opens proves nothing: there are hosts on which QEMU aborts for one CPU model and
hangs for another. So a tiny guest is run on it, once after each boot of the host.
"""

import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.host.cache import Cache, key_of, write_atomically
from harness.host.command import CommandError, run
from harness.model.arch import AccelKind, ArchSpec
from harness.vm.payload import GREETING, probe_firmware
from harness.vm.qemu import SANDBOX, QemuBinary

KVM_DEVICE = Path("/dev/kvm")

_ATTEMPT_S = 4.0  # hardware needs a tenth of a second, most of it QEMU's own start
_TOTAL_S = 10.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """The choice, and why it was made."""

    kind: AccelKind
    cpu_model: str
    reason: str
    """For people: `KVM ran a guest with the CPU model host`, or why it did not."""


class _Found(msgspec.Struct, forbid_unknown_fields=True):
    cpu_model: str  # "" when no model worked
    reason: str


def probe_accelerator(
    spec: ArchSpec,
    qemu: QemuBinary,
    cache: Cache,
    *,
    fresh: bool = False,
    device: Path = KVM_DEVICE,
    host_machine: str = "",
) -> Accelerator:
    """Choose the accelerator and the CPU model for guests of this architecture.

    Takes up to 10 s once after each boot of the host, and no time later; `fresh` tries again in
    any case. `device` and `host_machine` (as `uname -m`, "" is this host) are for tests.
    """
    obstacle = _obstacle(spec, qemu, device, host_machine or platform.machine())
    if obstacle:
        return Accelerator(kind=AccelKind.TCG, cpu_model=spec.tcg_cpu, reason=obstacle)
    found = _cached(_key(spec, qemu, device), cache, fresh, lambda: _tried(spec, qemu))
    if found.cpu_model:
        return Accelerator(kind=AccelKind.KVM, cpu_model=found.cpu_model, reason=found.reason)
    return Accelerator(kind=AccelKind.TCG, cpu_model=spec.tcg_cpu, reason=found.reason)


def _obstacle(spec: ArchSpec, qemu: QemuBinary, device: Path, host_machine: str) -> str:
    """Why KVM need not even be tried; "" when it must be."""
    if host_machine != spec.arch:
        return f"the host is {host_machine}, its KVM cannot run {spec.arch}"
    if "kvm" not in qemu.accels:
        return f"{qemu.path} has no KVM"
    if not device.exists():
        return f"there is no {device}"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"{device} is there, and this user may not open it (is it in the group kvm?)"
    return ""


def _key(spec: ArchSpec, qemu: QemuBinary, device: Path) -> str:
    status = device.stat()
    return key_of(
        boot_id=_BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.exists() else "",
        qemu=qemu.identity,
        device=(status.st_dev, status.st_ino, status.st_rdev, status.st_mode),
        user=os.geteuid(),
        machine=spec.machine,
        models=spec.kvm_cpus,
    )


def _cached(key: str, cache: Cache, fresh: bool, find: Callable[[], _Found]) -> _Found:
    def make(folder: Path) -> None:
        write_atomically(folder / "found.json", msgspec.json.encode(find()))

    is_old = cache.has("accel", key)
    answer = cache.entry("accel", key, make) / "found.json"
    if fresh and is_old:
        write_atomically(answer, msgspec.json.encode(find()))
    try:
        return msgspec.json.decode(answer.read_bytes(), type=_Found)
    except (OSError, msgspec.MsgspecError):  # somebody else's bytes in the cache
        return find()


def _tried(spec: ArchSpec, qemu: QemuBinary) -> _Found:
    """Run the tiny guest with one CPU model after the other until one works."""
    failures: list[str] = []
    deadline = time.monotonic() + _TOTAL_S
    with tempfile.TemporaryDirectory(prefix="harness-kvm-") as folder:
        firmware = Path(folder) / "firmware"
        firmware.write_bytes(probe_firmware(spec.arch))
        for model in spec.kvm_cpus:
            left_s = min(_ATTEMPT_S, deadline - time.monotonic())
            if left_s <= 0:
                failures.append(f"{model}: not tried, the {_TOTAL_S:g} s are over")
                continue
            failure = _failure(probe_argv(spec, qemu, model, firmware), left_s)
            if not failure:
                return _Found(cpu_model=model, reason=f"KVM ran a guest with the CPU model {model}")
            failures.append(f"{model}: {failure}")
    return _Found(cpu_model="", reason="KVM runs no guest here (" + "; ".join(failures) + ")")


def probe_argv(spec: ArchSpec, qemu: QemuBinary, model: str, firmware: Path) -> tuple[str, ...]:
    """The command that runs the tiny guest on KVM."""
    return (
        str(qemu.path),
        "-nodefaults",
        "-no-user-config",
        *(("-sandbox", SANDBOX) if qemu.has_sandbox else ()),
        "-display", "none",
        "-machine", spec.machine,
        "-accel", "kvm",
        "-cpu", model,
        "-m", "size=64M",
        "-no-reboot",
        "-serial", "stdio",
        "-bios", str(firmware).replace(",", ",,"),
    )  # fmt: skip


def _failure(argv: tuple[str, ...], timeout_s: float) -> str:
    try:
        finished = run(argv, timeout_s=timeout_s, check=False)
    except CommandError as error:
        if error.command_status is None:
            return f"no answer within {timeout_s:.0f} s"
        return str(error)
    if GREETING.decode() in finished.stdout:
        return ""
    lines = finished.stderr.strip().splitlines()
    return lines[0].partition("error: ")[2] or lines[0] if lines else "it ended without a word"
