"""What people decide about the BPF suite: `configs/suites/bpf.toml`, as typed values."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from harness.host.config import data_root, load_toml
from harness.model.case import CaseId
from harness.model.errors import UserError

CONFIG_NAME = "configs/suites/bpf.toml"


class ProgramSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    name: str
    budget_s: float
    memory_mib: int = 0


class CasesWithReason(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    cases: tuple[str, ...]
    reason: str

    def matches(self, case: CaseId) -> bool:
        return matches_any(case, self.cases)


class BudgetSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    cases: tuple[str, ...]
    budget_s: float
    reason: str


class ProfileSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    title: str
    leave_out: tuple[CasesWithReason, ...] = ()
    own_vm: tuple[CasesWithReason, ...] = ()


class BpfSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    default_profile: str
    program: tuple[ProgramSettings, ...]
    profile: Mapping[str, ProfileSettings]
    budget: tuple[BudgetSettings, ...] = ()

    def profile_named(self, name: str) -> ProfileSettings:
        """Raises UserError for a profile that is not there."""
        if name not in self.profile:
            raise UserError(
                f"no profile {name!r} for the bpf suite",
                hint=f"there are {', '.join(self.profile)}",
            )
        return self.profile[name]

    def budget_of(self, case: CaseId, program: ProgramSettings) -> float:
        """The case's budget in seconds, in the reference guest."""
        for entry in self.budget:
            if matches_any(case, entry.cases):
                return entry.budget_s
        return program.budget_s


def load_bpf_settings(path: Path | None = None) -> BpfSettings:
    """Raises UserError, naming file and key, for a file that does not fit."""
    path = data_root() / CONFIG_NAME if path is None else path
    settings = load_toml(path, BpfSettings)
    settings.profile_named(settings.default_profile)
    budgets = [each.budget_s for each in settings.program]
    budgets += [each.budget_s for each in settings.budget]
    if min(budgets, default=1.0) <= 0:
        raise UserError(f"{path}: a budget of 0 s or less")
    return settings


def matches_any(case: CaseId, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns, `program/test` with `*` and `?`, is the whole case."""
    name = "/".join(case.path)
    return any(fnmatchcase(name, pattern) for pattern in patterns)
