"""Cases, their addresses, and what became of them."""

from dataclasses import dataclass
from enum import StrEnum

_DEPTH = 3  # suite / program / test / subtest: only the last part may hold slashes


class Outcome(StrEnum):
    """What became of a case in one run. None of them is a default."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"
    XFAIL = "xfail"
    TIMEOUT = "timeout"
    """Over its budget in a guest that was alive."""
    CRASH = "crash"
    """It took the guest, the kernel or its own process down."""
    LOST = "lost"
    """Promised, never reported."""
    DENIED = "denied"
    """Not run, because a person decided so."""
    NOT_BUILT = "not_built"


@dataclass(frozen=True, slots=True, order=True)
class CaseId:
    """A case's address: the suite, then program, test and subtest."""

    suite: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        return "/".join((self.suite, *self.path))

    @classmethod
    def parse(cls, text: str) -> "CaseId":
        """Read what `str()` wrote. Raises ValueError for a text without a suite and a program."""
        suite, *path = text.split("/", _DEPTH)
        if not suite or not path or not all(path):
            raise ValueError(f"not a case: {text!r} (wanted suite/program[/test[/subtest]])")
        return cls(suite, tuple(path))

    @property
    def is_subtest(self) -> bool:
        return len(self.path) > _DEPTH - 1

    @property
    def parent(self) -> "CaseId":
        return CaseId(self.suite, self.path[:-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSpan:
    """A piece of a log of the same run: `log` is a file of the cell's folder, bytes from 0."""

    log: str
    begin_b: int
    end_b: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One execution of one case."""

    outcome: Outcome
    raw: str = ""
    """The word that the program printed, or "" when it printed none."""
    detail: str = ""
    """The first telling line of its log; "" for a plain pass."""
    signature: str = ""
    """Stable over addresses, numbers and builds; "" where there is nothing to sign."""
    duration_s: float | None = None
    """Guest-side wall time between its neighbours' results; None when it was not seen."""
    log: LogSpan | None = None
    splats: tuple[str, ...] = ()
    """Signatures of kernel complaints that fell into its time."""
    fresh_vm: bool = False
    """It ran alone in a guest booted for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRecord:
    """All that is known of one case in one record; attempts in the order they were made."""

    case: CaseId
    attempts: tuple[Attempt, ...]
