"""The decision table is total, and each of its rows says what the documentation says."""

from collections.abc import Iterator
from itertools import product

import pytest

from harness.model.change import ChangeKind, Standing
from harness.triage.table import (
    BASELINE_STANDINGS,
    CANDIDATE_STANDINGS,
    TABLE,
    Facts,
    as_baseline,
    as_candidate,
    row_for,
)

_BLOCKING = {
    ChangeKind.REGRESSION,
    ChangeKind.REGRESSION_VS_S9,
    ChangeKind.REGRESSION_VS_512,
    ChangeKind.WORSE_THAN_FLAKY,
    ChangeKind.LOST,
}
_INCONCLUSIVE = {ChangeKind.NO_DATA, ChangeKind.NO_BASIS}
_BAD = {Standing.FAIL, Standing.CRASH, Standing.TIMEOUT}
_SKIPS = {Standing.SKIP, Standing.SKIP_ENV}


def _all() -> Iterator[tuple[Facts, ChangeKind]]:
    yes_no = (False, True)
    for candidate, a, b, same_a, same_b, worse, expected in product(
        CANDIDATE_STANDINGS, BASELINE_STANDINGS, BASELINE_STANDINGS, yes_no, yes_no, yes_no, yes_no
    ):
        facts = Facts(
            candidate=candidate,
            base_512=a,
            base_s9=b,
            same_512=same_a,
            same_s9=same_b,
            is_clearly_worse=worse,
            is_expected_to_fail=expected,
        )
        yield facts, row_for(facts).kind


_EVERY = tuple(_all())


def test_every_combination_has_a_verdict() -> None:
    assert len(_EVERY) == 6912
    assert len({facts for facts, _ in _EVERY}) == 6912


def test_every_verdict_is_given_and_every_row_decides_somewhere() -> None:
    assert {kind for _, kind in _EVERY} == set(ChangeKind)
    assert {row_for(facts).number for facts, _ in _EVERY} == set(range(1, 29))
    assert [row.number for row in TABLE] == list(range(1, 29))


def test_what_has_no_data_never_becomes_anything_else() -> None:
    for facts, kind in _EVERY:
        if facts.candidate in (Standing.NO_DATA, Standing.ERROR):
            assert kind is ChangeKind.NO_DATA


def test_a_skip_is_never_fixed_passed_or_a_regression() -> None:
    wrong = {ChangeKind.FIXED, ChangeKind.PASS, ChangeKind.NEW_PASS, *_BLOCKING}
    for facts, kind in _EVERY:
        if facts.candidate in _SKIPS:
            assert kind not in wrong


def test_a_failure_beside_a_passing_baseline_blocks_or_is_stream_9s_own() -> None:
    for facts, kind in _EVERY:
        if facts.candidate in _BAD and facts.any_is(Standing.PASS):
            is_inherited = facts.base_s9 is Standing.FAIL and facts.same_s9
            assert kind in _BLOCKING or (kind is ChangeKind.INHERITED_S9 and is_inherited)


def test_a_pass_never_blocks_and_is_never_inconclusive() -> None:
    for facts, kind in _EVERY:
        if facts.candidate is Standing.PASS:
            assert kind not in _BLOCKING | _INCONCLUSIVE


def test_a_failure_is_known_only_with_the_same_signature() -> None:
    for facts, kind in _EVERY:
        if kind is ChangeKind.KNOWN_BASELINE_FAILURE:
            assert facts.same_512 or facts.same_s9


def test_a_failure_without_any_record_beside_it_is_never_let_through() -> None:
    for facts, kind in _EVERY:
        both = facts.base_512 is facts.base_s9 is Standing.NO_DATA
        if both and facts.candidate in _BAD:
            assert kind is ChangeKind.NO_BASIS


