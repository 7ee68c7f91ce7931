"""The final report on a terminal, in a pipe and in a CI log: any width, with colour or without.

Nothing is said by colour alone. What a guest said is printed as text: no markup, no control codes.
"""

import io
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from harness.model.arch import Arch
from harness.model.case import Outcome
from harness.model.change import Verdict
from harness.model.text import inert, inert_line
from harness.report.content import (
    Difference,
    Entry,
    Report,
    Row,
    Section,
    SectionName,
    Statement,
    Totals,
)
from harness.report.content import Group as CauseGroup
from harness.report.words import (
    ACCEL_WORDS,
    BAD_OUTCOMES,
    OUTCOME_WORDS,
    VERDICT_WORDS,
    counted,
    duration_text,
    field_word,
    joined,
    kind_words,
)

WIDTH = 80
"""Columns where nobody says how many there are."""
_WIDEST = 120  # longer lines are hard to read
_INDENT = 2
_EVIDENCE_LINES = 6
_VALUE_CHARACTERS = 40

_IN_FULL: Mapping[SectionName, int] = MappingProxyType(
    {
        SectionName.BLOCKS: 12,
        SectionName.UNKNOWN: 2,
        SectionName.NEW: 2,
        SectionName.FIXED: 0,
        SectionName.KNOWN: 0,
    }
)
"""Cases of a group that are shown with their log line and command; the next ones get a line."""
_IN_BRIEF = 8
_GROUPS = 8  # of a section that does not block

# @font-face { font-family: "Fira Code"; src: local(…), url("…") …; }
_FONT_FACES = re.compile(r"@font-face\s*\{[^}]*\}\s*")

_VERDICT_STYLES: Mapping[Verdict | None, str] = MappingProxyType(
    {
        Verdict.ACCEPT: "bold white on green",
        Verdict.REJECT: "bold white on red",
        Verdict.INCONCLUSIVE: "bold black on yellow",
        None: "bold reverse",
    }
)
_SIDE_STYLES = (("pass", "green"), ("fail", "red"), ("crash", "bold red"), ("timeout", "red"))


def make_console(
    file: IO[str], *, is_terminal: bool, colour: bool = True, width: int | None = None
) -> Console:
    """A console for this report and the live view; without a terminal there is no control code.

    `width` None asks the terminal, and means 80 columns where there is none. Environment variables
    of rich are not consulted: FORCE_COLOR would send cursor movements into a CI log.
    """
    if isinstance(file, io.TextIOWrapper):
        file.reconfigure(errors="replace")  # a guest's letters in a log that is ASCII
    return Console(
        file=file,
        force_terminal=is_terminal,
        force_interactive=is_terminal,
        color_system="auto" if is_terminal and colour else None,
        no_color=not (is_terminal and colour),
        width=width if width else (None if is_terminal else WIDTH),
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
    )


def print_report(report: Report, console: Console) -> None:
    """Print the whole report; raises nothing for any text that a guest may have printed."""
    width = min(console.width, _WIDEST)
    for part in _parts(report, width - _INDENT):
        # A command's word may be longer than the line: cut, it could not be pasted.
        console.print(part, width=width, crop=False)


def report_text(report: Report, *, width: int = WIDTH) -> str:
    """The report as plain text, as it is printed into a pipe."""
    console = Console(
        width=width, color_system=None, force_terminal=False, markup=False, emoji=False,
        highlight=False, legacy_windows=False,
    )  # fmt: skip
    with console.capture() as capture:
        print_report(report, console)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def report_svg(report: Report, *, width: int = 100) -> str:
    """A picture of the report on a terminal, for a README; it loads nothing from anywhere."""
    console = Console(
        width=width, record=True, file=io.StringIO(), force_terminal=True, markup=False,
        color_system="truecolor", emoji=False, highlight=False, legacy_windows=False,
    )  # fmt: skip
    print_report(report, console)
    return _FONT_FACES.sub("", console.export_svg(title="harness run --gate", unique_id="report"))


def _parts(report: Report, width: int) -> Iterator[RenderableType]:
    yield from _header(report)
    for section in report.sections:
        yield from _section(section, report, width)
    if report.incidents:
        yield from _heading("What happened to the guests", counted(len(report.incidents), "guest"))
        for statement in report.incidents:
            yield _statement(statement)
    if report.differences:
        yield from _heading("What else differs between the sides", "")
        yield _differences(report.differences)
    if report.totals:
        yield from _heading("Totals of the candidate", "")
        yield _totals(report.totals)
    yield from _footer(report)


# -- top and bottom ------------------------------------------------------------------------------


