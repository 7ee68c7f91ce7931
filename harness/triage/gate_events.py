"""What the gate makes of things that happened to a run and not to a case: deaths, complaints."""

from collections.abc import Iterable, Sequence
from datetime import date

from harness.model.change import Comparison, Finding, SplatChange, Standing, Weight
from harness.model.record import Ending, Incident
from harness.triage.exceptions import KnownIssue
from harness.triage.gate_structure import cell_text
from harness.triage.policy import Policy

_ENDING_WEIGHTS: dict[Ending, Weight] = {
    Ending.COMPLETED: Weight.OK,
    Ending.PANICKED: Weight.BLOCKS,
    Ending.REBOOTED: Weight.BLOCKS,
    Ending.HUNG: Weight.BLOCKS,
    Ending.NEVER_BOOTED: Weight.BLOCKS,
    Ending.POWERED_OFF: Weight.INCONCLUSIVE,
    Ending.NEVER_STARTED: Weight.INCONCLUSIVE,
    Ending.QEMU_DIED: Weight.INCONCLUSIVE,
    Ending.KILLED: Weight.INCONCLUSIVE,
}
"""Of a guest's death that no case answers for."""
_ANSWERS = (Standing.CRASH, Standing.TIMEOUT, Standing.LOST, Standing.NO_DATA, Standing.FLAKY)


def event_findings(
    comparison: Comparison,
    policy: Policy,
    known_issues: Sequence[KnownIssue],
    today: date,
) -> Iterable[Finding]:
    """Guests that died, the kernel's complaints, capabilities that went away."""
    if comparison.refused:
        return
    answering = {
        str(change.case) for change in comparison.changes if change.candidate.standing in _ANSWERS
    }
    for incident in comparison.incidents:
        yield from _incident_findings(comparison, incident, answering)
    active = [issue for issue in known_issues if today <= issue.until]
    crashed = {
        str(change.case)
        for change in comparison.changes
        if change.candidate.standing is Standing.CRASH
    }
    for splat in comparison.splats:
        if splat.splat.during not in crashed:  # there it is the crash's evidence
            yield _splat_finding(comparison, splat, policy, active)
    for name in dict.fromkeys(name for name, _ in comparison.lost_capabilities):
        roles = " and ".join(role for own, role in comparison.lost_capabilities if own == name)
        yield Finding(
            weight=Weight.BLOCKS,
            rule="capability_lost",
            what=f"{cell_text(comparison)}: the kernel cannot do {name}, and {roles} can",
        )


def _incident_findings(
    comparison: Comparison, incident: Incident, answering: set[str]
) -> Iterable[Finding]:
    weight = _ENDING_WEIGHTS[incident.ending]
    if weight is Weight.OK or incident.during in answering:
        return
    ending = str(incident.ending).replace("_", " ")
    yield Finding(
        weight=weight,
        rule="boot" if incident.ending is Ending.NEVER_BOOTED else "guest_death",
        what=f"{cell_text(comparison)}: the guest {ending} during {incident.during}: "
        f"{incident.what}",
    )


def _splat_finding(
    comparison: Comparison, change: SplatChange, policy: Policy, active: Sequence[KnownIssue]
) -> Finding:
    splat = change.splat
    rule = policy.splat_rule_for(splat.kind, comparison.accel)
    known = [role for role, has in (("5.12", change.in_512), ("Stream 9", change.in_s9)) if has]
    issues = [
        issue.name
        for issue in active
        if issue.is_for_splat(splat, comparison.arch, comparison.accel)
    ]
    tail = f"; {' and '.join(known)} complain(s) of it too" if known else ""
    tail += "" if splat.is_whole else "; its text is cut or mixed with another's"
    return Finding(
        weight=Weight.INFO if known else rule.weight,
        rule=rule.name,
        what=f"{cell_text(comparison)}: {splat.title} (during {splat.during}){tail}",
        waived_by="; ".join(issues),
    )