# Row, candidate, 5.12, Stream 9, the facts that hold (a: same as 5.12, b: same as Stream 9,
# w: clearly worse, x: expected to fail), verdict.
_ROWS = [
    (1, "X", "P", "P", "", "no_data"),
    (1, "E", "F", "-", "abwx", "no_data"),
    (2, "D", "P", "P", "", "denied"),
    (3, "L", "P", "X", "", "lost"),
    (3, "L", "-", "~", "", "lost"),
    (4, "L", "F", "-", "", "no_data"),
    (5, "-", "P", "-", "", "test_removed"),
    (5, "-", "-", "F", "", "test_removed"),
    (6, "-", "-", "-", "", "not_a_test"),
    (7, "P", "P", "P", "x", "xpass"),
    (8, "P", "P", "F", "", "pass"),
    (8, "P", "X", "P", "", "pass"),
    (9, "P", "~", "F", "", "pass"),
    (10, "P", "F", "F", "", "fixed"),
    (10, "P", "X", "F", "", "fixed"),
    (11, "P", "S", "X", "", "new_pass"),
    (11, "P", "X", "X", "", "new_pass"),
    (12, "s", "P", "F", "", "env_skip"),
    (12, "s", "~", "-", "", "env_skip"),
    (13, "S", "-", "P", "", "coverage_lost"),
    (14, "S", "F", "-", "", "coverage_changed"),
    (14, "s", "X", "F", "", "coverage_changed"),
    (15, "S", "-", "-", "", "skip"),
    (15, "s", "S", "X", "", "skip"),
    (16, "~", "~", "P", "", "flaky_known"),
    (16, "~", "F", "-", "", "flaky_known"),
    (17, "~", "P", "F", "", "flaky_new"),
    (17, "~", "-", "-", "", "flaky_new"),
    (18, "F", "P", "P", "ab", "regression"),
    (18, "K", "P", "P", "", "regression"),
    (19, "F", "F", "P", "a", "regression_vs_s9"),
    (19, "F", "X", "P", "", "regression_vs_s9"),
    (19, "T", "-", "P", "", "regression_vs_s9"),
    (20, "F", "P", "F", "b", "inherited_s9"),
    (21, "F", "P", "F", "", "regression_vs_512"),
    (21, "F", "P", "-", "b", "regression_vs_512"),
    (21, "K", "P", "X", "", "regression_vs_512"),
    (22, "F", "~", "F", "bw", "worse_than_flaky"),
    (23, "F", "~", "F", "b", "flaky_known"),
    (23, "F", "X", "~", "", "flaky_known"),
    (24, "F", "F", "F", "a", "known_baseline_failure"),
    (24, "F", "S", "F", "b", "known_baseline_failure"),
    (25, "F", "F", "F", "", "changed_failure"),
    (25, "F", "F", "S", "b", "changed_failure"),
    (26, "F", "X", "X", "", "no_basis"),
    (26, "F", "X", "S", "ab", "no_basis"),
    (27, "F", "S", "-", "", "exposed_failure"),
    (28, "F", "-", "-", "", "new_test_failing"),
    (28, "T", "-", "-", "ab", "new_test_failing"),
]


@pytest.mark.parametrize(("number", "candidate", "a", "b", "facts", "kind"), _ROWS)
def test_row(number: int, candidate: str, a: str, b: str, facts: str, kind: str) -> None:
    row = row_for(
        Facts(
            candidate=Standing(candidate),
            base_512=Standing(a),
            base_s9=Standing(b),
            same_512="a" in facts,
            same_s9="b" in facts,
            is_clearly_worse="w" in facts,
            is_expected_to_fail="x" in facts,
        )
    )
    assert (row.number, row.kind) == (number, ChangeKind(kind))


def test_each_row_has_a_test_of_its_own() -> None:
    assert {row[0] for row in _ROWS} == {row.number for row in TABLE}


def test_a_standing_that_the_table_does_not_know_is_refused() -> None:
    known = _EVERY[0][0]
    for wrong in (Standing.NOT_BUILT, Standing.UNKNOWN_OK):
        with pytest.raises(KeyError):
            row_for(
                Facts(
                    candidate=wrong,
                    base_512=known.base_512,
                    base_s9=known.base_s9,
                    same_512=False,
                    same_s9=False,
                    is_clearly_worse=False,
                    is_expected_to_fail=False,
                )
            )


def test_every_standing_leads_into_the_table() -> None:
    for ours, theirs in product(Standing, Standing):
        base = as_baseline(theirs, ours)
        assert base in BASELINE_STANDINGS
        assert as_candidate(ours, base, base) in CANDIDATE_STANDINGS


def test_what_was_not_built_is_a_failure_beside_a_baseline_that_passes() -> None:
    assert as_candidate(Standing.NOT_BUILT, Standing.PASS) is Standing.FAIL
    assert as_baseline(Standing.NOT_BUILT, Standing.NOT_BUILT) is Standing.FAIL
    assert as_baseline(Standing.NOT_BUILT, Standing.FAIL) is Standing.SKIP
    assert as_baseline(Standing.NOT_BUILT, Standing.PASS) is Standing.SKIP


def test_an_ok_that_may_be_a_skip_is_never_called_fixed() -> None:
    unsure = Standing.UNKNOWN_OK
    assert as_candidate(unsure, Standing.PASS, Standing.FAIL) is Standing.PASS
    assert as_candidate(unsure, unsure, Standing.FAIL) is Standing.PASS
    assert as_candidate(unsure, Standing.FAIL, Standing.FAIL) is Standing.SKIP
    assert as_candidate(unsure, Standing.NO_DATA, Standing.ABSENT) is Standing.SKIP


def test_a_failure_beside_an_ok_that_may_be_a_skip_blocks() -> None:
    assert as_baseline(Standing.UNKNOWN_OK, Standing.FAIL) is Standing.PASS
