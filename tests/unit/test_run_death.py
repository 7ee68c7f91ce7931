"""What consoles and QEMU say of a guest's end, and what it means."""

from itertools import product
from pathlib import Path

import pytest

from harness.model.arch import Arch
from harness.model.errors import KernelError, RigError
from harness.model.record import Ending
from harness.run.boot_error import RunStopped, boot_error
from harness.run.death import ConsoleWatch, Death, judge
from harness.vm.monitor import MonitorEvent
from tests.fakes.fake_guest import BANNER, PANIC_ARM64, PANIC_X86


def watched(text: str) -> ConsoleWatch:
    watch = ConsoleWatch()
    for line in text.splitlines():
        watch.feed(line)
    return watch


def event(name: str, reason: str = "") -> MonitorEvent:
    data = {"reason": reason} if reason else {}
    return MonitorEvent(index=0, t_s=1.0, name=name, data=data)


@pytest.mark.parametrize(
    ("line", "ending", "what"),
    [
        (
            "[    3.141592] Kernel panic - not syncing: Attempted to kill init!",
            Ending.PANICKED,
            "Kernel panic: Attempted to kill init!",
        ),
        ("[  1.2] half[  3.1] Kernel panic - not syncing: x", Ending.PANICKED, "Kernel panic: x"),
        ("[   12.345678] reboot: Restarting system", Ending.REBOOTED, "the guest restarted"),
        ("[   12.345678][    T1] reboot: Power down", Ending.POWERED_OFF, "the guest powered off"),
        ("reboot: System halted", Ending.POWERED_OFF, "the guest halted"),
    ],
)  # fmt: skip
def test_a_console_that_tells_of_an_end_is_understood(line: str, ending: Ending, what: str) -> None:
    watch = watched(line)
    assert (watch.ending, watch.what) == (ending, what)


@pytest.mark.parametrize(
    "line",
    [
        "[    3.141592] audit: rebooting is not what this says",
        "[   50.000000] Linux version 5.14.0 (cat /proc/version >/dev/kmsg)",
        "[    3.141592] panic_on_oops set",
        "[    3.141592] kexec: reboot: Restarting system, they said",
    ],
)
def test_lines_that_look_alike_tell_of_none(line: str) -> None:
    assert watched(BANNER + line).ending is None


@pytest.mark.parametrize("again", [BANNER, "[    0.000000][    T0] Linux version 6.1.0-44-arm64\n"])
def test_a_second_banner_is_a_reboot(again: str) -> None:
    assert watched(BANNER).ending is None
    assert watched(BANNER + "[    1.0] hello\n" + again).ending is Ending.REBOOTED


def test_a_panic_overrules_another_claim_and_is_overruled_by_none() -> None:
    goodbye = "[    9.0] reboot: Restarting system\n"
    for text in (goodbye + PANIC_X86, PANIC_X86 + goodbye, PANIC_X86 + BANNER + BANNER):
        watch = watched(BANNER + text)
        assert watch.what == "Kernel panic: sysrq triggered crash"


def test_evidence_begins_where_the_trouble_began() -> None:
    chatter = "".join(f"[    5.{n:06}] chatter\n" for n in range(400))
    assert "Unable to handle" in watched(chatter + PANIC_ARM64).evidence[0]
    assert watched(PANIC_X86 + chatter).evidence[-1].endswith("chatter")
    assert watched(chatter).evidence[-1].startswith("[    5.000399]")
    assert len(watched(chatter).evidence) == 20
    assert len(watched("x" * 100_000).evidence[0]) == 300


SIGNS = {
    Ending.PANICKED: event("GUEST_PANICKED"),
    Ending.REBOOTED: event("SHUTDOWN", "guest-reset"),
    Ending.POWERED_OFF: event("SHUTDOWN", "guest-shutdown"),
    Ending.QEMU_DIED: event("SHUTDOWN", "host-signal"),
}
CONSOLES = {
    Ending.PANICKED: PANIC_X86,
    Ending.REBOOTED: "[    9.0] reboot: Restarting system",
    Ending.POWERED_OFF: "[    9.0] reboot: System halted",
    None: "[    9.0] hello",
}


@pytest.mark.parametrize(("said", "told"), list(product(CONSOLES, SIGNS)))
def test_a_panic_is_told_by_whoever_tells_of_it_else_qemu_counts(
    said: Ending | None, told: Ending
) -> None:
    death = judge(watched(CONSOLES[said]), [event("RESET"), SIGNS[told]], 0, ())
    assert death is not None
    is_forged = said is Ending.PANICKED and told is Ending.POWERED_OFF
    assert death.ending is (Ending.PANICKED if said is Ending.PANICKED and not is_forged else told)


def test_a_qemu_that_ends_without_a_word_is_the_rigs_death() -> None:
    death = judge(watched(BANNER), [], -9, ["qemu: out of memory"])
    assert death is not None
    assert (death.ending, death.what) == (Ending.QEMU_DIED, "QEMU was killed by signal 9")
    assert death.evidence == ("qemu: out of memory",)


def test_no_sign_is_no_death() -> None:
    assert judge(watched(BANNER), [event("RTC_CHANGE")], None, ()) is None


@pytest.mark.parametrize(
    ("ending", "has_spoken", "is_silent", "kind"),
    [
        (Ending.PANICKED, True, False, KernelError),
        (Ending.REBOOTED, True, False, KernelError),
        (Ending.POWERED_OFF, True, False, KernelError),
        (Ending.HUNG, True, True, KernelError),
        (Ending.HUNG, True, False, RigError),
        (Ending.HUNG, False, True, RigError),
        (Ending.QEMU_DIED, True, False, RigError),
        (Ending.PANICKED, False, False, RigError),
        (Ending.KILLED, True, False, RunStopped),
    ],
)
def test_a_kernel_is_blamed_for_a_boot_only_where_it_spoke_and_died(
    ending: Ending, has_spoken: bool, is_silent: bool, kind: type[Exception]
) -> None:
    error = boot_error(
        Death(ending=ending, what="it died"),
        arch=Arch.AARCH64,
        folder=Path("vm1"),
        stderr=("qemu: hm",),
        has_spoken=has_spoken,
        is_silent=is_silent,
        after_s=120,
    )
    assert type(error) is kind
