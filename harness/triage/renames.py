"""Cases that got another name between two kernels: both names lead to one for pairing."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.host.config import load_toml
from harness.model.case import CaseId
from harness.model.errors import UserError
from harness.triage.cause import compiled


class RenameConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One renaming as a person writes it."""

    old: str
    """Regular expression for a whole case as text."""
    new: str
    r"""What it is called for pairing; `\g<name>` stands for a group of `old`."""
    reason: str


class RenamesFile(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The content of a file of `configs/renames`."""

    rename: tuple[RenameConfig, ...]


@dataclass(frozen=True, slots=True)
class Renames:
    """Renamings, each applied in turn to what the one before gave."""

    steps: tuple[tuple[re.Pattern[str], str], ...] = ()

    def canonical(self, case: CaseId) -> CaseId:
        """The name under which a case is paired; its own where no renaming is for it."""
        text = str(case)
        for pattern, new in self.steps:
            match = pattern.fullmatch(text)
            if match:
                text = match.expand(new)
        return CaseId.parse(text) if text != str(case) else case

    def by_canonical(self, cases: Iterable[CaseId]) -> dict[CaseId, CaseId]:
        """Canonical name to case; where two would share one, the later keeps its own name."""
        found: dict[CaseId, CaseId] = {}
        for case in cases:
            name = self.canonical(case)
            found[case if name in found else name] = case
        return found


NO_RENAMES = Renames()


def load_renames(folder: Path) -> Renames:
    """Read `configs/renames`. Raises UserError for what is no expression or gives no case."""
    steps: list[tuple[re.Pattern[str], str]] = []
    for path in sorted(folder.glob("*.toml")):
        for config in load_toml(path, RenamesFile).rename:
            (pattern,) = compiled([config.old], f"{path}: rename {config.old!r}")
            _check_template(pattern, config, path)
            steps.append((pattern, config.new))
    return Renames(tuple(steps))


def _check_template(pattern: re.Pattern[str], config: RenameConfig, path: Path) -> None:
    used = set(re.findall(r"\\g<(\w+)>", config.new))
    unknown = sorted(used - set(pattern.groupindex))
    if unknown or "\\" in re.sub(r"\\g<\w+>", "", config.new):
        raise UserError(
            f"{path}: rename {config.new!r} uses groups that {config.old!r} does not name",
            hint=r"write (?P<name>…) and \g<name>",
        )
    try:
        CaseId.parse(config.new)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
