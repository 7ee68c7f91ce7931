"""Attempts become one standing: no crash is cleared, no pass is made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.case import Attempt, CaseId, CaseRecord, Outcome
from harness.model.change import Side, Standing
from harness.suites.base import UNSURE_OK
from harness.triage.standing import (
    UNSURE_WORD,
    fisher,
    is_clearly_worse,
    is_same_failure,
    standing_of,
)
from tests.unit.store_samples import attempts

_CASE = CaseId("bpf", ("test_progs", "a"))


def _entry(marks: str, **facts: object) -> CaseRecord:
    return CaseRecord(case=_CASE, attempts=attempts(marks, **facts))


@pytest.mark.parametrize(
    ("marks", "standing"),
    [
        ("P", "P"),
        ("x", "P"),
        ("F", "F"),
        ("T", "T"),
        ("K", "K"),
        ("L", "L"),
        ("D", "D"),
        ("N", "N"),
        ("S", "S"),
        ("FP", "~"),
        ("TP", "~"),
        ("LP", "~"),
        ("FFP", "~"),
        ("KP", "K"),
        ("KPP", "K"),
        ("PK", "K"),
        ("FK", "K"),
        ("FT", "F"),
        ("TT", "T"),
        ("SF", "F"),
        ("SP", "P"),
    ],
)
def test_a_candidates_attempts(marks: str, standing: str) -> None:
    assert standing_of(_entry(marks)).standing == standing


@pytest.mark.parametrize(
    ("marks", "standing"),
    [
        ("PPPPP", "P"),
        ("PPPPF", "P"),
        ("PPPPK", "P"),
        ("PPPFF", "~"),
        ("PPFFF", "~"),
        ("PFFFF", "F"),
        ("PKFFF", "K"),
        ("FFFFF", "F"),
        ("TTTTT", "T"),
        ("SSSSS", "S"),
        ("PPPSS", "P"),
        ("P", "P"),
        ("PF", "~"),
        ("PPP", "~"),
        ("PPPP", "P"),
        ("F", "F"),
    ],
)
def test_a_baselines_attempts_in_five_runs(marks: str, standing: str) -> None:
    repetitions = len(marks) if len(marks) < 3 else 5
    side = standing_of(_entry(marks), is_baseline=True, repetitions=repetitions)
    assert side.standing == standing
    assert len(side.marks) == repetitions


def test_a_lost_case_of_a_run_that_was_stopped_is_no_data() -> None:
    assert standing_of(_entry("L"), is_complete=False).standing is Standing.NO_DATA
    assert standing_of(_entry("L")).standing is Standing.LOST


def test_an_ok_that_may_be_a_skip_is_not_a_pass() -> None:
    assert UNSURE_WORD == UNSURE_OK
    assert standing_of(_entry("P", raw=UNSURE_OK)).standing is Standing.UNKNOWN_OK
    unsure = standing_of(_entry("PPPPP", raw=UNSURE_OK), is_baseline=True, repetitions=5)
    assert unsure.standing is Standing.UNKNOWN_OK


def test_a_skip_for_the_machines_sake_is_told_from_one_for_the_kernels() -> None:
    entry = _entry("S", detail="no PMU")
    side = standing_of(entry, is_environment=lambda attempt: "PMU" in attempt.detail)
    assert side.standing is Standing.SKIP_ENV


def test_the_commonest_failure_stands_for_all() -> None:
    entry = CaseRecord(
        case=_CASE,
        attempts=(
            Attempt(outcome=Outcome.FAIL, signature="c1:a", detail="first"),
            Attempt(outcome=Outcome.FAIL, signature="c1:b", detail="second"),
            Attempt(outcome=Outcome.FAIL, signature="c1:b", detail="third"),
        ),
    )
    side = standing_of(entry)
    assert (side.signature, side.detail, side.marks) == ("c1:b", "second", "FFF")


def test_a_failure_is_the_same_only_when_each_attempt_is_known_there() -> None:
    known = _entry("FF", signature="c1:a")
    assert is_same_failure(_entry("F", signature="c1:a"), known)
    assert not is_same_failure(_entry("F", signature="c1:b"), known)
    both = CaseRecord(
        case=_CASE, attempts=attempts("F", signature="c1:a") + attempts("K", signature="k1:x")
    )
    assert not is_same_failure(both, known)
    assert is_same_failure(known, both)


@pytest.mark.parametrize("signature", ["", "kx:1"])
def test_a_failure_without_a_signature_or_with_a_damaged_one_is_never_the_same(
    signature: str,
) -> None:
    assert not is_same_failure(_entry("F", signature=signature), _entry("F", signature=signature))


@pytest.mark.parametrize(
    ("candidate", "baseline", "expected"),
    [
        ((0, 1), (1, 1), 0.5),
        ((0, 2), (5, 5), 0.0476),
        ((0, 3), (3, 3), 0.05),
        ((1, 3), (3, 3), 0.2),
    ],
)
def test_fishers_test_gives_the_known_figures(
    candidate: tuple[int, int], baseline: tuple[int, int], expected: float
) -> None:
    assert fisher(candidate, baseline) == pytest.approx(expected, abs=0.001)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_fishers_test_is_a_probability(passes: int, fails: int, base_p: int, base_f: int) -> None:
    p = fisher((passes, passes + fails), (base_p, base_p + base_f))
    assert 0 <= p <= 1 + 1e-9


def test_only_many_failures_are_clearly_worse_than_a_flaky_baseline() -> None:
    flaky = Side(standing=Standing.FLAKY, marks="PPPFP" * 4)
    assert not is_clearly_worse(Side(standing=Standing.FAIL, marks="F"), flaky)
    assert is_clearly_worse(Side(standing=Standing.FAIL, marks="FFF"), flaky)


@given(st.text("PxFTKLSDN", min_size=1, max_size=8))
def test_a_crash_or_a_lone_failure_is_never_a_pass(marks: str) -> None:
    standing = standing_of(_entry(marks)).standing
    if "K" in marks:
        assert standing is Standing.CRASH
    if standing is Standing.PASS:
        assert not set(marks) & set("FTKL")
        assert set(marks) & set("Px")
