"""Runs a plan: batches into guests, lines into outcomes; a guest's death costs the case in flight.

The cases of a batch share one process, as upstream runs them; the process is started again with
what remains whenever a case ended it. A guest that lost a process in the middle of a case is not
trusted with the next one: the rest goes on in a fresh guest.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.guest.wire import Begin, Damage, End, Line
from harness.model.case import CaseId, Outcome
from harness.model.errors import RigError
from harness.model.plan import Batch, Plan, PlannedCase
from harness.model.record import Ending, Incident
from harness.run.budget import Budgets, speed_of
from harness.run.recorder import Recorder
from harness.run.session import Death, GuestGone, Session
from harness.suites.base import CaseReport, Reader

_POLL_S = 0.2
_SIGNALLED = 128  # a shell's status of a program that a signal ended is 128 + n


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteHooks:
    """What the engine must know of a suite: its commands and its dialects."""

    command: Callable[[Batch, Sequence[PlannedCase]], tuple[str, tuple[PlannedCase, ...]]]
    """Shell text for the guest and the cases that it will run, in order."""
    reader: Callable[[Batch, Sequence[PlannedCase]], Reader]
    cwd: str


@dataclass(slots=True)
class _Execution:
    """One process in a guest: the cases that it was asked for, and those it has answered."""

    run_id: str
    batch: Batch
    chosen: tuple[PlannedCase, ...]
    reader: Reader
    since: float
    answered: set[CaseId] = field(default_factory=set)

    @property
    def in_flight(self) -> PlannedCase | None:
        return next((item for item in self.chosen if item.case not in self.answered), None)


class Engine:
    """Drives one cell. `boot(batch)` gives a started session or raises a HarnessError."""

    def __init__(
        self,
        plan: Plan,
        hooks: SuiteHooks,
        boot: Callable[[Batch], Session],
        recorder: Recorder,
        *,
        budget_factor: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._hooks = hooks
        self._boot = boot
        self._recorder = recorder
        self._budget_factor = budget_factor
        self._budgets = Budgets(speed=1.0, factor=budget_factor)
        self._clock = clock
        self._guest: Session | None = None
        self._guest_key: tuple[bool, int] = (False, 0)
        self._runs = 0

    def run(self) -> None:
        """Give each planned case its outcome.

        Raises the boot's error when a guest cannot be had: the cases that had no turn are then the
        recorder's to tell. Whatever is raised, no guest is left running.
        """
        try:
            for batch in self._plan.batches:
                self._run_batch(batch)
        finally:
            self._release()

    # -- guests ----------------------------------------------------------------------------------

    def _guest_for(self, batch: Batch) -> Session:
        key = (batch.own_vm, batch.memory_mib)
        if self._guest is not None and (batch.own_vm or key != self._guest_key):
            self._release()
        if self._guest is None:
            self._guest, self._guest_key = self._boot(batch), key
            speed = speed_of(self._guest.calibration_ms)
            self._budgets = Budgets(speed=speed, factor=self._budget_factor)
        return self._guest

    def _release(self, *, dirty: bool = False) -> None:
        guest, self._guest = self._guest, None
        if guest is None:
            return
        if dirty:
            guest.abandon()
        else:
            guest.power_off()

    # -- batches ---------------------------------------------------------------------------------

    def _run_batch(self, batch: Batch) -> None:
        remaining = list(batch.cases)
        while remaining:
            execution = self._execute(self._guest_for(batch), batch, remaining)
            left = [item for item in remaining if item.case not in execution.answered]
            if len(left) == len(remaining):
                raise RigError(f"{batch.program}: no case of {len(left)} made progress")
            remaining = left
        if batch.own_vm:
            self._release()

    def _execute(self, guest: Session, batch: Batch, remaining: list[PlannedCase]) -> _Execution:
        text, chosen = self._hooks.command(batch, remaining)
        self._runs += 1
        execution = _Execution(
            run_id=f"r{self._runs}",
            batch=batch,
            chosen=chosen,
            reader=self._hooks.reader(batch, chosen),
            since=self._clock(),
        )
        self._announce(execution)
        try:
            guest.run_program(execution.run_id, self._hooks.cwd, text)
            self._follow(guest, execution)
        except GuestGone as gone:
            self._bury(execution, gone.death)
        for problem in execution.reader.problems:
            self._recorder.problem(batch.program, problem)
        return execution

    def _follow(self, guest: Session, execution: _Execution) -> None:
        """Read until the program's end frame, or until its case in flight is out of time."""
        while True:
            for item in guest.poll(_POLL_S):
                if isinstance(item, Line):
                    self._take(execution, execution.reader.feed(item))
                elif isinstance(item, Damage):
                    self._recorder.problem(execution.batch.program, f"damage: {item.reason}")
                elif isinstance(item, Begin):
                    execution.since = self._clock()
                elif isinstance(item, End) and item.run_id == execution.run_id:
                    self._end(execution, item.status)
                    return
            case = execution.in_flight
            if case is not None and self._clock() - execution.since > self._budgets.of(case):
                self._overrun(guest, execution, case)
                return

    def _take(self, execution: _Execution, reports: Sequence[CaseReport]) -> None:
        for report in reports:
            case = CaseId(self._plan.suite, (execution.batch.program, *report.path))
            planned = any(item.case == case for item in execution.chosen)
            if planned and case in execution.answered:
                self._recorder.problem(execution.batch.program, f"reported twice: {case}")
                continue
            now = self._clock()
            duration_s = now - execution.since if planned else None
            if not self._recorder.report(case, report, duration_s, planned=planned):
                continue
            if planned:
                execution.answered.add(case)
                execution.since = now
                self._announce(execution)

    def _announce(self, execution: _Execution) -> None:
        case = execution.in_flight
        if case is not None:
            self._recorder.in_flight(case, self._budgets.of(case))

    # -- endings ---------------------------------------------------------------------------------

    def _end(self, execution: _Execution, status: int) -> None:
        self._take(execution, execution.reader.finish(status))
        case = execution.in_flight
        if case is None:
            return
        if status > _SIGNALLED:
            what = f"{execution.batch.program} was ended by signal {status - _SIGNALLED}"
            self._settle(execution, case, Outcome.CRASH, what)
        else:
            what = f"{execution.batch.program} ended with status {status} and no result for it"
            self._settle(execution, case, Outcome.LOST, what)
        self._release(dirty=True)

    def _overrun(self, guest: Session, execution: _Execution, case: PlannedCase) -> None:
        budget_s = self._budgets.of(case)
        what = f"no result within its budget of {budget_s:.0f} s"
        try:
            guest.kill_program(execution.run_id)
            self._drain(guest, execution)
        except GuestGone as gone:
            if gone.death.ending is not Ending.HUNG:
                self._bury(execution, gone.death)
                return
            what += "; the guest does not answer"
            self._recorder.incident(
                Incident(
                    ending=Ending.HUNG,
                    during=str(case.case),
                    what=gone.death.what,
                    evidence=gone.death.evidence,
                )
            )
        self._take(execution, execution.reader.finish(None))
        if case.case not in execution.answered:
            self._settle(execution, case, Outcome.TIMEOUT, what)
        self._release(dirty=True)

    def _drain(self, guest: Session, execution: _Execution) -> None:
        deadline = self._clock() + self._budgets.patience_s
        while self._clock() < deadline:
            for item in guest.poll(_POLL_S):
                if isinstance(item, Line):
                    self._take(execution, execution.reader.feed(item))
                elif isinstance(item, End) and item.run_id == execution.run_id:
                    return

    def _bury(self, execution: _Execution, death: Death) -> None:
        """The guest died: settle the case in flight, keep what was said before."""
        self._take(execution, execution.reader.finish(None))
        case = execution.in_flight
        during = str(case.case) if case else execution.batch.program
        self._recorder.incident(
            Incident(ending=death.ending, during=during, what=death.what, evidence=death.evidence)
        )
        if case is not None:
            outcome = _OUTCOME_OF_DEATH[death.ending]
            self._settle(execution, case, outcome, death.what)
        self._release(dirty=True)

    def _settle(
        self, execution: _Execution, case: PlannedCase, outcome: Outcome, what: str
    ) -> None:
        duration_s = self._clock() - execution.since
        self._recorder.settle(case.case, outcome, what, duration_s)
        execution.answered.add(case.case)


_OUTCOME_OF_DEATH: dict[Ending, Outcome] = {
    Ending.PANICKED: Outcome.CRASH,
    Ending.REBOOTED: Outcome.CRASH,
    Ending.POWERED_OFF: Outcome.CRASH,
    Ending.HUNG: Outcome.TIMEOUT,
    # The rig's own deaths say nothing about the case: it is lost, and the gate cannot tell.
    Ending.QEMU_DIED: Outcome.LOST,
    Ending.KILLED: Outcome.LOST,
}
