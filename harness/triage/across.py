"""What only shows when the comparisons of all architectures lie side by side."""

from collections.abc import Sequence
from dataclasses import replace

from harness.model.arch import AccelKind, Arch
from harness.model.case import CaseId
from harness.model.change import Change, Comparison, Standing
from harness.triage.cause import CauseTable
from harness.triage.standing import BAD


def tag_across(
    comparisons: Sequence[Comparison], causes: CauseTable
) -> tuple[Comparison, ...]:  # fmt: skip
    """Return the comparisons with `arch_only` and `accel_suspect` where they hold.

    `arch_only`: the case fails here and passes on another architecture. `accel_suspect`: it fails
    in an emulated guest by a timeout or for a reason that the machine gives.
    """
    passing = {
        (change.arch, change.case)
        for comparison in comparisons
        for change in comparison.changes
        if change.candidate.standing is Standing.PASS
    }
    environmental = {cause.id for cause in causes.causes if cause.is_environmental}
    return tuple(
        replace(
            comparison,
            changes=tuple(
                _tagged(change, comparison, passing, environmental) for change in comparison.changes
            ),
        )
        for comparison in comparisons
    )


def _tagged(
    change: Change,
    comparison: Comparison,
    passing: set[tuple[Arch, CaseId]],
    environmental: set[str],
) -> Change:
    if change.candidate.standing not in BAD:
        return change
    tags = set(change.tags)
    if any((other, change.case) in passing for other in Arch if other is not change.arch):
        tags.add("arch_only")
    is_suspect = change.cause in environmental or "timeout" in tags
    if comparison.accel is AccelKind.TCG and is_suspect:
        tags.add("accel_suspect")
    return replace(change, tags=tuple(sorted(tags))) if tags != set(change.tags) else change
