"""The decision table: what a candidate's case means beside its two baselines.

Rules are read from the top; the first that fits decides. The table is total; tests walk through all
its combinations.
"""

from collections.abc import Callable
from dataclasses import dataclass

from harness.model.change import ChangeKind, Standing

P, F, K, T = Standing.PASS, Standing.FAIL, Standing.CRASH, Standing.TIMEOUT
FLAKY, S_ENV, S = Standing.FLAKY, Standing.SKIP_ENV, Standing.SKIP
E, X, D = Standing.ERROR, Standing.NO_DATA, Standing.DENIED
LOST, ABSENT = Standing.LOST, Standing.ABSENT

CANDIDATE_STANDINGS = (P, F, K, T, FLAKY, S_ENV, S, E, X, D, LOST, ABSENT)
"""What the table knows of a candidate; `as_candidate` maps the rest to these."""
BASELINE_STANDINGS = (P, F, FLAKY, S, X, ABSENT)
"""What the table knows of a baseline; `as_baseline` maps the rest to these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a rule may look at."""

    candidate: Standing
    base_512: Standing
    base_s9: Standing
    same_512: bool
    """The candidate's failure has the signature of that baseline's failure."""
    same_s9: bool
    is_clearly_worse: bool
    """Fisher's exact test against the flaky side: p < 0.05."""
    is_expected_to_fail: bool
    """A known issue expects this case to fail."""

    def any_is(self, *wanted: Standing) -> bool:
        return self.base_512 in wanted or self.base_s9 in wanted

    @property
    def is_same(self) -> bool:
        """A baseline fails, and in the same way."""
        return (self.base_512 is F and self.same_512) or (self.base_s9 is F and self.same_s9)


@dataclass(frozen=True, slots=True)
class Row:
    """One rule: its number in the documentation, whom it is for, when it holds, what it says."""

    number: int
    candidates: tuple[Standing, ...]
    condition: str
    holds: Callable[[Facts], bool]
    kind: ChangeKind


def _always(_facts: Facts) -> bool:
    return True


_BAD = (F, K, T)
_SKIPS = (S_ENV, S)
TABLE: tuple[Row, ...] = (
    Row(1, (X, E), "any", _always, ChangeKind.NO_DATA),
    Row(2, (D,), "any", _always, ChangeKind.DENIED),
    Row(3, (LOST,), "any P or ~", lambda f: f.any_is(P, FLAKY), ChangeKind.LOST),
    Row(4, (LOST,), "otherwise", _always, ChangeKind.NO_DATA),
    Row(5, (ABSENT,), "a baseline has it", lambda f: not f.base_512 is f.base_s9 is ABSENT,
        ChangeKind.TEST_REMOVED),
    Row(6, (ABSENT,), "otherwise", _always, ChangeKind.NOT_A_TEST),
    Row(7, (P,), "expected to fail", lambda f: f.is_expected_to_fail, ChangeKind.XPASS),
    Row(8, (P,), "any P", lambda f: f.any_is(P), ChangeKind.PASS),
    Row(9, (P,), "any ~", lambda f: f.any_is(FLAKY), ChangeKind.PASS),
    Row(10, (P,), "any F", lambda f: f.any_is(F), ChangeKind.FIXED),
    Row(11, (P,), "otherwise", _always, ChangeKind.NEW_PASS),
    Row(12, (S_ENV,), "any P or ~", lambda f: f.any_is(P, FLAKY), ChangeKind.ENV_SKIP),
    Row(13, (S,), "any P or ~", lambda f: f.any_is(P, FLAKY), ChangeKind.COVERAGE_LOST),
    Row(14, _SKIPS, "any F", lambda f: f.any_is(F), ChangeKind.COVERAGE_CHANGED),
    Row(15, _SKIPS, "otherwise", _always, ChangeKind.SKIP),
    Row(16, (FLAKY,), "any ~, or F and no P",
        lambda f: f.any_is(FLAKY) or (f.any_is(F) and not f.any_is(P)), ChangeKind.FLAKY_KNOWN),
    Row(17, (FLAKY,), "otherwise", _always, ChangeKind.FLAKY_NEW),
    Row(18, _BAD, "both P", lambda f: f.base_512 is f.base_s9 is P, ChangeKind.REGRESSION),
    Row(19, _BAD, "Stream 9 P", lambda f: f.base_s9 is P, ChangeKind.REGRESSION_VS_S9),
    Row(20, _BAD, "5.12 P, Stream 9 F in the same way",
        lambda f: f.base_512 is P and f.base_s9 is F and f.same_s9, ChangeKind.INHERITED_S9),
    Row(21, _BAD, "5.12 P", lambda f: f.base_512 is P, ChangeKind.REGRESSION_VS_512),
    Row(22, _BAD, "any ~, clearly worse",
        lambda f: f.any_is(FLAKY) and f.is_clearly_worse, ChangeKind.WORSE_THAN_FLAKY),
    Row(23, _BAD, "any ~", lambda f: f.any_is(FLAKY), ChangeKind.FLAKY_KNOWN),
    Row(24, _BAD, "any F in the same way", lambda f: f.is_same,
        ChangeKind.KNOWN_BASELINE_FAILURE),
    Row(25, _BAD, "any F", lambda f: f.any_is(F), ChangeKind.CHANGED_FAILURE),
    Row(26, _BAD, "any X", lambda f: f.any_is(X), ChangeKind.NO_BASIS),
    Row(27, _BAD, "any S", lambda f: f.any_is(S), ChangeKind.EXPOSED_FAILURE),
    Row(28, _BAD, "otherwise", _always, ChangeKind.NEW_TEST_FAILING),
)  # fmt: skip


def row_for(facts: Facts) -> Row:
    """Return the row that decides. Raises KeyError for a standing that the table does not know."""
    if facts.candidate not in CANDIDATE_STANDINGS:
        raise KeyError(facts.candidate)
    for standing in (facts.base_512, facts.base_s9):
        if standing not in BASELINE_STANDINGS:
            raise KeyError(standing)
    return next(row for row in TABLE if facts.candidate in row.candidates and row.holds(facts))


_BASELINE_AS: dict[Standing, Standing] = {
    # A crash or a timeout of a baseline is a failure of it; how it failed is in the signature.
    P: P, F: F, K: F, T: F, FLAKY: FLAKY, S_ENV: S, S: S, D: S, E: X, X: X, LOST: X, ABSENT: ABSENT,
    # An OK that may have been a skip counts as a pass: a failure beside it is never hidden.
    Standing.UNKNOWN_OK: P,
    # It never ran there, because nobody could build it: like a skip.
    Standing.NOT_BUILT: S,
}  # fmt: skip


def as_baseline(standing: Standing, candidate: Standing) -> Standing:
    """Map a baseline's standing to the table's.

    Beside a candidate that was not built, a baseline that was not built either fails as well.
    """
    if standing is candidate is Standing.NOT_BUILT:
        return F
    return _BASELINE_AS[standing]


def as_candidate(standing: Standing, *baselines: Standing) -> Standing:
    """Map a candidate's standing to the table's.

    What was not built is a failure. An OK that may have been a skip is a pass only beside a
    baseline that passes; otherwise it is a skip, so that it is never called fixed.
    """
    if standing is Standing.NOT_BUILT:
        return F
    if standing is Standing.UNKNOWN_OK:
        return P if any(as_baseline(base, standing) is P for base in baselines) else S
    return standing
