"""What one side says of a case over all its attempts."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

from harness.model.case import Attempt, CaseRecord, Outcome
from harness.model.change import Side, Standing
from harness.triage.signature import can_match

UNSURE_WORD = "OK?"
"""Raw word of a pass in a dialect that prints the same for a skip."""
_BASELINE_PASSES = 0.8
"""Share of a baseline's attempts that must pass: four of five."""

_MARKS: dict[Outcome, Standing] = {
    Outcome.PASS: Standing.PASS,
    Outcome.XFAIL: Standing.PASS,
    Outcome.FAIL: Standing.FAIL,
    Outcome.SKIP: Standing.SKIP,
    Outcome.TIMEOUT: Standing.TIMEOUT,
    Outcome.CRASH: Standing.CRASH,
    Outcome.LOST: Standing.LOST,
    Outcome.DENIED: Standing.DENIED,
    Outcome.NOT_BUILT: Standing.NOT_BUILT,
}
GOOD = (Standing.PASS, Standing.UNKNOWN_OK)
BAD = (Standing.CRASH, Standing.FAIL, Standing.TIMEOUT)
# Where attempts differ and none passed, the first of these that occurs stands for all.
_WORST_FIRST = (
    Standing.CRASH, Standing.FAIL, Standing.TIMEOUT, Standing.LOST, Standing.NO_DATA,
    Standing.ERROR, Standing.NOT_BUILT, Standing.SKIP, Standing.SKIP_ENV, Standing.DENIED,
)  # fmt: skip

ABSENT_SIDE = Side(standing=Standing.ABSENT, marks="")
NO_RECORD_SIDE = Side(standing=Standing.NO_DATA, marks="")
"""A baseline of which there is no record: nothing is known, and nothing was removed."""

EnvironmentTest = Callable[[Attempt], bool]
"""Whether an attempt was skipped for something that the guest or the rig lacks."""


def not_environment(_attempt: Attempt) -> bool:
    return False


def standing_of(
    entry: CaseRecord,
    *,
    is_baseline: bool = False,
    repetitions: int = 1,
    is_complete: bool = True,
    is_environment: EnvironmentTest = not_environment,
) -> Side:
    """Fold attempts into one standing.

    A crash is never cleared by another attempt. A candidate with passes and failures is flaky; a
    baseline passes with four of five attempts, fails with one pass of five or none, and is flaky in
    between. In a record that is not complete, or of which the rig lost a part, `lost` is no data.
    """
    marks = [mark_of(attempt, is_complete, is_environment) for attempt in entry.attempts]
    if is_baseline:
        # A subtest that showed in three of five runs was not there in two.
        marks += [Standing.ABSENT] * (repetitions - len(marks))
        standing = _baseline_standing(marks)
    else:
        standing = _candidate_standing(marks)
    return Side(
        standing=standing,
        marks="".join(marks),
        signature=_main_signature(entry.attempts),
        detail=_main_detail(entry.attempts),
    )


def mark_of(attempt: Attempt, is_complete: bool, is_environment: EnvironmentTest) -> Standing:
    """One attempt's standing."""
    mark = _MARKS[attempt.outcome]
    if mark is Standing.LOST and not is_complete:
        return Standing.NO_DATA
    if mark is Standing.SKIP and is_environment(attempt):
        return Standing.SKIP_ENV
    if mark is Standing.PASS and attempt.raw == UNSURE_WORD:
        return Standing.UNKNOWN_OK
    return mark


def _candidate_standing(marks: Sequence[Standing]) -> Standing:
    kinds = set(marks)
    if Standing.CRASH in kinds:
        return Standing.CRASH
    if kinds & set(GOOD):
        if kinds & {*BAD, Standing.LOST}:
            return Standing.FLAKY
        return Standing.PASS if Standing.PASS in kinds else Standing.UNKNOWN_OK
    return _worst(marks)


def _baseline_standing(marks: Sequence[Standing]) -> Standing:
    kinds = set(marks)
    passes = sum(mark in GOOD for mark in marks)
    if not passes:
        return _worst(marks)
    share = passes / len(marks)
    if share >= _BASELINE_PASSES or not kinds & {*BAD, Standing.LOST, Standing.ABSENT}:
        return Standing.PASS if Standing.PASS in kinds else Standing.UNKNOWN_OK
    if share <= 1 - _BASELINE_PASSES + 1e-9 and kinds & set(BAD):
        return _worst(marks)
    return Standing.FLAKY


def _worst(marks: Sequence[Standing]) -> Standing:
    return next((mark for mark in _WORST_FIRST if mark in marks), Standing.ABSENT)


def _bad_attempts(attempts: Sequence[Attempt]) -> list[Attempt]:
    return [attempt for attempt in attempts if attempt.outcome is not Outcome.PASS]


def _main_signature(attempts: Sequence[Attempt]) -> str:
    """The commonest signature of the attempts that did not pass; the earliest of equals."""
    found = Counter(attempt.signature for attempt in _bad_attempts(attempts) if attempt.signature)
    return found.most_common(1)[0][0] if found else ""


def _main_detail(attempts: Sequence[Attempt]) -> str:
    main = _main_signature(attempts)
    bad = _bad_attempts(attempts)
    of_main = [attempt.detail for attempt in bad if attempt.signature == main and attempt.detail]
    return next(iter(of_main or [attempt.detail for attempt in bad if attempt.detail]), "")


def failure_signatures(entry: CaseRecord) -> frozenset[str]:
    """Signatures of the attempts that failed, "" for one that has none or whose text is damaged."""
    failed = (Outcome.FAIL, Outcome.CRASH, Outcome.TIMEOUT, Outcome.NOT_BUILT)
    return frozenset(
        attempt.signature if can_match(attempt.signature) else ""
        for attempt in entry.attempts
        if attempt.outcome in failed
    )


def is_same_failure(candidate: CaseRecord, baseline: CaseRecord) -> bool:
    """Whether each failure of the candidate is one that the baseline shows as well."""
    ours = failure_signatures(candidate)
    return bool(ours) and "" not in ours and ours <= failure_signatures(baseline)


def is_clearly_worse(candidate: Side, baseline: Side) -> bool:
    """Whether so few passes are unlikely to be chance: Fisher's exact test, one-sided, p < 0.05."""
    return fisher(_counts(candidate), _counts(baseline)) < 0.05


def _counts(side: Side) -> tuple[int, int]:
    good = sum(mark in GOOD for mark in side.marks)
    bad = sum(mark in (*BAD, Standing.LOST, Standing.ABSENT) for mark in side.marks)
    return good, good + bad


def fisher(candidate: tuple[int, int], baseline: tuple[int, int]) -> float:
    """Probability of at most so many passes of the candidate; each side is (passes, attempts)."""
    (passes, tries), (base_passes, base_tries) = candidate, baseline
    all_passes, everything = passes + base_passes, tries + base_tries
    if not tries or not base_tries:
        return 1.0
    ways = sum(
        math.comb(all_passes, few) * math.comb(everything - all_passes, tries - few)
        for few in range(passes + 1)
    )
    return ways / math.comb(everything, tries)
