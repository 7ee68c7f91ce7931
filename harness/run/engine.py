"""Runs a plan: batches into guests, lines into outcomes; a guest's death costs the case in flight.

The cases of a batch share one process, as upstream runs them; the process is started again with
what remains whenever a case ended it. A guest that lost a process in the middle of a case is not
trusted with the next one: the rest goes on in a fresh guest.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.guest.wire import Begin, Damage, End, Line
from harness.model.case import CaseId, Outcome
from harness.model.errors import RigError
from harness.model.plan import Batch, Plan, PlannedCase
from harness.model.record import Ending, Incident
from harness.run.budget import Budgets, speed_of
from harness.run.recorder import Recorder
from harness.run.session import Death, GuestGone, Session
from harness.suites.base import CaseReport, Reader, SuiteHooks

_POLL_S = 0.2
_SIGNALLED = 128  # a shell's status of a program that a signal ended is 128 + n


@dataclass(slots=True)
class _Execution:
    """One process in a guest: the cases that it was asked for, and those it has answered."""

    run_id: str
    program: str
    chosen: Mapping[CaseId, PlannedCase]
    """In the order in which the process runs them."""
    reader: Reader
    log: str
    """The output log that offsets are of, below the cell's folder."""
    since: float
    """When the case in flight began."""
    current: PlannedCase | None
    answered: set[CaseId] = field(default_factory=set)
    took_s: dict[CaseId, float] = field(default_factory=dict)

    @property
    def unanswered(self) -> PlannedCase | None:
        """The first case without an outcome; results that a reader holds back do not count yet."""
        return next((item for key, item in self.chosen.items() if key not in self.answered), None)


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
        shell, cases = self._hooks.command(batch, remaining)
        self._runs += 1
        execution = _Execution(
            run_id=f"r{self._runs}",
            program=batch.program,
            chosen={item.case: item for item in cases},
            reader=self._hooks.reader(batch, cases),
            log=f"{guest.vm.folder.name}/output.log",
            since=self._clock(),
            current=None,
        )
        self._advance(execution)
        try:
            guest.run_program(execution.run_id, self._hooks.cwd, shell)
            self._follow(guest, execution)
        except GuestGone as gone:
            self._bury(execution, gone.death)
        for problem in (*execution.reader.problems, *execution.reader.notices):
            self._recorder.problem(batch.program, problem)
        return execution

    def _follow(self, guest: Session, execution: _Execution) -> None:
        """Read until the program's end frame, or until its case in flight is out of time."""
        while True:
            for item in guest.poll(_POLL_S):
                if isinstance(item, Line):
                    self._take(execution, execution.reader.feed(item))
                    self._advance(execution)
                elif isinstance(item, Damage):
                    self._recorder.problem(execution.program, f"damage: {item.reason}")
                elif isinstance(item, Begin):
                    execution.since = self._clock()
                elif item.id == execution.run_id:
                    self._end(execution, item.status)
                    return
            case = execution.current
            budget_s = self._budgets.of(case) if case else self._budgets.patience_s
            if self._clock() - execution.since > budget_s:
                self._overrun(guest, execution, budget_s)
                return

    def _take(self, execution: _Execution, reports: Sequence[CaseReport]) -> None:
        for report in reports:
            case = CaseId(self._plan.suite, (execution.program, *report.path))
            planned = case in execution.chosen
            took_s = execution.took_s.get(case)
            kept = self._recorder.report(case, report, took_s, planned=planned, log=execution.log)
            if kept and planned:
                execution.answered.add(case)

    def _advance(self, execution: _Execution) -> None:
        """Follow the reader to the next case in flight; its time begins now."""
        path = execution.reader.in_flight
        case = None if path is None else CaseId(self._plan.suite, (execution.program, *path))
        current = execution.chosen.get(case) if case else None
        if current is execution.current:
            return
        now = self._clock()
        if execution.current is not None:
            execution.took_s[execution.current.case] = now - execution.since
        execution.current, execution.since = current, now
        if current is not None:
            self._recorder.in_flight(current, self._budgets.of(current))

    # -- endings ---------------------------------------------------------------------------------

    def _end(self, execution: _Execution, status: int) -> None:
        self._take(execution, execution.reader.finish(status))
        case = execution.unanswered
        if case is None:
            if status > _SIGNALLED:
                self._release(dirty=True)
            return
        if execution.reader.refused and not execution.answered:
            # One reason for all: the program would say the same in a fresh guest.
            for item in execution.chosen.values():
                self._settle(execution, item, Outcome.LOST, execution.reader.refused)
            return
        if status > _SIGNALLED:
            # The reader has judged the case that the signal hit; the rest goes on elsewhere.
            if not execution.answered:
                what = f"{execution.program} was ended by signal {status - _SIGNALLED}"
                self._settle(execution, case, Outcome.CRASH, what)
        else:
            what = f"{execution.program} ended with status {status} and no result for it"
            self._settle(execution, case, Outcome.LOST, what)
        self._release(dirty=True)

    def _overrun(self, guest: Session, execution: _Execution, budget_s: float) -> None:
        """The case in flight (or a program that will not end after its last one) is out of time."""
        case = execution.current
        what = f"no result within its budget of {budget_s:.0f} s"
        during = str(case.case) if case else execution.program
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
                    during=during,
                    what=gone.death.what,
                    evidence=gone.death.evidence,
                )
            )
        self._take(execution, execution.reader.finish(None))
        if case is not None and case.case not in execution.answered:
            self._settle(execution, case, Outcome.TIMEOUT, what)
        self._release(dirty=True)

    def _drain(self, guest: Session, execution: _Execution) -> None:
        deadline = self._clock() + self._budgets.patience_s
        while self._clock() < deadline:
            for item in guest.poll(_POLL_S):
                if isinstance(item, Line):
                    self._take(execution, execution.reader.feed(item))
                elif isinstance(item, End) and item.id == execution.run_id:
                    return
        raise GuestGone(Death(ending=Ending.HUNG, what="a killed program did not end"))

    def _bury(self, execution: _Execution, death: Death) -> None:
        """The guest died: settle the case in flight, keep what was said before."""
        # Who was in flight is the reader's to say before it ends: a result that it holds back
        # was printed, and the guest died in the next case.
        case = execution.current
        self._take(execution, execution.reader.finish(None))
        during = str(case.case) if case else execution.program
        self._recorder.incident(
            Incident(ending=death.ending, during=during, what=death.what, evidence=death.evidence)
        )
        if case is not None and case.case not in execution.answered:
            outcome = _OUTCOME_OF_DEATH[death.ending]
            self._settle(execution, case, outcome, death.what)
        self._release(dirty=True)

    def _settle(
        self, execution: _Execution, case: PlannedCase, outcome: Outcome, what: str
    ) -> None:
        self._recorder.settle(case.case, outcome, what, self._clock() - execution.since)
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
