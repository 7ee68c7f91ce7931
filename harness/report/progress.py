"""What is known of a run while it runs, folded from its events: pure, told the time with each."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.model.arch import Arch
from harness.model.case import CaseId, Outcome
from harness.model.events import (
    CaseFinished,
    CaseStarted,
    CellEnded,
    CellPlanned,
    Event,
    GuestDied,
    Noted,
    PhaseAdvanced,
    PhaseEnded,
    PhaseStarted,
)
from harness.model.text import inert_line
from harness.report.words import BAD_OUTCOMES, OUTCOME_WORDS, counted, duration_text

HOST = "host"
"""Name of the lane of work that is not for one architecture."""
_ENOUGH_CASES = 5  # before that a rate says nothing
_SLOW_PHASE_S = 1.0
_DETAIL_CHARACTERS = 160


@dataclass(slots=True)
class Lane:
    """One architecture's work: the phase or the cell that is at hand."""

    name: str
    phase: str = ""
    detail: str = ""
    since_s: float = 0.0
    phase_done: int = 0
    phase_total: int = 0
    suite: str = ""
    total: int = 0
    """Cases planned for the cell at hand; 0 before and after a cell."""
    cell_since_s: float = 0.0
    case: CaseId | None = None
    case_since_s: float = 0.0
    case_budget_s: float = 0.0
    outcomes: dict[CaseId, Outcome] = field(default_factory=dict)
    """Planned cases that have one; subtests are not planned and not here."""
    mean_case_s: float | None = None
    """Mean time of a case in an earlier run; None when there was none."""

    @property
    def done(self) -> int:
        return len(self.outcomes)

    def counts(self) -> dict[Outcome, int]:
        """Outcomes that have come up, in the order of the reports."""
        found = list(self.outcomes.values())
        return {word: found.count(word) for word in OUTCOME_WORDS if word in found}

    def left_s(self, now_s: float) -> float | None:
        """How long the cell will still take, from the pace so far; None while nobody can tell."""
        left = self.total - self.done
        if not self.total or left <= 0:
            return None
        if self.done >= _ENOUGH_CASES:
            return (now_s - self.cell_since_s) / self.done * left
        return self.mean_case_s * left if self.mean_case_s is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something worth a line of its own."""

    lane: str
    text: str
    is_bad: bool = False


class Progress:
    """Folds events; not safe to use from several threads at once."""

    def __init__(self, mean_case_s: Mapping[Arch, float] | None = None) -> None:
        self.lanes: dict[str, Lane] = {}
        self._mean_case_s = mean_case_s or {}

    def apply(self, event: Event, now_s: float) -> Notice | None:
        """Take one event in; returns what should be said at once, if anything."""
        lane = self._lane(event.arch)
        match event:
            case PhaseStarted():
                return self._phase_started(lane, event, now_s)
            case PhaseAdvanced():
                lane.phase, lane.detail = event.phase, inert_line(event.current)
                lane.phase_done, lane.phase_total = event.done, event.total
            case PhaseEnded():
                return self._phase_ended(lane, event)
            case Noted():
                return Notice(lane=lane.name, text=_short(f"note: {event.text}"))
            case CellPlanned():
                return self._cell_planned(lane, event, now_s)
            case CaseStarted():
                lane.case, lane.case_since_s = event.case, now_s
                lane.case_budget_s = event.budget_s
            case CaseFinished():
                return self._case_finished(lane, event)
            case GuestDied():
                what = _short(f"guest died during {event.during}: {event.what}")
                return Notice(lane=lane.name, text=what, is_bad=True)
            case CellEnded():
                return self._cell_ended(lane, event)
        return None

    def _lane(self, arch: Arch | None) -> Lane:
        name = str(arch) if arch else HOST
        if name not in self.lanes:
            mean = self._mean_case_s.get(arch) if arch else None
            self.lanes[name] = Lane(name=name, mean_case_s=mean)
        return self.lanes[name]

    def _phase_started(self, lane: Lane, event: PhaseStarted, now_s: float) -> Notice:
        lane.phase, lane.detail, lane.since_s = event.phase, inert_line(event.detail), now_s
        lane.phase_done, lane.phase_total = 0, event.total
        return Notice(lane=lane.name, text=_short(f"{event.phase} {event.detail}"))

    def _phase_ended(self, lane: Lane, event: PhaseEnded) -> Notice | None:
        lane.phase, lane.detail, lane.phase_done, lane.phase_total = "", "", 0, 0
        if event.duration_s < _SLOW_PHASE_S:
            return None
        detail = f": {event.detail}" if event.detail else ""
        text = f"{event.phase} took {duration_text(event.duration_s)}{detail}"
        return Notice(lane=lane.name, text=_short(text))

    def _cell_planned(self, lane: Lane, event: CellPlanned, now_s: float) -> Notice:
        lane.suite, lane.total, lane.cell_since_s = event.suite, event.total, now_s
        lane.outcomes, lane.case = {}, None
        parts = [f"{event.suite}: {counted(event.total, 'case')} planned"]
        parts += [f"{event.denied} left out by decision"] if event.denied else []
        parts += [f"{event.not_built} not built"] if event.not_built else []
        return Notice(lane=lane.name, text=", ".join(parts))

    def _case_finished(self, lane: Lane, event: CaseFinished) -> Notice | None:
        if not event.case.is_subtest:
            lane.outcomes[event.case] = event.outcome
        if event.case == lane.case:
            lane.case = None
        if event.outcome not in BAD_OUTCOMES:
            return None
        detail = f": {event.detail}" if event.detail else ""
        text = f"{OUTCOME_WORDS[event.outcome].upper()} {event.case}{detail}"
        return Notice(lane=lane.name, text=_short(text), is_bad=True)

    def _cell_ended(self, lane: Lane, event: CellEnded) -> Notice:
        counts = counts_text(lane.counts())
        lane.total, lane.case, lane.phase = 0, None, ""
        took = duration_text(event.duration_s)
        return Notice(lane=lane.name, text=f"{event.suite}: ended after {took}: {counts}")


def counts_text(counts: Mapping[Outcome, int]) -> str:
    """`pass 401, fail 3`, or `no outcome yet`."""
    return ", ".join(f"{OUTCOME_WORDS[key]} {n}" for key, n in counts.items()) or "no outcome yet"


def status_text(lane: Lane, now_s: float) -> str:
    """One line on what a lane is at; "" when it is at nothing."""
    if lane.total:
        parts = [f"{lane.done} of {lane.total}", counts_text(lane.counts())]
        left_s = lane.left_s(now_s)
        parts += [f"about {duration_text(left_s)} left"] if left_s is not None else []
        at = at_hand_text(lane, now_s)
        return "; ".join([", ".join(parts), *([f"now {at}"] if at else [])])
    return at_hand_text(lane, now_s)


def at_hand_text(lane: Lane, now_s: float) -> str:
    """The case in flight with its time, or the phase with its; "" when there is neither."""
    if lane.case is not None:
        spent = duration_text(now_s - lane.case_since_s)
        budget = f" of {duration_text(lane.case_budget_s)}" if lane.case_budget_s else ""
        return f"{inert_line(str(lane.case))} {spent}{budget}"
    if not lane.phase:
        return ""
    figures = f" {lane.phase_done}/{lane.phase_total}" if lane.phase_total else ""
    detail = f" {lane.detail}" if lane.detail else ""
    return f"{lane.phase}{figures}{detail} {duration_text(now_s - lane.since_s)}"


def _short(text: str) -> str:
    return inert_line(text, _DETAIL_CHARACTERS)