def _header(report: Report) -> Iterator[RenderableType]:
    word, status = VERDICT_WORDS[report.verdict] if report.verdict else ("NOT JUDGED", 0)
    line = Text().append(f" {word} ", style=_VERDICT_STYLES[report.verdict])
    yield Text("")
    yield line.append(f" {inert_line(report.headline)}", style="bold")
    facts = []
    if report.verdict:
        facts.append(f"exit status {status}")
    if report.policy:
        facts.append(f"policy {report.policy}")
    if report.run_id:
        facts.append(f"run {report.run_id}")
    if report.totals:
        facts.append("each case compared with the kernels 5.12 and Stream 9")
    if facts:
        yield _padded(_text(", ".join(facts), "dim"))
    doubtful = [item for item in report.differences if not item.is_expected]
    if doubtful:
        names = joined(list(dict.fromkeys(field_word(item.field) for item in doubtful)))
        yield _padded(_text(f"The sides also differ in {names}: see below.", "yellow"))


def _footer(report: Report) -> Iterator[RenderableType]:
    yield Text("")
    for reason, number in report.denied.items():
        yield _text(f"Left out: {counted(number, 'case')}: {reason}")
    if report.sections:
        yield _text(f"More about a case: {report.program} explain CASE")
    if report.run_folder:
        yield _text(f"Logs and records: {report.run_folder}")


def _heading(title: str, note: str) -> Iterator[RenderableType]:
    yield Text("")
    text = Text().append(title, style="bold")
    if note:
        text.append(f" ({note})")
    yield Rule(text, align="left", style="dim", characters="-")


# -- sections ------------------------------------------------------------------------------------


def _section(section: Section, report: Report, width: int) -> Iterator[RenderableType]:
    cases = section.case_count
    yield from _heading(section.name.value, counted(cases, "case") if cases else "")
    for statement in section.statements:
        yield _statement(statement)
    shown = section.groups
    if section.name is not SectionName.BLOCKS:
        shown = shown[:_GROUPS]
    for number, group in enumerate(shown):
        if number or section.statements:
            yield Text("")
        if group.title:
            yield _group_head(group)
        yield from _rows(group, section, report, width)
    if len(shown) < len(section.groups):
        left = section.groups[len(shown) :]
        cases = sum(len(group.entries) for group in left)
        yield Text("")
        yield _more(f"{counted(len(left), 'more cause')} with {counted(cases, 'case')}", report)


def _statement(statement: Statement) -> RenderableType:
    lines: list[RenderableType] = [_text(statement.text)]
    lines += [_text(f"> {line}", "dim") for line in statement.evidence[-_EVIDENCE_LINES:]]
    if statement.hint:
        lines.append(_text(f"try: {statement.hint}"))
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_row("*", Group(*lines))
    return _padded(grid)


def _group_head(group: CauseGroup) -> RenderableType:
    counts = ", ".join(f"{arch} {count}" for arch, count in group.arch_counts)
    lines = [Text().append_text(_text(group.title, "bold")).append(f" ({counts})")]
    if group.advice:
        lines.append(_text(group.advice, "italic"))
    if group.shared_kind:
        lines.append(_text(_kind_line(group.shared_kind)))
    if group.shared_detail and group.shared_detail.detail:
        lines.append(_text(f"> {group.shared_detail.detail}", "dim"))
    return Group(*lines)


def _rows(
    group: CauseGroup, section: Section, report: Report, width: int
) -> Iterator[RenderableType]:
    full = _IN_FULL[section.name]
    rows = group.rows
    for row in rows[:full]:
        yield _padded(_row(row, group))
        command = report.command(row.arches, row.entry.case)
        text = _folded_command(command, " " * 2 * _INDENT, width)
        # In a group, because rich joins bare texts and forgets that they must not be wrapped.
        yield Group(Text(text, style="cyan", no_wrap=True, overflow="ignore"))
    brief = rows[full : full + _IN_BRIEF]
    if brief:
        yield _padded(_brief_table(brief, rows[full - 1].entry.sides if full else None))
    left = len(rows) - full - len(brief)
    if left > 0:
        yield _padded(_more(counted(left, "more case"), report))
    if group.told_by_subtests:
        tests = counted(group.told_by_subtests, "test")
        yield _padded(_text(f"and with them {tests} that these are subtests of", "dim"))


def _more(what: str, report: Report) -> Text:
    return _text(f"and {what}: `{report.program} report --format html` has them all", "dim")


def _row(row: Row, group: CauseGroup) -> RenderableType:
    entry = row.entry
    arches = "both" if len(row.arches) == len(Arch) else ", ".join(row.arches)
    head = Text().append(arches, style="bold").append(f"  {inert_line(entry.case)}")
    lines: list[RenderableType] = [_sides(entry.sides)]
    if not (group.title and group.shared_kind):
        lines.append(_text(_kind_line(entry)))
    if entry.detail and not (group.title and group.shared_detail):
        lines.append(_text(f"> {entry.detail}", "dim"))
    if entry.log:
        lines.append(_text(f"log: {entry.log}, from byte {entry.log_offset_b}", "dim"))
    return Group(head, _padded(Group(*lines)))


