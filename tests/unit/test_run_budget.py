"""Budgets by the guest's speed."""

import math

import pytest

from harness.model.case import CaseId
from harness.model.plan import PlannedCase
from harness.run.budget import Budgets, Limits, speed_of

CASE = PlannedCase(case=CaseId("bpf", ("test_progs", "x")), selector="1", budget_s=60.0)


@pytest.mark.parametrize(
    ("speed", "factor", "budget_s"),
    [(1, 1, 60), (0.5, 1, 120), (4, 1, 60), (1, 3, 180), (0.0001, 1, 1200), (1, 0.001, 5)],
)
def test_a_slow_guest_gets_more_and_a_fast_one_no_less(
    speed: float, factor: float, budget_s: float
) -> None:
    assert Budgets(speed=speed, factor=factor).of(CASE) == pytest.approx(budget_s)


def test_patience_grows_as_budgets_do() -> None:
    assert Budgets(speed=0.5, limits=Limits(answer_s=7)).patience_s == 14


@pytest.mark.parametrize("measured_ms", [0, -1, math.nan, math.inf])
def test_what_is_no_measure_says_nothing_of_the_speed(measured_ms: float) -> None:
    assert speed_of(measured_ms) == 1


def test_speed_is_over_the_reference() -> None:
    assert speed_of(2000) == 0.5
