"""Puts a report together: findings and changes into sections, cases into groups by cause."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from harness.model.arch import Arch
from harness.model.case import CaseId, LogSpan, Outcome
from harness.model.change import (
    Change,
    ChangeKind,
    Comparison,
    Finding,
    Gate,
    Verdict,
)
from harness.model.errors import HarnessError
from harness.model.record import RunRecord
from harness.report.content import (
    CauseText,
    Difference,
    Entry,
    Group,
    Report,
    Section,
    SectionName,
    Totals,
)
from harness.report.statements import WEIGHT_SECTION, incidents_of, is_of_cases, statements_of
from harness.report.words import BASELINE_NAMES, counted, joined, side_words
from harness.triage.cause import UNEXPLAINED, CauseTable

# "6.1.0-37-arm64", "5.14.0-600.hs1.el9.x86_64": what differs between packages of one kernel
_ARCH_SUFFIX = re.compile(r"[-.](?:amd64|arm64|x86_64|aarch64)$")

_KIND_SECTION: Mapping[ChangeKind, SectionName] = MappingProxyType(
    {
        ChangeKind.LOST: SectionName.BLOCKS,
        ChangeKind.REGRESSION: SectionName.BLOCKS,
        ChangeKind.REGRESSION_VS_S9: SectionName.BLOCKS,
        ChangeKind.REGRESSION_VS_512: SectionName.BLOCKS,
        ChangeKind.WORSE_THAN_FLAKY: SectionName.BLOCKS,
        ChangeKind.NO_DATA: SectionName.UNKNOWN,
        ChangeKind.NO_BASIS: SectionName.UNKNOWN,
        ChangeKind.XPASS: SectionName.NEW,
        ChangeKind.COVERAGE_LOST: SectionName.NEW,
        ChangeKind.FLAKY_NEW: SectionName.NEW,
        ChangeKind.CHANGED_FAILURE: SectionName.NEW,
        ChangeKind.EXPOSED_FAILURE: SectionName.NEW,
        ChangeKind.NEW_TEST_FAILING: SectionName.NEW,
        ChangeKind.TEST_REMOVED: SectionName.NEW,
        ChangeKind.FIXED: SectionName.FIXED,
        ChangeKind.INHERITED_S9: SectionName.KNOWN,
        ChangeKind.KNOWN_BASELINE_FAILURE: SectionName.KNOWN,
        ChangeKind.FLAKY_KNOWN: SectionName.KNOWN,
    }
)
"""Where a change is told that no finding speaks of; kinds that are not here are only counted."""


def cause_texts(table: CauseTable) -> dict[str, CauseText]:
    """What people wrote about causes, by id."""
    return {cause.id: CauseText(title=cause.title, advice=cause.hint) for cause in table.causes}


def build_report(
    gate: Gate | None,
    comparisons: Sequence[Comparison],
    records: Sequence[RunRecord],
    *,
    errors: Sequence[tuple[Arch, HarnessError]] = (),
    causes: Mapping[str, CauseText] = MappingProxyType({}),
    run_folder: str = "",
    kernel_args: tuple[str, ...] = (),
    program: str = "harness",
) -> Report:
    """Put together what is to be said.

    `records` are the candidate's, one a cell; `errors` tell what kept a cell from its plan's end.
    `run_folder` is the run's folder as the person may type it, "" when the records are elsewhere;
    `program` is the harness as the person calls it.
    """
    placed = _place(gate, comparisons, _spans(records))
    stated = statements_of(gate, comparisons, errors)
    present = tuple(
        Section(name=name, statements=stated[name], groups=_groups(placed[name], causes))
        for name in SectionName
        if stated[name] or placed[name]
    )
    totals = tuple(_totals(record) for record in records)
    return Report(
        verdict=gate.verdict if gate else None,
        policy=gate.policy if gate else "",
        headline=_headline(gate, present, totals),
        run_id=records[0].run_id if records else "",
        run_folder=run_folder,
        kernel_args=kernel_args,
        program=program,
        sections=present,
        differences=tuple(
            Difference(arch=item.arch, suite=item.suite, field=field, sides=(ours, a, b))
            for item in comparisons
            for field, ours, a, b in item.world_differences
        ),
        incidents=incidents_of(records, present),
        denied=_denied(records),
        totals=totals,
    )


# -- which case stands where ---------------------------------------------------------------------

_Placed = dict[SectionName, list[tuple[Entry, str]]]
"""For each section its entries, each with the key of its group."""
_BY_SUBTESTS = "by_subtests"  # the comparison's tag


def _place(
    gate: Gate | None,
    comparisons: Sequence[Comparison],
    spans: Mapping[tuple[Arch, str], tuple[str, LogSpan]],
) -> _Placed:
    weighed = [finding for finding in (gate.findings if gate else ()) if is_of_cases(finding)]
    finding_of = _first_finding_of_case(weighed)
    placed: _Placed = {name: [] for name in SectionName}
    for comparison in comparisons:
        for change in comparison.changes:
            finding = finding_of.get(f"{change.arch} {change.case}")
            section = _section_of(change, finding)
            if section is not None:
                span = spans.get((change.arch, str(change.case)))
                entry = _entry(change, finding, span, comparison.missing_baselines)
                placed[section].append((entry, _group_key(change)))
    return {name: _with_subtests(entries) for name, entries in placed.items()}


def _with_subtests(placed: list[tuple[Entry, str]]) -> list[tuple[Entry, str]]:
    """Put a test that fails through its subtests into the first subtest's group."""
    keys: dict[tuple[Arch, str], str] = {}
    for entry, key in placed:
        keys.setdefault((entry.arch, str(CaseId.parse(entry.case).parent)), key)
    found = []
    for entry, key in placed:
        if _BY_SUBTESTS in entry.tags and (entry.arch, entry.case) in keys:
            told = dataclasses.replace(entry, is_told_by_subtests=True)
            found.append((told, keys[entry.arch, entry.case]))
        else:
            found.append((entry, key))
    return found


