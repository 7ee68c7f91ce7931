"""Keeps what a run says, as it says it: one outcome a planned case, written down at once."""

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.model.case import Attempt, CaseId, CaseRecord, LogSpan, Outcome
from harness.model.events import CaseFinished, CaseStarted, Event, GuestDied
from harness.model.plan import Plan, PlannedCase
from harness.model.record import Incident, Splat
from harness.model.text import inert_line
from harness.run.complaints import Complaints
from harness.suites.base import CaseReport
from harness.triage.signature import first_telling_line, signature

_DETAIL_LIMIT = 300
_PROBLEM_LIMIT = 1000  # a guest can cause them for ever
_NEVER_REACHED = "the run ended before its turn"
_NEVER_ENDED = "the run ended in its middle"


class EventSink(Protocol):
    """Where facts go as they come; each call is on disk when it returns."""

    def append(self, kind: str, **facts: object) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the cases of one process have in common."""

    guest: str
    """The folder of the guest's logs, below the cell's folder."""
    fresh_vm: bool = False
    """One case, alone in a guest booted for it."""
    is_retry: bool = False
    """Its cases have an attempt each; what is reported now is one more."""

    @property
    def log(self) -> str:
        """The output log that offsets are of, below the cell's folder."""
        return f"{self.guest}/output.log"


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
        self._attempts: dict[CaseId, list[Attempt]] = {}
        self._retried: set[CaseId] = set()
        self._planned = {item.case for batch in plan.batches for item in batch.cases}
        self.current = "boot"
        """The case in flight as text, or the phase."""
        self._complaints = Complaints()
        self.incidents: list[Incident] = []
        self.problems: list[str] = []
        self.latest = ""
        """The case that has its outcome last, as text."""

    # -- what happens ----------------------------------------------------------------------------

    def in_flight(
        self, case: PlannedCase, budget_s: float, setting: Setting, output_b: int
    ) -> None:
        """The case is in flight from this place of the output log on."""
        self.current = str(case.case)
        self._complaints.enter(setting.guest, output_b, self.current, int(setting.is_retry))
        self._note("case_started", case=self.current, log=setting.log)
        self._on_event(CaseStarted(arch=self._plan.arch, case=case.case, budget_s=budget_s))

    def phase(self, name: str, guest: str = "", output_b: int = 0) -> None:
        """No case is in flight from this place of the guest's output log on."""
        self.current = name
        if guest:
            self._complaints.enter(guest, output_b, name)

    def report(
        self, case: CaseId, report: CaseReport, duration_s: float | None, setting: Setting
    ) -> bool:
        """Keep what a program said of a case.

        Returns False, and keeps nothing but the complaint, for a case that has its outcome already
        and for one that the record could not tell from others.
        """
        if self._has_outcome(case, setting):
            self.problem(case.path[0], f"reported twice: {case}")
            return False
        if not _is_readable_back(case):
            self.problem(case.path[0], f"reported by a name that is none: {case}")
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
            log=_span(report, setting.log),
            fresh_vm=setting.fresh_vm,
        )
        self._keep(case, attempt, setting)
        return True

    def settle(
        self,
        case: CaseId,
        outcome: Outcome,
        what: str,
        duration_s: float | None,
        setting: Setting,
    ) -> None:
        """Give a case the outcome that its program could not report.

        What the kernel complained of last in its time says more about it than `what`.
        """
        splats = self._complaints.during(str(case), int(setting.is_retry))
        if splats and splats[-1].kind != "panic":
            what = f"{splats[-1].title} ({what})"
        detail = inert_line(what, _DETAIL_LIMIT)
        attempt = Attempt(
            outcome=outcome,
            detail=detail,
            signature=splats[-1].signature if splats else signature((detail,)),
            duration_s=duration_s,
            fresh_vm=setting.fresh_vm,
        )
        self._keep(case, attempt, setting)

    def splat(self, splat: Splat, guest: str, output_b: int) -> None:
        """A complaint of the kernel, from the console's thread.

        `output_b` is how much of the guest's output had come with its first line.
        """
        self._complaints.add(splat, guest, output_b)
        place = {"guest": guest, "output_b": output_b}
        self._note("splat", title=splat.title, signature=splat.signature, **place)

    def died_of_last_splat(self, guest: str, output_b: int) -> None:
        """The guest's last complaint is what it died of, in the case in flight at this place."""
        self._complaints.blame_last(guest, output_b)

    def incident(self, incident: Incident) -> None:
        evidence = tuple(inert_line(line, _DETAIL_LIMIT) for line in incident.evidence)
        incident = dataclasses.replace(
            incident, what=inert_line(incident.what, _DETAIL_LIMIT), evidence=evidence
        )
        self.incidents.append(incident)
        self._note(
            "incident", ending=str(incident.ending), during=incident.during, what=incident.what
        )
        self._on_event(GuestDied(arch=self._plan.arch, during=incident.during, what=incident.what))

    def problem(self, where: str, what: str) -> None:
        """Something in the stream that is not as it should be; never a result."""
        if len(self.problems) > _PROBLEM_LIMIT:
            return
        text = inert_line(f"{where}: {what}", _DETAIL_LIMIT)
        if len(self.problems) == _PROBLEM_LIMIT:
            text = "more problems than are worth telling"
        self.problems.append(text)
        self._note("problem", what=text)

    def failure(self, lines: Sequence[str]) -> None:
        """The harness itself failed; for who mends it."""
        self._note("harness_failure", lines=list(lines))

    # -- what came of it -------------------------------------------------------------------------

    @property
    def splats(self) -> tuple[Splat, ...]:
        return self._complaints.all()

    @property
    def is_complete(self) -> bool:
        """Whether each planned case had its turn."""
        return self._planned <= self._attempts.keys()

    def cases(self) -> tuple[CaseRecord, ...]:
        """Each promised case exactly once, sorted, with its outcome; subtests where they showed.

        What ran counts more than what was decided or built.
        """
        attempts: dict[CaseId, list[Attempt]] = {
            case: [
                Attempt(
                    outcome=Outcome.LOST,
                    detail=_NEVER_ENDED if str(case) == self.current else _NEVER_REACHED,
                )
            ]
            for case in self._planned
        }
        for case, error in self._plan.not_built:
            detail = inert_line(error, _DETAIL_LIMIT)
            signed = signature((error,))
            attempts[case] = [Attempt(outcome=Outcome.NOT_BUILT, detail=detail, signature=signed)]
        for denial in self._plan.denied:
            attempts[denial.case] = [Attempt(outcome=Outcome.DENIED, detail=denial.reason)]
        attempts |= self._attempts
        splats = self._complaints.signatures()
        return tuple(
            CaseRecord(
                case=case,
                attempts=tuple(
                    dataclasses.replace(attempt, splats=splats.get((str(case), number), ()))
                    for number, attempt in enumerate(found)
                ),
            )
            for case, found in sorted(attempts.items())
        )

    # -- inside ----------------------------------------------------------------------------------

    def _has_outcome(self, case: CaseId, setting: Setting) -> bool:
        return case in (self._retried if setting.is_retry else self._attempts)

    def _keep(self, case: CaseId, attempt: Attempt, setting: Setting) -> None:
        self._attempts.setdefault(case, []).append(attempt)
        number = len(self._attempts[case])
        if setting.is_retry:
            self._retried.add(case)
        self.latest = str(case)
        self._note(
            "case",
            case=str(case),
            outcome=str(attempt.outcome),
            raw=attempt.raw,
            detail=attempt.detail,
            duration_s=attempt.duration_s,
            attempt=number,
        )
        if number > 1:
            return  # what it was first stays what it was: a retry confirms, it never clears
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


def _is_readable_back(case: CaseId) -> bool:
    try:
        return CaseId.parse(str(case)) == case
    except ValueError:
        return False


def _span(report: CaseReport, log: str) -> LogSpan | None:
    # A pass points to nothing: its log says nothing, and thousands of spans would hide the diff.
    if report.outcome is Outcome.PASS or report.end_b <= report.begin_b:
        return None
    return LogSpan(log=log, begin_b=report.begin_b, end_b=report.end_b)


def outcome_counts(cases: Sequence[CaseRecord]) -> dict[Outcome, int]:
    """How many cases ended how, by their first attempt: a retry clears nothing."""
    counts = dict.fromkeys(Outcome, 0)
    for record in cases:
        counts[record.attempts[0].outcome] += 1
    return counts
