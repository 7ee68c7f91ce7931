"""The gate: comparisons, a policy, waivers, known issues and a date become a decision.

Pure: the same files and the same date give the same decision for ever. Whatever is missing, damaged
or did not run is a reason against accepting; nothing is accepted by default.
"""

from collections.abc import Iterable, Sequence
from datetime import date

from harness.model.change import Comparison, Finding, Gate, Verdict, Weight
from harness.triage.exceptions import KnownIssue, Waiver
from harness.triage.gate_cases import case_findings, limit_findings
from harness.triage.gate_events import event_findings
from harness.triage.gate_structure import structure_findings
from harness.triage.policy import Policy

_ORDER = {weight: index for index, weight in enumerate(Weight)}
_RUNWAY_DAYS = 14


def gate(
    comparisons: Sequence[Comparison],
    policy: Policy,
    waivers: Sequence[Waiver],
    known_issues: Sequence[KnownIssue],
    today: date,
) -> Gate:
    """Decide. Findings come in the order of importance; a waived one keeps its weight and is last.

    Rejects when something that is not waived blocks; else is inconclusive when something cannot be
    told; accepts only when neither is so.
    """
    findings = [
        *structure_findings(comparisons, policy),
        *(
            finding
            for comparison in comparisons
            for finding in (
                *event_findings(comparison, policy, known_issues, today),
                *limit_findings(comparison, policy, waivers, known_issues, today),
            )
        ),
        *case_findings(comparisons, policy, waivers, known_issues, today),
        *_calendar_findings(comparisons, waivers, known_issues, today),
    ]
    ordered = in_order(findings)
    return Gate(verdict=verdict_of(ordered), policy=policy.name, findings=ordered)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings in the order of importance, those that are waived last."""
    return tuple(sorted(findings, key=_importance))


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """The decision that findings lead to; a waived finding does not count."""
    weights = {finding.weight for finding in findings if not finding.waived_by}
    if Weight.BLOCKS in weights:
        return Verdict.REJECT
    return Verdict.INCONCLUSIVE if Weight.INCONCLUSIVE in weights else Verdict.ACCEPT


def _importance(finding: Finding) -> tuple[bool, int, int]:
    return bool(finding.waived_by), _ORDER[finding.weight], -len(finding.cases)


def _calendar_findings(
    comparisons: Sequence[Comparison],
    waivers: Sequence[Waiver],
    known_issues: Sequence[KnownIssue],
    today: date,
) -> Iterable[Finding]:
    """What has lapsed and is still needed, what lapses soon, and what is for nothing any more."""
    items: list[Waiver | KnownIssue] = [*waivers, *known_issues]
    for item in items:
        cases = _cases_of(item, comparisons)
        days = (item.until - today).days
        if days < 0 and cases:
            yield Finding(
                weight=Weight.WARNS,
                rule="lapsed",
                what=f"the {item.name} has lapsed: its cases count again",
                cases=cases,
            )
        elif days < 0:
            yield _note("lapsed", f"the {item.name} has lapsed and is for nothing: remove it")
        elif days <= _RUNWAY_DAYS:
            yield _note("lapses_soon", f"the {item.name} lapses in {days} day(s)", cases)
        elif isinstance(item, Waiver) and not cases:
            yield _note("unused", f"the {item.name} is for nothing in these results")


def _cases_of(item: Waiver | KnownIssue, comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    return tuple(
        f"{change.arch} {change.case}"
        for comparison in comparisons
        for change in comparison.changes
        if (
            item.is_for(change, comparison.kernel)
            if isinstance(item, Waiver)
            else item.is_for(change, comparison.accel)
        )
    )


def _note(rule: str, what: str, cases: tuple[str, ...] = ()) -> Finding:
    return Finding(weight=Weight.INFO, rule=rule, what=what, cases=cases)
