"""Causes: why a case failed or was skipped, told by what its log says and what was being done.

The table is `configs/causes/*.toml`, read from the top; the first cause that fits decides. An error
number alone never decides: -524 comes from trampolines, from kfuncs at load, and from a JIT that
refuses; the operation beside it and the guest's probed capabilities tell them apart.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import msgspec

from harness.host.config import load_toml
from harness.model.arch import AccelKind, Arch
from harness.model.case import Outcome
from harness.model.errors import UserError
from harness.triage.signature import STAMP, first_telling_line

UNEXPLAINED = "unexplained"
_NEAR_LINES = 6


class Culprit(StrEnum):
    """Who would have to change something."""

    CODE = "code"
    """The kernel."""
    CONFIG = "config"
    """The kernel's configuration."""
    TOOL = "tool"
    """The test itself or its compiler."""
    ENVIRONMENT = "environment"
    """The machine: an emulated CPU without a PMU, a slow host."""
    HARNESS = "harness"
    """The guest that we made."""


_ENVIRONMENTAL = (Culprit.ENVIRONMENT, Culprit.HARNESS)


class MatchConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Texts that must all be found close to each other."""

    all: tuple[str, ...]
    near: int = 0
    """How many lines they may lie apart; 0 means on one line."""
    none: tuple[str, ...] = ()
    """Texts that must not be on those lines."""


class CauseConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One cause as a person writes it."""

    id: str
    title: str
    culprit: Culprit
    hint: str
    match: tuple[MatchConfig, ...]
    """Alternatives: one of them is enough."""
    arches: tuple[Arch, ...] = ()
    accels: tuple[AccelKind, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    lacks: str = ""
    """A capability: where it was probed and is there, this is not the cause."""
    vague: bool = False
    """It says little: taken only when nothing in the whole log says more."""


class CausesFile(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The content of a file of `configs/causes`."""

    cause: tuple[CauseConfig, ...]


@dataclass(frozen=True, slots=True)
class _Match:
    all: tuple[re.Pattern[str], ...]
    near: int
    none: tuple[re.Pattern[str], ...]

    def fits(self, lines: Sequence[str]) -> bool:
        first, *others = self.all
        for index, line in enumerate(lines):
            if not first.search(line):
                continue
            window = lines[max(0, index - self.near) : index + self.near + 1]
            if all(any(other.search(text) for text in window) for other in others) and not any(
                unwanted.search(text) for unwanted in self.none for text in window
            ):
                return True
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One row of the table, ready to be tried."""

    id: str
    title: str
    culprit: Culprit
    hint: str
    config: CauseConfig
    matches: tuple[_Match, ...]

    @property
    def is_environmental(self) -> bool:
        return self.culprit in _ENVIRONMENTAL


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseContext:
    """What is known besides the log."""

    arch: Arch | None = None
    accel: AccelKind | None = None
    outcome: Outcome | None = None
    capabilities: Mapping[str, str] = field(default_factory=dict)
    """Probed in the guest: `yes`, `no`, or a value; missing where nobody probed."""


@dataclass(frozen=True, slots=True)
class CauseTable:
    """All causes in the order in which they are tried."""

    causes: tuple[Cause, ...] = ()

    def __getitem__(self, cause_id: str) -> Cause:
        """Raises KeyError for an id that the table does not have."""
        return {cause.id: cause for cause in self.causes}[cause_id]

    def find(self, lines: Sequence[str], context: CauseContext) -> Cause | None:
        """The first cause that fits a log, or None.

        The line that tells is asked first, then what stands about it, then the whole log: a log
        also holds what the program meant to fail.
        """
        texts = [STAMP.sub("", line) for line in lines]
        telling = first_telling_line(texts)
        near = _around(texts, telling)
        clear = [cause for cause in self.causes if not cause.config.vague]
        vague = [cause for cause in self.causes if cause.config.vague]
        stages = [((telling,), clear), (near, clear), (texts, clear), (texts, vague)]
        return next(
            (cause for stage, causes in stages for cause in causes if _fits(cause, stage, context)),
            None,
        )


NO_CAUSES = CauseTable()


def cause_of(lines: Sequence[str], context: CauseContext, table: CauseTable) -> str:
    """The id of the cause of a failure or a skip; `unexplained` when nothing fits."""
    found = table.find(lines, context)
    return found.id if found else UNEXPLAINED


def _around(texts: Sequence[str], telling: str) -> Sequence[str]:
    """The lines about the one that tells; it may have been cut by who stored it."""
    for index, text in enumerate(texts):
        if telling and text.strip().startswith(telling):
            return texts[max(0, index - _NEAR_LINES) : index + _NEAR_LINES + 1]
    return ()


def _fits(cause: Cause, lines: Sequence[str], context: CauseContext) -> bool:
    config = cause.config
    if config.arches and context.arch not in config.arches:
        return False
    if config.accels and context.accel not in config.accels:
        return False
    if config.outcomes and context.outcome not in config.outcomes:
        return False
    if config.lacks and context.capabilities.get(config.lacks) == "yes":
        return False
    return any(match.fits(lines) for match in cause.matches)


def load_causes(folder: Path) -> CauseTable:
    """Read `configs/causes`, file by file in the order of names. Raises UserError."""
    found: list[Cause] = []
    for path in sorted(folder.glob("*.toml")):
        found += [_cause(config, path) for config in load_toml(path, CausesFile).cause]
    ids = [cause.id for cause in found]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise UserError(f"{folder}: causes that are there twice: {', '.join(twice)}")
    return CauseTable(tuple(found))


def _cause(config: CauseConfig, path: Path) -> Cause:
    where = f"{path}: cause {config.id!r}"
    if config.id == UNEXPLAINED or not re.fullmatch(r"[a-z][a-z0-9_]*", config.id):
        raise UserError(f"{where}: not an id", hint="lower-case letters, digits and underscores")
    if not config.match or not all(match.all for match in config.match):
        raise UserError(f"{where}: no text to match")
    return Cause(
        id=config.id,
        title=config.title,
        culprit=config.culprit,
        hint=config.hint,
        config=config,
        matches=tuple(
            _Match(
                all=compiled(match.all, where),
                near=match.near,
                none=compiled(match.none, where),
            )
            for match in config.match
        ),
    )


def compiled(patterns: Sequence[str], where: str) -> tuple[re.Pattern[str], ...]:
    """Compile patterns of a configuration file. Raises UserError naming the one that is none."""
    result = []
    for pattern in patterns:
        try:
            result.append(re.compile(pattern))
        except re.error as error:
            raise UserError(f"{where}: {pattern!r} is no regular expression: {error}") from error
    return tuple(result)
