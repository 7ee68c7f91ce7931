"""Denials: cases that people decided not to run, from `configs/denials/*.toml`."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from harness.host.config import data_root, load_toml
from harness.model.arch import Arch
from harness.model.case import CaseId
from harness.model.errors import UserError
from harness.model.plan import Denial


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    cases: list[str]
    reason: str
    arch: list[Arch] | None = None
    link: str = ""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    denial: list[_Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class DenialRule:
    """Which cases are not run on which architectures, and why."""

    patterns: tuple[str, ...]
    arches: frozenset[Arch]
    reason: str
    source: str

    def denial_of(self, case: CaseId, arch: Arch) -> Denial | None:
        if arch not in self.arches:
            return None
        if not any(fnmatchcase(str(case), pattern) for pattern in self.patterns):
            return None
        return Denial(case=case, reason=self.reason, source=self.source)


def load_denials(folder: Path | None = None) -> tuple[DenialRule, ...]:
    """The rules of all files, in the order of their names.

    Raises UserError for a file that does not fit, and for a denial without a reason.
    """
    folder = data_root() / "configs" / "denials" if folder is None else folder
    return tuple(
        _rule(path, entry)
        for path in sorted(folder.glob("*.toml"))
        for entry in load_toml(path, _File).denial
    )


def first_denial(rules: Sequence[DenialRule], case: CaseId, arch: Arch) -> Denial | None:
    """What the first rule that matches says of a case; None when it may run."""
    for rule in rules:
        if denial := rule.denial_of(case, arch):
            return denial
    return None


def _rule(path: Path, entry: _Entry) -> DenialRule:
    if not entry.reason.strip():
        raise UserError(f"{path}: a denial of {', '.join(entry.cases)} without a reason")
    link = f" ({entry.link})" if entry.link else ""
    return DenialRule(
        patterns=tuple(entry.cases),
        arches=frozenset(Arch if entry.arch is None else entry.arch),
        reason=entry.reason + link,
        source=path.name,
    )
