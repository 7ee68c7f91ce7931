"""The report as JUnit XML: what blocks is a failure, what cannot be told is an error.

A class is a program on an architecture, `bpf.test_progs.aarch64`; a case keeps its name. Readers
keep the first of two cases of one name only, so each name is there once.
"""

import shlex
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence

from harness.model.arch import Arch
from harness.model.case import CaseRecord, Outcome
from harness.model.record import RunRecord
from harness.model.text import inert, inert_line
from harness.report.content import Entry, Report, SectionName
from harness.report.words import BAD_OUTCOMES, OUTCOME_WORDS, kind_words

_NODE_CHARACTERS = 16_000  # readers refuse larger nodes
_MESSAGE_CHARACTERS = 300
_NOT_RUN = frozenset({Outcome.SKIP, Outcome.DENIED, Outcome.NOT_BUILT, Outcome.XFAIL})
_ELEMENTS = {
    SectionName.BLOCKS: "failure",
    SectionName.UNKNOWN: "error",
    SectionName.NEW: "skipped",
    SectionName.KNOWN: "skipped",
}
_Placed = Mapping[tuple[Arch, str], tuple[SectionName, Entry]]


def junit_text(report: Report, records: Sequence[RunRecord]) -> str:
    """Return the XML of a report and of the records that it was made from."""
    placed = {
        (entry.arch, entry.case): (section.name, entry)
        for section in report.sections
        for group in section.groups
        for entry in group.entries
    }
    root = ET.Element("testsuites", name="kernel-harness")
    for record in records:
        root.append(_suite(record, placed, report))
    if any(section.statements for section in report.sections):
        root.append(_statements(report))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False).join(
        ('<?xml version="1.0" encoding="UTF-8"?>\n', "\n")
    )


def _suite(record: RunRecord, placed: _Placed, report: Report) -> ET.Element:
    arch = record.world.arch
    suite = ET.Element(
        "testsuite",
        name=f"{record.suite}.{arch}",
        timestamp=record.started_utc.removesuffix("Z"),
        time=f"{record.duration_s:.3f}",
    )
    properties = ET.SubElement(suite, "properties")
    for name in ("kernel_release", "selftests_source", "accel", "qemu_version", "compiler"):
        value = inert_line(str(getattr(record.world, name)))
        ET.SubElement(properties, "property", name=name, value=value)
    for case in record.cases:
        suite.append(_case(arch, case, placed.get((arch, str(case.case))), report))
    _make_names_unique(suite)
    _count(suite)
    return suite


def _make_names_unique(suite: ET.Element) -> None:
    seen: dict[tuple[str, str], int] = {}
    for case in suite.findall("testcase"):
        key = (case.attrib["classname"], case.attrib["name"])
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > 1:
            case.set("name", f"{key[1]} ({seen[key]})")


def _case(
    arch: Arch, case: CaseRecord, found: tuple[SectionName, Entry] | None, report: Report
) -> ET.Element:
    last = case.attempts[-1]
    program, *rest = case.case.path
    element = ET.Element(
        "testcase",
        classname=inert_line(f"{case.case.suite}.{program}.{arch}"),
        name=inert_line("/".join(rest)) or program,
        time=f"{last.duration_s or 0:.3f}",
    )
    if found is not None and found[0] in _ELEMENTS:
        _add_entry(element, *found, report)
    elif last.outcome in BAD_OUTCOMES:
        # No comparison speaks of it: it is told as it is.
        _add(element, "failure", f"{OUTCOME_WORDS[last.outcome]}: {last.detail}", last.detail)
    elif last.outcome in _NOT_RUN:
        _add(element, "skipped", f"{OUTCOME_WORDS[last.outcome]}: {last.detail}", "")
    return element


def _add_entry(element: ET.Element, section: SectionName, entry: Entry, report: Report) -> None:
    reason = kind_words(entry.kind, entry.tags)
    if entry.waived_by:
        reason = f"waived: {entry.waived_by}; {reason}"
    ours, base_512, base_s9 = entry.sides
    lines = [
        f"candidate {ours} | 5.12 {base_512} | Stream 9 {base_s9}",
        entry.detail,
        f"log: {entry.log}, from byte {entry.log_offset_b}" if entry.log else "",
        f"again: {shlex.join(report.command((entry.arch,), entry.case))}",
    ]
    _add(element, _ELEMENTS[section], reason, "\n".join(filter(None, lines)))


def _statements(report: Report) -> ET.Element:
    """What rests on no case, as cases of a suite of its own: a reader must not miss it."""
    suite = ET.Element("testsuite", name="harness")
    for section in report.sections:
        for statement in section.statements:
            name = inert_line(statement.text, _MESSAGE_CHARACTERS)
            case = ET.SubElement(suite, "testcase", classname="harness.run", name=name, time="0")
            element = _ELEMENTS.get(section.name, "skipped")
            text = "\n".join((*statement.evidence, *filter(None, (statement.hint,))))
            _add(case, element, statement.text, text)
    _count(suite)
    return suite


def _add(element: ET.Element, tag: str, message: str, text: str) -> None:
    child = ET.SubElement(element, tag, message=inert_line(message, _MESSAGE_CHARACTERS))
    if text:
        child.text = inert(text)[:_NODE_CHARACTERS]


def _count(suite: ET.Element) -> None:
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(sum(case.find(tag) is not None for case in cases)))
