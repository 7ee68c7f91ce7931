"""What a report says that rests on no single case: each thing once, where it belongs."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from harness.model.arch import Arch
from harness.model.change import Comparison, Finding, Gate, Weight
from harness.model.errors import ExitStatus, HarnessError
from harness.model.record import Incident, RunRecord
from harness.report.content import Section, SectionName, Statement
from harness.report.words import BASELINE_NAMES, joined

WEIGHT_SECTION: Mapping[Weight, SectionName] = MappingProxyType(
    {
        Weight.BLOCKS: SectionName.BLOCKS,
        Weight.INCONCLUSIVE: SectionName.UNKNOWN,
        Weight.WARNS: SectionName.NEW,
    }
)
"""Where a finding is told that is not waived; INFO has no place of its own."""


def statements_of(
    gate: Gate | None,
    comparisons: Sequence[Comparison],
    errors: Sequence[tuple[Arch, HarnessError]],
) -> dict[SectionName, tuple[Statement, ...]]:
    """What is to be said that rests on no single case, each thing once."""
    said: dict[SectionName, dict[str, Statement]] = {name: {} for name in SectionName}
    told_by: dict[str, HarnessError] = {}
    for arch, error in errors:
        finding = _finding_of_error(gate, arch, error)
        if finding is not None:
            told_by[finding.what] = error
            continue
        name = SectionName.BLOCKS if error.status is ExitStatus.REJECT else SectionName.UNKNOWN
        text = f"{arch}: {error}"
        said[name][text] = Statement(text=text, hint=error.hint, evidence=error.evidence)
    compared = {f"{change.arch} {change.case}" for item in comparisons for change in item.changes}
    for finding in gate.findings if gate else ():
        if not (finding.weight is Weight.INFO and finding.cases) and not (
            is_of_cases(finding) and set(finding.cases) & compared
        ):
            text, error_of = _finding_text(finding), told_by.get(finding.what)
            statement = Statement(
                text=text,
                hint=error_of.hint if error_of else "",
                evidence=error_of.evidence if error_of else (),
            )
            said[_section_of_finding(finding)].setdefault(text, statement)
    told = [finding.what for finding in (gate.findings if gate else ())]
    for item in comparisons:
        if item.refused and not any(item.refused in what for what in told):
            text = f"{item.arch} {item.suite}: {item.refused}"
            said[SectionName.UNKNOWN].setdefault(text, Statement(text=text))
    cells = [f"{item.arch} {item.suite}: " for item in comparisons]
    return {name: _merged(tuple(stated.values()), cells) for name, stated in said.items()}


def incidents_of(
    records: Sequence[RunRecord], sections: Sequence[Section]
) -> tuple[Statement, ...]:
    """What happened to guests, but for what a section has told already."""
    told = [statement.text for section in sections for statement in section.statements]
    return tuple(
        Statement(
            text=f"{record.world.arch}: {_incident_text(incident)}", evidence=incident.evidence
        )
        for record in records
        for incident in record.incidents
        if not any(
            text.startswith(str(record.world.arch)) and incident.what in text for text in told
        )
    )


def is_of_cases(finding: Finding) -> bool:
    """Whether its text says no more than its cases do: `3 cases fail that …`."""
    is_weighed = finding.weight in WEIGHT_SECTION
    return is_weighed and finding.what.startswith(f"{len(finding.cases)} case")


def _section_of_finding(finding: Finding) -> SectionName:
    if finding.waived_by or finding.weight not in WEIGHT_SECTION:
        return SectionName.KNOWN
    return WEIGHT_SECTION[finding.weight]


def _finding_of_error(gate: Gate | None, arch: Arch, error: HarnessError) -> Finding | None:
    """The finding that tells of the same thing, where the gate saw it in the record."""
    for finding in gate.findings if gate else ():
        if finding.what.startswith(str(arch)) and str(error) in finding.what:
            return finding
    return None


def _finding_text(finding: Finding) -> str:
    waived = f" (waived: {finding.waived_by})" if finding.waived_by else ""
    what = finding.what
    for role, name in BASELINE_NAMES.items():
        what = what.replace(f" {role} ", f" {name} ")
    return f"{what}{waived}"


def _merged(statements: Sequence[Statement], cells: Sequence[str]) -> tuple[Statement, ...]:
    """Say once what is so for several cells: `x86_64 bpf and aarch64 bpf: there is no …`."""
    by_rest: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for statement in statements:
        cell = next((cell for cell in cells if statement.text.startswith(cell)), "")
        rest = statement.text.removeprefix(cell)
        by_rest.setdefault((rest, statement.hint, statement.evidence), []).append(cell[:-2])
    return tuple(
        Statement(
            text=f"{joined(named)}: {rest}" if all(named) else rest, hint=hint, evidence=evidence
        )
        for (rest, hint, evidence), named in by_rest.items()
    )


def _incident_text(incident: Incident) -> str:
    return f"{incident.ending.value.replace('_', ' ')} during {incident.during}: {incident.what}"
