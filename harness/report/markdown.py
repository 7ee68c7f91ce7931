"""The report as Markdown, for a job's summary page: worst first, and never over a size."""

import re
import shlex
from collections.abc import Iterator, Sequence

from harness.model.arch import Arch
from harness.model.text import inert_line
from harness.report.content import Entry, Group, Report, Row, Section, SectionName, Statement
from harness.report.words import (
    ACCEL_WORDS,
    OUTCOME_WORDS,
    VERDICT_WORDS,
    counted,
    duration_text,
    field_word,
    kind_words,
)

LIMIT_B = 900_000
"""Summary pages hold 1 MiB."""
_ROWS = 100  # of one group
_DETAIL_CHARACTERS = 300
_BACKTICKS = re.compile("`+")
# What Markdown, HTML and the autolinks of forges read something into: "@name", "#12", "<b>".
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~@&])")


def markdown_text(report: Report, *, limit_b: int = LIMIT_B) -> str:
    """Return the report; lines that go beyond `limit_b` are left out, and it says so."""
    lines: list[str] = []
    size_b = 0
    for line in _lines(report):
        size_b += len(line.encode()) + 1
        if size_b > limit_b:
            lines.append(f"\n*Cut here: `{report.program} report --format html` has all of it.*")
            break
        lines.append(line)
    return "\n".join(lines) + "\n"


def _lines(report: Report) -> Iterator[str]:
    word, status = VERDICT_WORDS[report.verdict] if report.verdict else ("NOT JUDGED", 0)
    yield f"# {word}: {_words(report.headline)}"
    yield ""
    facts = [f"exit status {status}"] if report.verdict else []
    facts += [f"policy {_code(report.policy)}"] if report.policy else []
    facts += [f"run {_code(report.run_id)}"] if report.run_id else []
    yield ", ".join(facts)
    for section in report.sections:
        yield from _section(section, report)
    if report.incidents:
        yield from ("", "## What happened to the guests", "")
        for statement in report.incidents:
            yield from _statement(statement)
    yield from _differences(report)
    yield from _totals(report)
    for reason, number in report.denied.items():
        yield f"- left out: {counted(number, 'case')}: {_words(reason)}"


def _section(section: Section, report: Report) -> Iterator[str]:
    cases = section.case_count
    yield ""
    yield f"## {section.name.value}" + (f" ({counted(cases, 'case')})" if cases else "")
    if section.statements:
        yield ""
    for statement in section.statements:
        yield from _statement(statement)
    for group in section.groups:
        yield from _group(group, report, in_full=section.name is SectionName.BLOCKS)


def _statement(statement: Statement) -> Iterator[str]:
    yield f"- {_words(statement.text)}"
    for line in statement.evidence:
        yield f"  {_code(line)}<br>"
    if statement.hint:
        yield f"  try: {_words(statement.hint)}"


def _group(group: Group, report: Report, *, in_full: bool) -> Iterator[str]:
    yield ""
    if group.title:
        counts = ", ".join(f"{arch} {count}" for arch, count in group.arch_counts)
        yield f"### {_words(group.title)} ({counts})"
        yield ""
    if group.advice:
        yield f"{_words(group.advice)}\n"
    rows = group.rows
    yield from _table(rows[:_ROWS], report, in_full=in_full)
    if len(rows) > _ROWS:
        yield f"\nand {len(rows) - _ROWS} more"


def _table(rows: Sequence[Row], report: Report, *, in_full: bool) -> Iterator[str]:
    yield "| case | arch | candidate | 5.12 | Stream 9 | what it says |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        entry = row.entry
        arch = "both" if len(row.arches) == len(Arch) else ", ".join(row.arches)
        cells = [_code(entry.case), arch, *entry.sides, _says(row, entry, report, in_full=in_full)]
        yield f"| {' | '.join(cells)} |"


def _says(row: Row, entry: Entry, report: Report, *, in_full: bool) -> str:
    parts = [_words(kind_words(entry.kind, entry.tags))]
    parts += [_code(entry.detail)] if entry.detail else []
    parts += [f"waived: {_words(entry.waived_by)}"] if entry.waived_by else []
    if in_full:
        parts.append(_code(shlex.join(report.command(row.arches, entry.case))))
    return "<br>".join(parts)


def _differences(report: Report) -> Iterator[str]:
    if not report.differences:
        return
    yield from ("", "## What else differs between the sides", "")
    yield "| | arch | candidate | 5.12 | Stream 9 |"
    yield "|---|---|---|---|---|"
    for item in sorted(report.differences, key=lambda item: item.is_expected):
        sides = [_code(value) if value else "-" for value in item.sides]
        yield f"| {_words(field_word(item.field))} | {item.arch} | {' | '.join(sides)} |"


def _totals(report: Report) -> Iterator[str]:
    if not report.totals:
        return
    used = [word for word in OUTCOME_WORDS if any(item.outcomes[word] for item in report.totals)]
    heads = ["cell", "kernel", "run by", "time", "cases", *(OUTCOME_WORDS[word] for word in used)]
    yield from ("", "## Totals of the candidate", "")
    yield f"| {' | '.join(heads)} |"
    yield "|---" * 4 + "|--:" * (len(used) + 1) + "|"
    for item in report.totals:
        cells = [
            f"{item.arch} {_words(item.suite)}",
            _code(item.release),
            ACCEL_WORDS[item.accel],
            duration_text(item.duration_s) + ("" if item.complete else " (not complete)"),
            str(item.cases),
            *(str(item.outcomes[word]) for word in used),
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _words(text: str) -> str:
    """Text of anybody that Markdown leaves as it is."""
    return _SPECIAL.sub(r"\\\1", inert_line(text))


def _code(text: str) -> str:
    """A code span that no text can leave; fit for a table's cell."""
    line = inert_line(text, _DETAIL_CHARACTERS)
    longest = max((len(run) for run in _BACKTICKS.findall(line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest or not line else ""
    # In a table a bar ends the cell even in a code span, unless a backslash stands before it.
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", r"\|")
