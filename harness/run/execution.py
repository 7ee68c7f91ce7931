"""One process in a guest: its lines become outcomes, its end or its guest's is one case's fault.

A case is blamed only when it was in flight: when the process had begun, and no result of the case
had been seen. What is said after a process was stopped for its time counts as said in time: it was
on its way. Nothing that is said before the process begins is its own.
"""

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from harness.guest.wire import Begin, Damage, End, Line
from harness.model.case import CaseId, Outcome
from harness.model.plan import PlannedCase
from harness.model.record import Ending, Incident
from harness.run.budget import Budgets
from harness.run.death import Death, GuestGone
from harness.run.recorder import Recorder, Setting
from harness.run.session import Item, Session
from harness.suites.base import CaseReport, Reader

_POLL_S = 0.2
_DRAIN_S = 10.0
_SIGNALLED = 128  # a shell's status of a program that a signal ended is 128 + n

_OUTCOME_OF_DEATH: dict[Ending, Outcome] = {
    Ending.PANICKED: Outcome.CRASH,
    Ending.REBOOTED: Outcome.CRASH,
    Ending.POWERED_OFF: Outcome.CRASH,
    Ending.HUNG: Outcome.TIMEOUT,
    # The rig's own deaths say nothing about the case: it is lost, and the gate cannot tell.
    Ending.QEMU_DIED: Outcome.LOST,
    Ending.KILLED: Outcome.LOST,
}


