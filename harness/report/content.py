"""What a report says, before any format: the sections, their order, and which case stands where.

Each format renders a `Report`; none of them decides anything. `assemble.py` makes it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.model.arch import AccelKind, Arch
from harness.model.case import Outcome
from harness.model.change import ChangeKind, Verdict
from harness.report.words import EXPECTED_FIELDS, rerun_command


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseText:
    """What people wrote about a cause in `configs/causes`."""

    title: str
    advice: str = ""
    """What to do about it; "" where nobody has said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One case on one architecture, as a report tells it. All texts are as the guest gave them."""

    arch: Arch
    case: str
    kind: ChangeKind
    sides: tuple[str, str, str]
    """In words: the candidate, 5.12, Stream 9."""
    detail: str
    """The first telling line of its log."""
    explanation: str
    tags: tuple[str, ...]
    log: str
    """File of the run's folder; "" when there is none."""
    log_offset_b: int
    waived_by: str = ""
    is_told_by_subtests: bool = False
    """It fails because subtests fail that are in the same group: counted, not told again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Entries of one case that say the same on several architectures: told once."""

    entry: Entry
    arches: tuple[Arch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Cases that fail for one reason, as far as anybody can tell."""

    title: str
    """"" for a group that needs none."""
    advice: str
    entries: tuple[Entry, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The entries, a case that is alike on several architectures once."""
        alike: dict[tuple[object, ...], list[Entry]] = {}
        for entry in self.entries:
            if entry.is_told_by_subtests:
                continue
            key = (entry.case, entry.kind, entry.sides, entry.detail, entry.tags, entry.waived_by)
            alike.setdefault(key, []).append(entry)
        return tuple(
            Row(entry=entries[0], arches=tuple(entry.arch for entry in entries))
            for entries in alike.values()
        )

    @property
    def told_by_subtests(self) -> int:
        return sum(entry.is_told_by_subtests for entry in self.entries)

    @property
    def shared_kind(self) -> Entry | None:
        """An entry whose kind and tags are those of all, when there are several and they are."""
        return _shared(self.entries, lambda entry: (entry.kind, entry.tags))

    @property
    def shared_detail(self) -> Entry | None:
        """An entry whose log line is that of all, when there are several and it is."""
        return _shared(self.entries, lambda entry: (entry.detail,))

    @property
    def arch_counts(self) -> tuple[tuple[Arch, int], ...]:
        counts = {arch: sum(entry.arch is arch for entry in self.entries) for arch in Arch}
        return tuple((arch, count) for arch, count in counts.items() if count)


def _shared(
    entries: tuple[Entry, ...], part: Callable[[Entry], tuple[object, ...]]
) -> Entry | None:
    told = [entry for entry in entries if not entry.is_told_by_subtests]
    return told[0] if len(told) > 1 and len({part(entry) for entry in told}) == 1 else None


class SectionName(StrEnum):
    """The sections in their order; the value is the heading."""

    BLOCKS = "What blocks"
    UNKNOWN = "What cannot be told, and why"
    NEW = "What is new"
    FIXED = "What is fixed"
    KNOWN = "What is known or waived"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A reason that rests on no single case: a boot that failed, a baseline that is missing."""

    text: str
    hint: str = ""
    evidence: tuple[str, ...] = ()
    """A few lines of a log that show it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    name: SectionName
    statements: tuple[Statement, ...]
    groups: tuple[Group, ...]

    @property
    def case_count(self) -> int:
        return sum(len(group.entries) for group in self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One field of the world that is not the same on all sides; "" where a side is missing."""

    arch: Arch
    suite: str
    field: str
    sides: tuple[str, str, str]

    @property
    def is_expected(self) -> bool:
        """It differs between any two kernels, so it says nothing against comparing them."""
        return self.field in EXPECTED_FIELDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """One candidate record in figures."""

    arch: Arch
    suite: str
    profile: str
    accel: AccelKind
    release: str
    outcomes: Mapping[Outcome, int]
    duration_s: float
    complete: bool

    @property
    def cases(self) -> int:
        return sum(self.outcomes.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that a report says, in the order in which it says it."""

    verdict: Verdict | None
    """None for a run that no gate has judged."""
    policy: str
    headline: str
    run_id: str
    run_folder: str
    kernel_args: tuple[str, ...]
    """How the candidate was named on the command line; for commands that run a case again."""
    program: str
    """The harness as a person calls it: `.venv/bin/harness`."""
    sections: tuple[Section, ...]
    """In order; one that has nothing to say is left out."""
    incidents: tuple[Statement, ...]
    """What happened to guests."""
    differences: tuple[Difference, ...]
    denied: Mapping[str, int]
    """Reason to number of cases left out for it."""
    totals: tuple[Totals, ...]

    def command(self, arches: Sequence[Arch], case: str) -> tuple[str, ...]:
        """The command that runs one case again on these architectures."""
        return rerun_command(arches, case, self.kernel_args, self.program)

    def section(self, name: SectionName) -> Section | None:
        return next((section for section in self.sections if section.name is name), None)
