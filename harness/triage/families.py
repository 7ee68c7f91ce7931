"""Families of kernel complaints, as `configs/splats/*.toml` tells them apart."""

import re
import string
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from harness.host.config import data_root, load_toml
from harness.model.errors import UserError
from harness.triage.cause import compiled


class End(StrEnum):
    """Where a complaint's text ends."""

    TRACE = "trace"
    """At its `---[ end …` line."""
    STACK = "stack"
    """After its first call trace."""
    LINE = "line"
    """It is one line."""


class Frame(StrEnum):
    """Which function a complaint is named by."""

    GUILTY = "guilty"
    """The innermost one that is no part of the reporting."""
    ANCHOR = "anchor"
    """The one that a system call, a worker or a timer entered: the innermost is chance."""
    NONE = "none"


class FamilyConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One family as a person writes it."""

    kind: str
    start: str
    """Expression for its first line, without printk's stamp."""
    title: str
    r"""Its title: `{frame}` is the function, other names are groups of `start`."""
    end: End
    frame: Frame
    example: str
    """A real first line; the tests see that this family takes it."""
    continues: tuple[str, ...] = ()
    """Kinds whose complaint goes on with this line: inside of one it is no news."""
    follows: tuple[str, ...] = ()
    """Kinds of which this is a consequence: after one, anywhere in this boot, it is no news."""


class NoiseConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Ordinary text that a family would take for a complaint."""

    line: str
    reason: str
    example: str


class SplatsFile(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The content of a file of `configs/splats`."""

    family: tuple[FamilyConfig, ...] = ()
    noise: tuple[NoiseConfig, ...] = ()
    skipped_frames: tuple[str, ...] = ()
    """Whole names of functions that report, and never are the reason."""
    anchors: tuple[str, ...] = ()
    """Functions below which the kernel's own work begins."""


@dataclass(frozen=True, slots=True)
class Family:
    config: FamilyConfig
    start: re.Pattern[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Families:
    """All families in the order in which they are tried, and what goes with them."""

    families: tuple[Family, ...]
    noise: tuple[re.Pattern[str], ...]
    skipped_frame: re.Pattern[str]
    anchor: re.Pattern[str]
    any_start: re.Pattern[str]
    """All starts in one: most lines of a log fit none."""

    def match(self, text: str) -> tuple[Family, re.Match[str]] | None:
        """The family whose complaint begins with this line (without its stamp), or None."""
        if not self.any_start.match(text) or any(noise.search(text) for noise in self.noise):
            return None
        for family in self.families:
            match = family.start.match(text)
            if match:
                return family, match
        return None

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(family.config.kind for family in self.families)


def load_families(folder: Path) -> Families:
    """Read `configs/splats`, file by file in the order of names. Raises UserError."""
    files = [(path, load_toml(path, SplatsFile)) for path in sorted(folder.glob("*.toml"))]
    families = tuple(_family(config, path) for path, file in files for config in file.family)
    if not families:
        raise UserError(f"{folder}: no family of kernel complaints")
    noise = [
        pattern
        for path, file in files
        for pattern in compiled([item.line for item in file.noise], str(path))
    ]
    skipped = [name for _, file in files for name in file.skipped_frames]
    anchors = [name for _, file in files for name in file.anchors]
    starts = [re.sub(r"\(\?P<\w+>", "(?:", family.config.start) for family in families]
    return Families(
        families=families,
        noise=tuple(noise),
        skipped_frame=_whole_name(skipped, folder),
        anchor=_whole_name(anchors, folder),
        any_start=re.compile("|".join(f"(?:{start})" for start in starts)),
    )


def default_families() -> Families:
    """The families that come with the harness."""
    return load_families(data_root() / "configs" / "splats")


def _whole_name(patterns: list[str], folder: Path) -> re.Pattern[str]:
    (pattern,) = compiled([rf"(?:{'|'.join(patterns)})\Z"], str(folder))
    return pattern


def _family(config: FamilyConfig, path: Path) -> Family:
    where = f"{path}: family {config.kind!r}"
    (start,) = compiled([config.start], where)
    known = {"frame", *start.groupindex}
    used = {name for _, name, _, _ in string.Formatter().parse(config.title) if name is not None}
    if not used <= known:
        raise UserError(f"{where}: the title uses {', '.join(sorted(used - known))}")
    if ("frame" in used) != (config.frame is not Frame.NONE):
        raise UserError(f"{where}: `frame` and {{frame}} in the title go together")
    return Family(config, start)
