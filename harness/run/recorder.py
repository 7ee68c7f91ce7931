"""Keeps what a run says, as it says it: one outcome a planned case, written down at once."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from harness.model.case import Attempt, CaseId, CaseRecord, LogSpan, Outcome
from harness.model.events import CaseFinished, CaseStarted, Event, GuestDied
from harness.model.plan import Plan, PlannedCase
from harness.model.record import Incident, Splat
from harness.model.text import inert_line
from harness.suites.base import CaseReport
from harness.triage.signature import first_telling_line, signature

_DETAIL_LIMIT = 300
_NEVER_REACHED = "the run ended before its turn"


class EventSink(Protocol):
    """Where facts go as they come; each call is on disk when it returns."""

    def append(self, kind: str, **facts: object) -> None: ...


class Recorder:
    """One cell's results as they come in; the engine's and the console's thread may use it."""

    def __init__(
        self,
        plan: Plan,
        log: EventSink,
        on_event: Callable[[Event], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._log = log
        self._on_event = on_event
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()
        self._attempts: dict[CaseId, Attempt] = {}
        self._planned = {item.case for batch in plan.batches for item in batch.cases}
        self._programs = {CaseId(case.suite, case.path[:1]) for case in self._planned}
        self._current = "boot"
        self._splats: list[Splat] = []
        self._splats_of: dict[str, list[str]] = {}
        self.incidents: list[Incident] = []
        self.problems: list[str] = []

    # -- what happens ----------------------------------------------------------------------------

    @property
    def current(self) -> str:
        """The case in flight as text, or the phase."""
        return self._current

    def in_flight(self, case: PlannedCase, budget_s: float) -> None:
        self._current = str(case.case)
        self._note("case_started", case=self._current)
        self._on_event(CaseStarted(arch=self._plan.arch, case=case.case, budget_s=budget_s))

    def phase(self, name: str) -> None:
        """Nothing is in flight: what the kernel says now belongs to this phase."""
        self._current = name

    def report(
        self,
        case: CaseId,
        report: CaseReport,
        duration_s: float | None,
        *,
        planned: bool,
        log: str,
    ) -> bool:
        """Keep what a program said of a case.

        Returns False, and keeps nothing but the complaint, for a case that has its outcome already
        and for one that nobody planned and that is no subtest of a planned one. `log` names the
        output log that the report's offsets are of.
        """
        if case in self._attempts:
            self.problem(case.path[0], f"reported twice: {case}")
            return False
        if not planned and not self._belongs(case):
            self.problem(case.path[0], f"reported and never planned: {case}")
            return False
        detail, signed = "", ""
        if report.outcome is not Outcome.PASS:
            telling = report.detail or first_telling_line(report.log_lines)
            detail = inert_line(telling, _DETAIL_LIMIT)
            if report.outcome is not Outcome.SKIP:
                signed = signature(report.log_lines or ((telling,) if telling else ()))
        attempt = Attempt(
            outcome=report.outcome,
            raw=inert_line(report.raw, _DETAIL_LIMIT),
            detail=detail,
            signature=signed,
            duration_s=duration_s,
            log=_span(report, log),
            splats=tuple(self._splats_of.get(str(case), ())),
        )
        self._keep(case, attempt)
        return True

    def settle(self, case: CaseId, outcome: Outcome, what: str, duration_s: float | None) -> None:
        """Give a case the outcome that its program could not report."""
        detail = inert_line(what, _DETAIL_LIMIT)
        splats = tuple(self._splats_of.get(str(case), ()))
        self._keep(
            case,
            Attempt(
                outcome=outcome,
                detail=detail,
                signature=splats[0] if splats else signature((detail,)),
                duration_s=duration_s,
                splats=splats,
            ),
        )

    def splat(self, splat: Splat) -> None:
        """A complaint of the kernel, from the console's thread."""
        with self._lock:
            self._splats.append(splat)
            self._splats_of.setdefault(splat.during, []).append(splat.signature)
        self._note("splat", title=splat.title, during=splat.during, signature=splat.signature)

    def incident(self, incident: Incident) -> None:
        self.incidents.append(incident)
        self._note(
            "incident", ending=str(incident.ending), during=incident.during, what=incident.what
        )
        self._on_event(GuestDied(arch=self._plan.arch, during=incident.during, what=incident.what))

    def problem(self, where: str, what: str) -> None:
        """Something in the stream that is not as it should be; never a result."""
        text = inert_line(f"{where}: {what}", _DETAIL_LIMIT)
        self.problems.append(text)
        self._note("problem", what=text)

    # -- what came of it -------------------------------------------------------------------------

    @property
    def splats(self) -> tuple[Splat, ...]:
        with self._lock:
            return tuple(self._splats)

    @property
    def is_complete(self) -> bool:
        """Whether each planned case had its turn."""
        return self._planned <= self._attempts.keys()

    def cases(self) -> tuple[CaseRecord, ...]:
        """Each promised case exactly once, sorted, with its outcome; subtests where they showed."""
        lost = Attempt(outcome=Outcome.LOST, detail=_NEVER_REACHED)
        attempts = dict.fromkeys(self._planned, lost) | self._attempts
        for denial in self._plan.denied:
            attempts[denial.case] = Attempt(outcome=Outcome.DENIED, detail=denial.reason)
        for case, error in self._plan.not_built:
            attempts[case] = Attempt(
                outcome=Outcome.NOT_BUILT,
                detail=inert_line(error, _DETAIL_LIMIT),
                signature=signature((error,)),
            )
        return tuple(
            CaseRecord(case=case, attempts=(attempt,)) for case, attempt in sorted(attempts.items())
        )

    # -- inside ----------------------------------------------------------------------------------

    def _belongs(self, case: CaseId) -> bool:
        # test_verifier prints an unprivileged half for some cases, test_progs subtests for others.
        return case.is_subtest or CaseId(case.suite, case.path[:1]) in self._programs

    def _keep(self, case: CaseId, attempt: Attempt) -> None:
        self._attempts[case] = attempt
        self._note(
            "case",
            case=str(case),
            outcome=str(attempt.outcome),
            raw=attempt.raw,
            detail=attempt.detail,
            duration_s=attempt.duration_s,
        )
        self._on_event(
            CaseFinished(
                arch=self._plan.arch,
                case=case,
                outcome=attempt.outcome,
                detail=attempt.detail,
                duration_s=attempt.duration_s,
            )
        )

    def _note(self, kind: str, **facts: object) -> None:
        with self._lock:
            self._log.append(kind, t_s=round(self._clock() - self._started, 3), **facts)


def _span(report: CaseReport, log: str) -> LogSpan | None:
    # A pass points to nothing: its log says nothing, and thousands of spans would hide the diff.
    if report.outcome is Outcome.PASS or report.end_b <= report.begin_b:
        return None
    return LogSpan(log=log, begin_b=report.begin_b, end_b=report.end_b)


def outcome_counts(cases: Sequence[CaseRecord]) -> dict[Outcome, int]:
    """How many cases ended how, by their last attempt."""
    counts = dict.fromkeys(Outcome, 0)
    for record in cases:
        counts[record.attempts[-1].outcome] += 1
    return counts