def _first_finding_of_case(findings: Iterable[Finding]) -> dict[str, Finding]:
    """For each case the weightiest finding that rests on it; waived ones weigh least."""
    order = list(WEIGHT_SECTION)
    found: dict[str, Finding] = {}
    for finding in sorted(
        findings, key=lambda finding: (bool(finding.waived_by), order.index(finding.weight))
    ):
        for case in finding.cases:
            found.setdefault(case, finding)
    return found


def _section_of(change: Change, finding: Finding | None) -> SectionName | None:
    if finding is None:
        return _KIND_SECTION.get(change.kind)
    if finding.waived_by:
        return SectionName.KNOWN
    section = WEIGHT_SECTION[finding.weight]
    if section is SectionName.NEW:  # a warning may be about what is known, as an inherited failure
        own = _KIND_SECTION.get(change.kind)
        return own if own in (SectionName.KNOWN, SectionName.FIXED) else section
    return section


def _entry(
    change: Change,
    finding: Finding | None,
    span: tuple[str, LogSpan] | None,
    missing: tuple[str, ...],
) -> Entry:
    cell, log = span or ("", None)
    role_512, role_s9 = BASELINE_NAMES
    return Entry(
        arch=change.arch,
        case=str(change.case),
        kind=change.kind,
        sides=(
            side_words(change.candidate),
            "no baseline" if role_512 in missing else side_words(change.base_512),
            "no baseline" if role_s9 in missing else side_words(change.base_s9),
        ),
        detail=change.candidate.detail,
        explanation=change.explanation,
        tags=change.tags,
        log=f"{cell}/{log.log}" if log else "",
        log_offset_b=log.begin_b if log else 0,
        waived_by=finding.waived_by if finding else "",
    )


def _group_key(change: Change) -> str:
    """The cause's id, else the signature behind a mark that no id has, else ""."""
    if change.cause and change.cause != UNEXPLAINED:
        return change.cause
    return f"\0{change.candidate.signature}" if change.candidate.signature else ""


