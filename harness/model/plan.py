"""What a run promises before the guest starts."""

from dataclasses import dataclass

from harness.model.arch import Arch
from harness.model.case import CaseId


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCase:
    case: CaseId
    selector: str
    """How the program is told to run it: its number, or its name."""
    budget_s: float
    """Time it may take on the reference guest; the engine scales it by the guest's speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """A case that is left out, and who said so."""

    case: CaseId
    reason: str
    source: str
    """The file that says so, or the profile's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Cases of one program that share a process, in the order the program runs them."""

    program: str
    cases: tuple[PlannedCase, ...]
    own_vm: bool = False
    """It gets a guest of its own, booted for it."""
    memory_mib: int = 0
    """Guest memory it wants; 0 means the run's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One cell's promise: each case in it gets exactly one outcome."""

    arch: Arch
    suite: str
    profile: str
    batches: tuple[Batch, ...]
    denied: tuple[Denial, ...]
    not_built: tuple[tuple[CaseId, str], ...]
    """Cases that the sources promise and the build lost, each with its error line."""
