"""What an examination of the host found."""

from dataclasses import dataclass
from enum import StrEnum


class CheckState(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """A run works, slower or with less."""
    MISSING = "missing"
    """Something cannot be done without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    subject: str
    """What it is for: `packages`, `x86_64`, `disk`."""
    name: str
    state: CheckState
    found: str
    """What is there, or why it is not."""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All checks, and what would install what is missing."""

    checks: tuple[Check, ...]
    install: tuple[str, ...]
    """Commands for root, by this host's package manager; empty when nothing is to be installed."""

    @property
    def is_fit(self) -> bool:
        """Nothing that a run needs is missing."""
        return all(check.state is not CheckState.MISSING for check in self.checks)
