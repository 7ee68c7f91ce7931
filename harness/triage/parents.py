"""A test and its subtests: one failure is told once, and none is lost between the two."""

from collections.abc import Mapping, Sequence

from harness.model.case import CaseId
from harness.model.change import Side, Standing
from harness.triage.standing import BAD

_MAY_BE_HIDDEN = (Standing.FAIL, Standing.FLAKY)
_BAD_MARKS = (*BAD, Standing.LOST)


def children_of(sides: Mapping[CaseId, Side]) -> dict[CaseId, tuple[CaseId, ...]]:
    """Each test that has subtests, with them."""
    found: dict[CaseId, list[CaseId]] = {}
    for case in sides:
        if case.is_subtest:
            found.setdefault(case.parent, []).append(case)
    return {parent: tuple(children) for parent, children in found.items()}


def hidden_by_subtests(
    test: CaseId,
    sides: Mapping[CaseId, Side],
    children: Sequence[CaseId],
    others: Sequence[Mapping[CaseId, Side]],
) -> bool:
    """Whether a test fails only because its subtests do, and those are compared by themselves.

    `others` are the sides that know the test. Each must know every failing subtest: where one ran
    the test as a whole, the whole is what can be compared. A crash or a timeout is never hidden.
    """
    if not others or sides[test].standing not in _MAY_BE_HIDDEN:
        return False
    bad = [child for child in children if set(sides[child].marks) & set(_BAD_MARKS)]
    if not bad or not all(child in other for other in others for child in bad):
        return False
    return all(
        _is_explained(index, len(sides[test].marks), [sides[child].marks for child in bad])
        for index, mark in enumerate(sides[test].marks)
        if mark in _BAD_MARKS
    )


def _is_explained(index: int, attempts: int, child_marks: Sequence[str]) -> bool:
    """Whether a subtest failed in that attempt; one that did not show each time may have."""
    return any(len(marks) != attempts or marks[index] in _BAD_MARKS for marks in child_marks)