def _is_lonely(key: str, entries: Sequence[Entry]) -> bool:
    """Whether a signature joins nothing: the same case on two architectures is one case."""
    told = {entry.case for entry in entries if not entry.is_told_by_subtests}
    return key.startswith("\0") and len(told) == 1


def _spans(records: Sequence[RunRecord]) -> dict[tuple[Arch, str], tuple[str, LogSpan]]:
    """For each case with a log its cell's folder and the span of its last attempt that is bad."""
    found: dict[tuple[Arch, str], tuple[str, LogSpan]] = {}
    for record in records:
        cell = f"{record.world.arch}-{record.suite}"
        for case in record.cases:
            for attempt in case.attempts:
                if attempt.log is not None and attempt.outcome is not Outcome.PASS:
                    found[record.world.arch, str(case.case)] = (cell, attempt.log)
    return found


# -- sections ------------------------------------------------------------------------------------


def _groups(
    placed: Sequence[tuple[Entry, str]], causes: Mapping[str, CauseText]
) -> tuple[Group, ...]:
    """Cases by cause, the largest group first; cases that nothing joins come last, together."""
    by_key: dict[str, list[Entry]] = {}
    for entry, key in placed:
        by_key.setdefault(key, []).append(entry)
    alone = by_key.pop("", [])
    for key in [key for key, entries in by_key.items() if _is_lonely(key, entries)]:
        alone += by_key.pop(key)
    groups = [_group(key, entries, causes) for key, entries in by_key.items()]
    groups.sort(key=lambda group: (-len(group.entries), group.title))
    if alone:
        title = "Each for a reason of its own" if groups else ""
        groups.append(Group(title=title, advice="", entries=_sorted(alone)))
    return tuple(groups)


def _group(key: str, entries: list[Entry], causes: Mapping[str, CauseText]) -> Group:
    if key.startswith("\0"):
        return Group(title="The same failure", advice="", entries=_sorted(entries))
    text = causes.get(key, CauseText(title=key.replace("_", " ")))
    return Group(title=text.title, advice=text.advice, entries=_sorted(entries))


def _sorted(entries: list[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: (entry.case, entry.arch)))


# -- figures and the line at the top -------------------------------------------------------------


def _totals(record: RunRecord) -> Totals:
    counts = dict.fromkeys(Outcome, 0)
    for case in record.cases:
        counts[case.attempts[-1].outcome] += 1
    return Totals(
        arch=record.world.arch,
        suite=record.suite,
        profile=record.profile,
        accel=record.world.accel,
        release=record.world.kernel_release,
        outcomes=counts,
        duration_s=record.duration_s,
        complete=record.complete,
    )


def _denied(records: Sequence[RunRecord]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for record in records:
        for reason in record.denied.values():
            counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _headline(gate: Gate | None, sections: Sequence[Section], totals: Sequence[Totals]) -> str:
    releases = list(dict.fromkeys(_ARCH_SUFFIX.sub("", item.release) for item in totals))
    kernel = f"kernel {joined(releases)}" if releases else "the kernel"
    if gate is None:
        return f"{kernel} ran; no gate has judged it"
    match gate.verdict:
        case Verdict.ACCEPT:
            arches = joined(list(dict.fromkeys(str(item.arch) for item in totals)))
            return f"{kernel} may be released on {arches or 'no architecture'}"
        case Verdict.REJECT:
            return f"{kernel} must not be released: {_reasons(sections, SectionName.BLOCKS)}"
        case Verdict.INCONCLUSIVE:
            return f"if {kernel} may be released: {_reasons(sections, SectionName.UNKNOWN)}"


def _reasons(sections: Sequence[Section], name: SectionName) -> str:
    """How much a verdict rests on; what it is stands below, first of all."""
    section = next((section for section in sections if section.name is name), None)
    if section is None:
        return "the gate gives no reason"
    parts = [counted(len(section.statements), "reason")] if section.statements else []
    parts += [counted(section.case_count, "case")] if section.case_count else []
    return ", ".join(parts)
