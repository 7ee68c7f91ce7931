"""How guests die: what a console says about it, and what all signs together mean. Pure.

x86 and arm64 differ in most texts of an oops; the panic line is kernel/panic.c's own and the same
on both. A line of the console is a claim: anyone in the guest can write to the kernel log. QEMU's
events and its end are facts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.model.record import Ending
from harness.vm.monitor import MonitorEvent

_EVIDENCE_LINES = 20
_RECENT_LINES = 150  # more than an oops has
_LINE_CHARS = 300

_STAMP = r"^(?:\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?)?"
# "[    3.141592] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"
_PANIC = re.compile(r"Kernel panic - not syncing: (?P<what>.*)")
# "[    0.000000] Linux version 6.1.0-44-arm64 (…)": every boot says it once, first of all.
_BANNER = re.compile(r"^(?:\[ *0\.\d+\](?:\[ *[TC]\d+\])? ?)?Linux version \d")
# "[   12.345678] reboot: Power down"
_GOING = re.compile(_STAMP + r"reboot: (?P<what>Restarting system|Power down|System halted)")
# First lines of what a kernel dies of, x86's and arm64's.
_TROUBLE = re.compile(
    _STAMP + r"(?:BUG: |Unable to handle kernel |Internal error: |Oops: |kernel BUG at "
    r"|general protection fault|Kernel panic - not syncing|watchdog: BUG|rcu: INFO: )"
)

_GOINGS = {
    "Restarting system": (Ending.REBOOTED, "the guest restarted"),
    "Power down": (Ending.POWERED_OFF, "the guest powered off"),
    "System halted": (Ending.POWERED_OFF, "the guest halted"),
}

_ENDING_EVENTS: dict[str, dict[str, Ending]] = {
    "GUEST_PANICKED": {"": Ending.PANICKED},
    "SHUTDOWN": {
        "": Ending.POWERED_OFF,
        "guest-shutdown": Ending.POWERED_OFF,
        "guest-reset": Ending.REBOOTED,
        "guest-panic": Ending.PANICKED,
        "host-qmp-quit": Ending.QEMU_DIED,
        "host-signal": Ending.QEMU_DIED,
        "host-error": Ending.QEMU_DIED,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A guest that is gone or must be taken for gone."""

    ending: Ending
    what: str
    evidence: tuple[str, ...] = ()


class GuestGone(Exception):
    """The guest died while something was asked of it; never leaves this package."""

    def __init__(self, death: Death) -> None:
        super().__init__(death.what)
        self.death = death


class ConsoleWatch:
    """Follows one guest's console line by line: what it claims of its end, and its last lines.

    One thread may feed while another reads.
    """

    def __init__(self) -> None:
        self.ending: Ending | None = None
        self.what = ""
        self.has_spoken = False
        self._has_booted = False
        self._recent: list[str] = []

    def feed(self, line: str) -> None:
        """Take one line without its newline. The first claim stays, but for a panic's."""
        if not line.strip():
            return
        self.has_spoken = True
        self._recent.append(line[:_LINE_CHARS])
        if len(self._recent) > 2 * _RECENT_LINES:
            del self._recent[:-_RECENT_LINES]
        if "Kernel panic" in line or "reboot: " in line or "Linux version" in line:
            self._read(line)

    def _read(self, line: str) -> None:
        if panic := _PANIC.search(line):
            if self.ending is not Ending.PANICKED:
                what = f"Kernel panic: {panic['what'].strip()[:_LINE_CHARS]}"
                self.what, self.ending = what, Ending.PANICKED
        elif going := _GOING.match(line):
            self._claim(*_GOINGS[going["what"]])
        elif _BANNER.match(line):
            if self._has_booted:
                self._claim(Ending.REBOOTED, "the guest booted a second time")
            self._has_booted = True

    def dismiss(self) -> None:
        """The claim was wrong: the guest lives."""
        self.ending, self.what = None, ""

    @property
    def evidence(self) -> tuple[str, ...]:
        """After a panic: where the trouble began, and how it goes on; else the last lines."""
        recent = self._recent[-_RECENT_LINES:]
        begin = -_EVIDENCE_LINES
        if self.ending is Ending.PANICKED:
            found = (index for index, line in enumerate(recent) if _TROUBLE.match(line))
            begin = next(found, begin)
        return tuple(recent[begin:][:_EVIDENCE_LINES])

    def _claim(self, ending: Ending, what: str) -> None:
        if self.ending is None:
            self.what, self.ending = what, ending


def is_ending(event: MonitorEvent) -> bool:
    """Whether QEMU tells of the guest's end by it."""
    return event.name in _ENDING_EVENTS


def judge(
    watch: ConsoleWatch, events: Sequence[MonitorEvent], status: int | None, stderr: Sequence[str]
) -> Death | None:
    """What all signs say of a guest's end; None while there is none. `status`: QEMU's own, if any.

    A panic is told by whoever tells of it, unless the guest then powered off in good order: a
    panicking one reboots. In all else QEMU's word counts more than the console's.
    """
    told = sorted(
        (_told(event) for event in events if is_ending(event)),
        key=lambda each: each[0] is not Ending.PANICKED,
    )
    is_orderly = bool(told) and told[0][0] is Ending.POWERED_OFF
    if watch.ending is Ending.PANICKED and not is_orderly:
        return Death(ending=Ending.PANICKED, what=watch.what, evidence=watch.evidence)
    if told:
        return Death(ending=told[0][0], what=told[0][1], evidence=watch.evidence)
    if watch.ending is not None:
        return Death(ending=watch.ending, what=watch.what, evidence=watch.evidence)
    if status is not None:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        evidence = tuple(stderr[-_EVIDENCE_LINES:]) or watch.evidence
        return Death(ending=Ending.QEMU_DIED, what=f"QEMU {how}", evidence=evidence)
    return None


def _told(event: MonitorEvent) -> tuple[Ending, str]:
    reason = str(event.data.get("reason", ""))
    endings = _ENDING_EVENTS[event.name]
    return endings.get(reason, endings[""]), f"QEMU reported {event.name} {reason}".strip()