class Execution:
    """Runs one process, once. `run_id` is unique in its guest."""

    def __init__(
        self,
        guest: Session,
        recorder: Recorder,
        reader: Reader,
        *,
        run_id: str,
        suite: str,
        program: str,
        cases: Sequence[PlannedCase],
        budgets: Budgets,
        setting: Setting,
        is_fresh: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`cases` in the order in which the process runs them; `is_fresh`: it is the first in its
        guest."""
        self.answered: set[CaseId] = set()
        """Cases that have their outcome now."""
        self.has_begun = False
        self.death: Death | None = None
        """Of the guest, in this execution's time."""
        self.victim: PlannedCase | None = None
        """The case that took its guest down, or that was out of time."""
        self._guest = guest
        self._recorder = recorder
        self._reader = reader
        self._run_id = run_id
        self._suite = suite
        self._program = program
        self._chosen = {item.case: item for item in cases}
        self._budgets = budgets
        self._setting = setting
        self._is_fresh = is_fresh
        self._clock = clock
        self._current: PlannedCase | None = None
        self._path: tuple[str, ...] | None = None
        """The reader's word for it."""
        self._since = clock()
        """When the case in flight began."""
        self._took_s: dict[CaseId, float] = {}
        self._read_b = guest.vm.output.received_b
        """The place in the output log that has been read."""
        self._late: PlannedCase | None = None
        """The case that was out of time."""

    def run(self, shell: str, cwd: str, *, after: str = "") -> bool:
        """Run to the end of the process or of its guest; returns whether the guest may go on.

        `after` names the run that the guest had before: what it left behind is ended first. Each
        case that had begun has its outcome then; at least one has, unless the process never began.
        """
        self._phase(f"start of {self._program}")
        try:
            if after:
                self._guest.kill_program(after)
            self._guest.run_program(self._run_id, cwd, shell)
            is_clean = self._follow()
        except GuestGone as gone:
            self._bury(gone.death)
            is_clean = False
        for problem in (*self._reader.problems, *self._reader.notices):
            self._recorder.problem(self._program, problem)
        return is_clean

    # -- while it runs ---------------------------------------------------------------------------

    def _follow(self) -> bool:
        """Read until the process's end frame, or until its case in flight is out of time."""
        self._since = self._clock()
        while True:
            if end := self._take(self._guest.poll(_POLL_S)):
                return self._end(end.status)
            if self._clock() - self._since > self._time_s():
                return self._run_over()

    def _time_s(self) -> float:
        return self._budgets.of(self._current) if self._current else self._budgets.patience_s

    def _take(self, items: Sequence[Item]) -> End | None:
        """Take what the guest said; returns the end of the process, when that is there."""
        for item in items:
            match item:
                case Line():
                    self._read_b = item.end_b
                    if self.has_begun:
                        self._take_line(item)
                case Damage():
                    self._recorder.problem(self._program, f"damage: {item.reason}")
                    if f" begin {self._run_id}".encode() in item.data:
                        self._begin()
                case Begin():
                    if item.id == self._run_id:
                        self._begin()
                case End():
                    if item.id == self._run_id:
                        return item
        return None

    def _begin(self) -> None:
        if not self.has_begun:
            self.has_begun = True
            self._read_b += 1  # what comes with the next byte comes after the frame
            self._fly()

    def _take_line(self, line: Line) -> None:
        reports = self._reader.feed(line)
        has_moved = self._reader.in_flight != self._path
        if has_moved and self._current is not None:
            self._took_s[self._current.case] = self._clock() - self._since
        self._keep(reports)
        if has_moved:
            self._fly()

    def _fly(self) -> None:
        """The reader's next case is in flight; its time begins now."""
        self._path, self._since = self._reader.in_flight, self._clock()
        self._current = None if self._path is None else self._chosen.get(self._case(self._path))
        if self._current is not None:
            budget_s = self._budgets.of(self._current)
            self._recorder.in_flight(self._current, budget_s, self._setting, self._read_b)
        else:
            self._phase(f"end of {self._program}")

    def _phase(self, name: str) -> None:
        self._recorder.phase(name, self._setting.guest, self._read_b)

    def _case(self, path: Sequence[str]) -> CaseId:
        return CaseId(self._suite, (self._program, *path))

    def _keep(self, reports: Sequence[CaseReport]) -> None:
        for report in reports:
            case = self._case(report.path)
            if not self._is_asked(case):
                self._recorder.problem(self._program, f"reported and never asked for: {case}")
                continue
            took_s = self._took_s.get(case)
            kept = self._recorder.report(case, report, took_s, self._setting)
            if kept and case in self._chosen:
                self.answered.add(case)

    def _is_asked(self, case: CaseId) -> bool:
        """Whether it is a case of this process, or a part of one."""
        lengths = range(1, len(case.path) + 1)
        return any(CaseId(case.suite, case.path[:length]) in self._chosen for length in lengths)

    # -- how it ends -----------------------------------------------------------------------------

    def _end(self, status: int) -> bool:
        """The process has ended by itself."""
        current = self._current
        self._keep(self._reader.finish(status))
        signal_name = _signal_name(status)
        how = f"was ended by {signal_name}" if signal_name else f"ended with status {status}"
        if self._reader.refused and not self.answered:
            return self._refused(self._reader.refused)
        if current is not None and current.case not in self.answered:
            outcome = Outcome.CRASH if signal_name else Outcome.LOST
            self._settle(current, outcome, f"{self._program} {how} and no result of it")
        self._answer_one(f"{self._program} {how} and no result of any case")
        return not signal_name and len(self.answered) == len(self._chosen)

    def _refused(self, why: str) -> bool:
        """It ran no case at all. In a used guest that may be the guest's fault."""
        if not self._is_fresh:
            self._recorder.problem(self._program, f"ran no case, tried in a fresh guest: {why}")
            return False
        for item in self._chosen.values():  # it would say the same once more
            self._settle(item, Outcome.LOST, why)
        return True

    def _run_over(self) -> bool:
        """The case in flight (or a process that will not end after its last one) is out of time."""
        case, had_begun = self._current, self.has_begun
        self._late = case
        # Stopped, it says nothing new; killed one by one, its processes would fail each other.
        self._guest.kill_program(self._run_id, "STOP")
        if end := self._drain():
            return self._end(end.status)
        self._keep(self._reader.finish(None))
        if not had_begun:
            self._recorder.problem(self._program, "was started and did not begin in time")
        elif case is None:
            self._recorder.problem(self._program, "did not end after its last case")
        elif case is self._current and case.case not in self.answered:
            self.victim = case
            self._settle(case, Outcome.TIMEOUT, self._late_text(case))
        if had_begun:
            self._answer_one("it was stopped for its time")
        return False

    def _drain(self) -> End | None:
        """Read what a stopped process had said, or all that a dead guest had said."""
        deadline = self._clock() + _DRAIN_S
        while items := self._guest.poll(_POLL_S):
            if end := self._take(items):
                return end
            if self._clock() > deadline:
                self._recorder.problem(self._program, "goes on talking, and was stopped")
                break
        return None

    def _bury(self, death: Death) -> None:
        """The guest died: keep what it had said, settle the case in flight."""
        self.death = death
        end = self._read_rest()
        if end is not None:
            self._end(end.status)
            self._tell(death, self._place_text())
            return
        # Who was in flight is the reader's to say before it ends: a result that it holds back
        # was said, and the guest died in the next case.
        case = self._current
        self._keep(self._reader.finish(None))
        if case is None:
            self._tell(death, self._place_text())
        else:
            self._tell(death, str(case.case))
            self._blame(case, death)
        if self.has_begun:
            self._answer_one(death.what)

    def _read_rest(self) -> End | None:
        """Take what a dead guest had said; returns the end of the process, when it said that."""
        deadline = self._clock() + _DRAIN_S
        with suppress(GuestGone):
            while self._clock() < deadline:
                items = self._guest.poll(_POLL_S)
                if end := self._take(items):
                    return end
                if items:
                    deadline = self._clock() + _DRAIN_S
        return None

    def _tell(self, death: Death, during: str) -> None:
        if death.ending is not Ending.KILLED:
            self._recorder.incident(
                Incident(
                    ending=death.ending, during=during, what=death.what, evidence=death.evidence
                )
            )

    def _place_text(self) -> str:
        """Where a guest died that died in no case."""
        latest = self._recorder.latest
        return f"{self._program}, after {latest}" if latest else self._program

    def _blame(self, case: PlannedCase, death: Death) -> None:
        if death.ending is Ending.PANICKED:
            self._recorder.died_of_last_splat(self._setting.guest, self._read_b)
        if death.ending is not Ending.KILLED:
            self.victim = case
        if case.case not in self.answered:
            what = death.what
            if case is self._late and death.ending is Ending.HUNG:
                what = f"{self._late_text(case)}; {what}"
            self._settle(case, _OUTCOME_OF_DEATH[death.ending], what)

    def _late_text(self, case: PlannedCase) -> str:
        return f"no result within its budget of {self._budgets.of(case):.0f} s"

    def _answer_one(self, what: str) -> None:
        """Nothing may be tried for ever: a process that began costs at least one case."""
        if not self.answered:
            self._settle(next(iter(self._chosen.values())), Outcome.LOST, what)

    def _settle(self, case: PlannedCase, outcome: Outcome, what: str) -> None:
        took_s = self._clock() - self._since if case is self._current else None
        self._recorder.settle(case.case, outcome, what, took_s, self._setting)
        self.answered.add(case.case)


def _signal_name(status: int) -> str:
    """The signal that a shell's status tells of; "" for a plain status."""
    try:
        return signal.Signals(status - _SIGNALLED).name
    except ValueError:
        return ""
