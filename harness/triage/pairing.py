"""Pairs the cases of a candidate and its baselines, and lets the decision table speak on each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.model.arch import Arch
from harness.model.case import Attempt, CaseId, CaseRecord, Outcome
from harness.model.change import Change, Side, Standing
from harness.model.record import Ending, RunRecord
from harness.triage.cause import NO_CAUSES, CauseContext, CauseTable, cause_of
from harness.triage.parents import children_of, hidden_by_subtests
from harness.triage.renames import NO_RENAMES, Renames
from harness.triage.standing import (
    ABSENT_SIDE,
    BAD,
    GOOD,
    NO_RECORD_SIDE,
    is_clearly_worse,
    is_same_failure,
    standing_of,
)
from harness.triage.table import Facts, as_baseline, as_candidate, row_for
from harness.triage.wording import explanation_of, tags_of

# Endings after which cases are lost for the rig's reasons, not for the kernel's.
_RIG_ENDINGS = (Ending.NEVER_STARTED, Ending.QEMU_DIED)


def detail_only(attempt: Attempt) -> Sequence[str]:
    """The text that a record itself holds of an attempt."""
    return (attempt.detail,) if attempt.detail else ()


def never_expected(_case: CaseId, _arch: Arch) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What people have written down, and where the logs are."""

    causes: CauseTable = NO_CAUSES
    renames: Renames = NO_RENAMES
    expects_failure: Callable[[CaseId, Arch], bool] = never_expected
    """Whether a known issue expects a case to fail."""
    log_of: Callable[[Attempt], Sequence[str]] = detail_only
    """A candidate's attempt to its log's lines; causes are looked for in them."""


NO_RULES = Rules()


@dataclass(frozen=True, slots=True)
class _View:
    """One record, made ready for pairing: cases by their canonical names, each with its side."""

    record: RunRecord | None
    names: Mapping[CaseId, CaseId]
    """Canonical name to the record's own."""
    entries: Mapping[CaseId, CaseRecord] = field(default_factory=dict)
    sides: Mapping[CaseId, Side] = field(default_factory=dict)
    """By canonical name, as all their attempts say."""
    children: Mapping[CaseId, tuple[CaseId, ...]] = field(default_factory=dict)

    def test_hash(self, name: CaseId) -> str:
        if self.record is None or name not in self.names:
            return ""
        hashes = self.record.test_hashes
        own = self.names[name]
        return hashes.get(str(own)) or hashes.get(str(own.parent), "")


