"""What a run says while it runs: for the live view, the event log, and nothing else."""

from dataclasses import dataclass

from harness.model.arch import Arch
from harness.model.case import CaseId, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStarted:
    """A step of the work began: `fetch`, `unpack`, `build`, `image`, `boot`, `run`, `report`."""

    arch: Arch | None
    phase: str
    detail: str = ""
    total: int = 0
    """Things to do in it; 0 when that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseAdvanced:
    arch: Arch | None
    phase: str
    done: int
    total: int
    current: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseEnded:
    arch: Arch | None
    phase: str
    duration_s: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """Something that a person should know and that stops nothing."""

    arch: Arch | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPlanned:
    arch: Arch
    suite: str
    total: int
    denied: int
    not_built: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseStarted:
    """A planned case is now in flight."""

    arch: Arch
    case: CaseId
    budget_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFinished:
    """A case (planned or subtest) has its outcome."""

    arch: Arch
    case: CaseId
    outcome: Outcome
    detail: str = ""
    duration_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDied:
    arch: Arch
    during: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CellEnded:
    arch: Arch
    suite: str
    duration_s: float


Event = (
    PhaseStarted
    | PhaseAdvanced
    | PhaseEnded
    | Noted
    | CellPlanned
    | CaseStarted
    | CaseFinished
    | GuestDied
    | CellEnded
)