def _kind_line(entry: Entry) -> str:
    waived = f"; waived: {entry.waived_by}" if entry.waived_by else ""
    return kind_words(entry.kind, entry.tags) + waived


def _sides(sides: tuple[str, str, str]) -> Text:
    line = Text()
    for name, words in zip(("candidate", "5.12", "Stream 9"), sides, strict=True):
        line.append(" | " if line else "").append(f"{name} ", style="dim")
        line.append(words, style=_side_style(words))
    return line


def _side_style(words: str) -> str:
    return next((style for prefix, style in _SIDE_STYLES if words.startswith(prefix)), "")


def _brief_table(rows: Sequence[Row], known_sides: tuple[str, str, str] | None) -> Table:
    """One row a case; outcomes that are those of the cases before it are not said again."""
    is_known = all(row.entry.sides == known_sides for row in rows)
    table = Table(
        box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim",
        show_header=not is_known,
    )  # fmt: skip
    for name in ("arch", *(() if is_known else ("candidate", "5.12", "Stream 9"))):
        table.add_column(name, no_wrap=True)
    table.add_column("case", overflow="fold")
    for row in rows:
        entry = row.entry
        sides = [] if is_known else [Text(words, _side_style(words)) for words in entry.sides]
        waived = f" (waived: {inert_line(entry.waived_by)})" if entry.waived_by else ""
        arches = "both" if len(row.arches) == len(Arch) else ", ".join(row.arches)
        table.add_row(arches, *sides, Text(inert_line(entry.case) + waived))
    return table


def _folded_command(command: Sequence[str], indent: str, width: int) -> str:
    """A command that can be pasted, in lines that fit where its words do."""
    lines = [f"{indent}$"]
    for word in map(shlex.quote, command):
        has_words = lines[-1].strip() not in ("$", "")
        if has_words and len(lines[-1]) + len(word) + 3 > width:
            lines[-1] += " \\"
            lines.append(f"{indent}   ")
        lines[-1] += f" {inert(word)}".replace("\n", " ")
    return "\n".join(lines)


# -- tables --------------------------------------------------------------------------------------


def _differences(differences: Sequence[Difference]) -> RenderableType:
    """One row a field; architectures that say the same share it."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    for name in ("", "arch", "candidate", "5.12", "Stream 9"):
        table.add_column(name, overflow="fold")
    rows: dict[tuple[str, tuple[str, str, str]], list[Arch]] = {}
    for item in sorted(differences, key=lambda item: item.is_expected):
        rows.setdefault((item.field, item.sides), []).append(item.arch)
    for (field, sides), arches in rows.items():
        words = [_text(inert_line(value, _VALUE_CHARACTERS) or "-") for value in sides]
        both = "both" if len(set(arches)) > 1 else str(arches[0])
        table.add_row(_text(field_word(field)), both, *words)
    return _padded(table)


def _totals(totals: Sequence[Totals]) -> RenderableType:
    table = Table(box=None, padding=(0, 3, 0, 0), show_edge=False, header_style="bold")
    table.add_column("")
    for item in totals:
        table.add_column(f"{item.arch} {inert_line(item.suite)}", justify="right")
    table.add_row("kernel", *(_text(item.release) for item in totals))
    table.add_row("profile", *(_text(item.profile) for item in totals))
    table.add_row("run by", *(_text(ACCEL_WORDS[item.accel]) for item in totals))
    table.add_row("time", *(_time_text(item) for item in totals))
    table.add_row("cases", *(str(item.cases) for item in totals))
    for outcome, word in OUTCOME_WORDS.items():
        numbers = [item.outcomes[outcome] for item in totals]
        if any(numbers):
            table.add_row(f"  {word}", *(_number(outcome, number) for number in numbers))
    return _padded(table)


def _time_text(item: Totals) -> Text:
    note = "" if item.complete else ", not complete"
    return Text(duration_text(item.duration_s) + note, style="yellow" if note else "")


def _number(outcome: Outcome, number: int) -> Text:
    is_bad = number > 0 and outcome in BAD_OUTCOMES
    return Text(str(number), style="bold red" if is_bad else "")


def _text(words: str, style: str = "") -> Text:
    """One line of any origin, made inert; never markup."""
    return Text(inert_line(words), style=style)


def _padded(inner: RenderableType) -> Padding:
    return Padding(inner, (0, 0, 0, _INDENT))
