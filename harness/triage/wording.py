"""Tags and sentences beside a change: what the table's word alone does not say."""

from collections.abc import Iterable, Sequence

from harness.model.change import ChangeKind, Side, Standing
from harness.triage.table import ABSENT, FLAKY, F, Facts, P

_WITH_DATA = (P, F, FLAKY)
_BLOCKING_BY_BASIS = (
    ChangeKind.REGRESSION,
    ChangeKind.REGRESSION_VS_S9,
    ChangeKind.REGRESSION_VS_512,
    ChangeKind.INHERITED_S9,
)


def tags_of(
    kind: ChangeKind, facts: Facts, sides: Sequence[Side], own: Iterable[str]
) -> tuple[str, ...]:
    """All tags of a change, sorted; `own` are those that the candidate's side brings along."""
    candidate, *bases = sides
    found = set(own)
    in_table = (facts.base_512, facts.base_s9)
    if sum(standing in _WITH_DATA for standing in in_table) == 1:
        found.add("single_basis")
    if kind is ChangeKind.PASS and in_table == (F, P):
        found.add("better_than_512")
    if kind is ChangeKind.PASS and in_table == (P, F):
        found.add("better_than_s9")
    if all(side.standing is Standing.NO_DATA and not side.marks for side in bases):
        found.add("no_baseline")
    if candidate.standing is Standing.NOT_BUILT:
        found.add("not_built")
    if candidate.standing is Standing.UNKNOWN_OK:
        found.add("ok_or_skip")
    if kind in _BLOCKING_BY_BASIS and Standing.UNKNOWN_OK in (side.standing for side in bases):
        found.add("basis_unsure")
    return tuple(sorted(found))


_WORDS: dict[Standing, str] = {
    Standing.PASS: "passes",
    Standing.FAIL: "fails",
    Standing.CRASH: "crashes",
    Standing.TIMEOUT: "runs out of time",
    Standing.FLAKY: "is flaky",
    Standing.SKIP_ENV: "is skipped for its environment",
    Standing.SKIP: "is skipped",
    Standing.UNKNOWN_OK: "passes or is skipped",
    Standing.ERROR: "errors",
    Standing.NO_DATA: "has no result",
    Standing.DENIED: "is left out by decision",
    Standing.LOST: "was promised and never reported",
    Standing.NOT_BUILT: "was not built",
    ABSENT: "is not there",
}
_SAME = {
    ChangeKind.INHERITED_S9: ", in the same way as in Stream 9",
    ChangeKind.KNOWN_BASELINE_FAILURE: ", in the same way as in a baseline",
    ChangeKind.CHANGED_FAILURE: ", in another way than in the baselines",
    ChangeKind.WORSE_THAN_FLAKY: ", more often than chance would have it",
}
_NOTES = {
    "by_subtests": "its failure is that of its subtests",
    "precluded": "it did not get its turn or did not show",
    "test_changed": "the test itself differs between the kernels",
    "crash_known": "a baseline crashes in the same way",
    "unconfirmed": "not yet tried again in a guest of its own",
    "ok_or_skip": "this dialect prints OK for a skip as well",
    "basis_unsure": "the baseline's OK may have been a skip",
    "no_baseline": "there is no baseline to compare with",
}
"""Tags that need a sentence."""
_SAYS_IT_ALL = (ChangeKind.PASS, ChangeKind.NEW_PASS, ChangeKind.SKIP)


def explanation_of(kind: ChangeKind, sides: Sequence[Side], tags: Sequence[str]) -> str:
    """One sentence for a person; "" for a plain pass or skip with nothing to remark."""
    notes = [text for tag, text in _NOTES.items() if tag in tags]
    if kind in _SAYS_IT_ALL and not notes:
        return ""
    candidate, base_512, base_s9 = sides
    parts = [
        f"{_told(candidate)}{_SAME.get(kind, '')}",
        f"5.12 {_told_of_base(base_512)}",
        f"Stream 9 {_told_of_base(base_s9)}",
        *notes,
    ]
    return "; ".join(parts)


def _told(side: Side) -> str:
    marks = f" ({side.marks})" if len(side.marks) > 1 else ""
    return f"{_WORDS[side.standing]}{marks}"


def _told_of_base(side: Side) -> str:
    has_no_record = side.standing is Standing.NO_DATA and not side.marks
    return "has no record of it" if has_no_record else _told(side)