class Pairing:
    """The three records of one comparison, paired by canonical names."""

    def __init__(
        self,
        candidate: RunRecord,
        base_512: RunRecord | None,
        base_s9: RunRecord | None,
        rules: Rules,
    ) -> None:
        self._record = candidate
        self._rules = rules
        self._candidate = self._view(candidate, is_baseline=False)
        self._bases = tuple(self._view(base, is_baseline=True) for base in (base_512, base_s9))

    def changes(self) -> tuple[Change, ...]:
        names = set(self._candidate.sides)
        for base in self._bases:
            names |= {name for name in base.sides if self._is_in_scope(base, name)}
        return tuple(self._change(name) for name in sorted(names))

    def _is_in_scope(self, base: _View, name: CaseId) -> bool:
        """Whether the candidate's run was to have a baseline's case."""
        is_narrow = bool(self._record.selection)
        if base.record is not None and base.record.profile == self._record.profile:
            return not is_narrow or self._has_the_test_of(name)
        is_listed = str(name) in self._record.test_hashes and not is_narrow
        return is_listed or self._has_the_test_of(name)

    def _has_the_test_of(self, name: CaseId) -> bool:
        return name.is_subtest and name.parent in self._candidate.sides

    def _view(self, record: RunRecord | None, *, is_baseline: bool) -> _View:
        if record is None:
            return _View(None, {})
        entries = {entry.case: entry for entry in record.cases}
        names = self._rules.renames.by_canonical(entries)
        is_whole = record.complete and not any(
            incident.ending in _RIG_ENDINGS for incident in record.incidents
        )
        context = CauseContext(
            arch=record.world.arch,
            accel=record.world.accel,
            outcome=Outcome.SKIP,
            capabilities=record.capabilities,
        )

        def is_environment(attempt: Attempt) -> bool:
            found = self._rules.causes.find((attempt.detail,), context)
            return found is not None and found.is_environmental

        sides = {
            name: standing_of(
                entries[own],
                is_baseline=is_baseline,
                repetitions=record.repetitions,
                is_complete=is_whole,
                is_environment=is_environment,
            )
            for name, own in names.items()
        }
        by_name = {name: entries[own] for name, own in names.items()}
        return _View(record, names, by_name, sides, children_of(sides))

    def _change(self, name: CaseId) -> Change:
        candidate = self._candidate.sides.get(name) or self._absent_candidate(name)
        bases = tuple(self._base_side(base, name) for base in self._bases)
        facts = self._facts(name, candidate, bases)
        row = row_for(facts)
        own = self._candidate.names.get(name) or next(
            base.names[name] for base in self._bases if name in base.names
        )
        sides = (candidate, *bases)
        is_hidden = self._is_hidden(self._candidate, name)
        tags = tags_of(row.kind, facts, sides, self._tags(name, candidate, is_hidden))
        return Change(
            case=own,
            arch=self._record.world.arch,
            kind=row.kind,
            candidate=candidate,
            base_512=bases[0],
            base_s9=bases[1],
            cause=self._cause(name, candidate),
            tags=tags,
            explanation=explanation_of(row.kind, sides, tags),
        )

    def _facts(self, name: CaseId, candidate: Side, bases: Sequence[Side]) -> Facts:
        effective = self._without_subtests(self._candidate, name, candidate.standing)
        base_standings = [
            self._without_subtests(base, name, side.standing)
            for base, side in zip(self._bases, bases, strict=True)
        ]
        same = [self._is_same(base, name) for base in self._bases]
        return Facts(
            candidate=as_candidate(effective, *base_standings),
            base_512=as_baseline(base_standings[0], effective),
            base_s9=as_baseline(base_standings[1], effective),
            same_512=same[0],
            same_s9=same[1],
            is_clearly_worse=any(
                side.standing is Standing.FLAKY and is_clearly_worse(candidate, side)
                for side in bases
            ),
            is_expected_to_fail=self._rules.expects_failure(
                self._candidate.names.get(name, name), self._record.world.arch
            ),
        )

    def _without_subtests(self, view: _View, name: CaseId, standing: Standing) -> Standing:
        """A test whose failure is that of its subtests, which are compared by themselves."""
        return Standing.PASS if self._is_hidden(view, name) else standing

    def _is_hidden(self, view: _View, name: CaseId) -> bool:
        if name not in view.sides or name not in view.children:
            return False
        partners = self._bases if view is self._candidate else (self._candidate,)
        others = [partner.sides for partner in partners if name in partner.sides]
        return hidden_by_subtests(name, view.sides, view.children[name], others)

    def _is_same(self, base: _View, name: CaseId) -> bool:
        ours, theirs = self._candidate.entries.get(name), base.entries.get(name)
        if ours is None or theirs is None:
            return False
        not_built = Standing.NOT_BUILT
        if self._candidate.sides[name].standing is base.sides[name].standing is not_built:
            return True
        return is_same_failure(ours, theirs)

    def _base_side(self, base: _View, name: CaseId) -> Side:
        if base.record is None:
            return NO_RECORD_SIDE
        if name in base.sides:
            return base.sides[name]
        if base.record.profile != self._record.profile:
            return NO_RECORD_SIDE  # it may have been left out there
        return ABSENT_SIDE

    def _absent_candidate(self, name: CaseId) -> Side:
        """A case of a baseline that the candidate's record does not have: why it is not there."""
        parent = self._candidate.sides.get(name.parent) if name.is_subtest else None
        if parent is not None and parent.standing not in GOOD:
            return Side(standing=_precluded(parent.standing), marks="", detail=parent.detail)
        if str(name) in self._record.test_hashes:
            what = "its sources are there, and it did not show"
            return Side(standing=Standing.LOST, marks="", detail=what)
        if self._has_the_sources_of_a_base_with(name):
            what = "its sources are the baseline's, and it did not show"
            return Side(standing=Standing.LOST, marks="", detail=what)
        return ABSENT_SIDE

    def _has_the_sources_of_a_base_with(self, name: CaseId) -> bool:
        own = self._record.world.selftests_sha256
        return bool(own) and any(
            base.record is not None
            and name in base.sides
            and base.record.world.selftests_sha256 == own
            for base in self._bases
        )

    def _tags(self, name: CaseId, candidate: Side, is_hidden: bool) -> list[str]:
        found = []
        if is_hidden:
            found.append("by_subtests")
        if name not in self._candidate.sides and candidate.standing is not Standing.ABSENT:
            found.append("precluded")
        own = self._candidate.test_hash(name)
        others = [base.test_hash(name) for base in self._bases]
        if own and any(other and other != own for other in others):
            found.append("test_changed")
        entry = self._candidate.entries.get(name)
        if entry is not None:
            found += self._attempt_tags(name, entry, candidate)
        return found

    def _attempt_tags(self, name: CaseId, entry: CaseRecord, side: Side) -> list[str]:
        found = []
        if side.standing is Standing.CRASH:
            found.append("crash")
            if any(self._is_same(base, name) for base in self._bases):
                found.append("crash_known")
        if Standing.TIMEOUT in side.marks:
            found.append("timeout")
            again = any(
                attempt.outcome is Outcome.TIMEOUT and attempt.fresh_vm
                for attempt in entry.attempts
            )
            found += [] if again else ["unconfirmed"]
        return found

    def _cause(self, name: CaseId, side: Side) -> str:
        """The cause of what did not pass; "" for a pass and where nothing was said."""
        entry = self._candidate.entries.get(name)
        wanted = (*BAD, Standing.FLAKY, Standing.SKIP, Standing.SKIP_ENV, Standing.NOT_BUILT)
        if entry is None or side.standing not in wanted:
            return ""
        for attempt in entry.attempts:
            if attempt.outcome in (Outcome.PASS, Outcome.XFAIL):
                continue
            world = self._record.world
            context = CauseContext(
                arch=world.arch,
                accel=world.accel,
                outcome=attempt.outcome,
                capabilities=self._record.capabilities,
            )
            return cause_of(self._rules.log_of(attempt), context, self._rules.causes)
        return ""


_AS_THE_PARENT = (
    Standing.DENIED,
    Standing.NOT_BUILT,
    Standing.LOST,
    Standing.SKIP,
    Standing.SKIP_ENV,
)


def _precluded(parent: Standing) -> Standing:
    """A subtest that did not show because of what became of its test."""
    return parent if parent in _AS_THE_PARENT else Standing.NO_DATA
