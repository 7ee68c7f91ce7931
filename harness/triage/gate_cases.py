"""What the gate makes of the cases: one finding for each rule, cause and excuse."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from harness.model.change import Change, Comparison, Finding, Weight
from harness.triage.cause import UNEXPLAINED
from harness.triage.exceptions import KnownIssue, Waiver
from harness.triage.gate_structure import cell_text
from harness.triage.policy import CaseRule, Policy


@dataclass(frozen=True, slots=True)
class _Group:
    """What cases must share to be told together."""

    rule: CaseRule
    cause: str
    waived_by: str


def case_findings(
    comparisons: Sequence[Comparison],
    policy: Policy,
    waivers: Sequence[Waiver],
    known_issues: Sequence[KnownIssue],
    today: date,
) -> Iterable[Finding]:
    """Weigh each change by the first rule that fits; what a rule calls ok is not told."""
    waivers = [waiver for waiver in waivers if today <= waiver.until]
    issues = [issue for issue in known_issues if today <= issue.until]
    groups: dict[_Group, list[str]] = {}
    for comparison in comparisons:
        for change in comparison.changes:
            rule = policy.rule_for(change, comparison.accel)
            if rule.weight is Weight.OK:
                continue
            excuse = _excuse(change, comparison, waivers, issues)
            group = _Group(rule, change.cause, excuse)
            groups.setdefault(group, []).append(f"{change.arch} {change.case}")
    for group, cases in groups.items():
        yield _finding(group, cases)


def _excuse(
    change: Change,
    comparison: Comparison,
    waivers: Sequence[Waiver],
    issues: Sequence[KnownIssue],
) -> str:
    """Who excuses a change; all of them, so that one may be taken away and nothing surprises."""
    names = [waiver.name for waiver in waivers if waiver.is_for(change, comparison.kernel)]
    names += [issue.name for issue in issues if issue.is_for(change, comparison.accel)]
    return "; ".join(names)


def _finding(group: _Group, cases: Sequence[str]) -> Finding:
    count = f"{len(cases)} case{'' if len(cases) == 1 else 's'}"
    cause = f" ({group.cause})" if group.cause not in ("", UNEXPLAINED) else ""
    return Finding(
        weight=group.rule.weight,
        rule=group.rule.name,
        what=f"{count} {group.rule.what}{cause}",
        cases=tuple(cases),
        waived_by=group.waived_by,
    )


def limit_findings(
    comparison: Comparison,
    policy: Policy,
    waivers: Sequence[Waiver],
    known_issues: Sequence[KnownIssue],
    today: date,
) -> Iterable[Finding]:
    """Kinds of which a few are normal and many mean that something else is wrong."""
    waivers = [waiver for waiver in waivers if today <= waiver.until]
    issues = [issue for issue in known_issues if today <= issue.until]
    total = len(comparison.changes)
    for limit in policy.limit:
        cases = tuple(
            f"{change.arch} {change.case}"
            for change in comparison.changes
            if change.kind in limit.kinds and not _excuse(change, comparison, waivers, issues)
        )
        if len(cases) >= limit.at_least and len(cases) / total > limit.max_share:
            yield Finding(
                weight=limit.weight,
                rule=limit.name,
                what=f"{cell_text(comparison)}: {len(cases)} of {total} cases {limit.what}",
                cases=cases,
            )
