"""The report as one HTML file: no script, nothing loaded from anywhere, light and dark.

Autoescape makes text of the guest text; the policy in the page's head would stop a script anyway.
"""

import functools
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from harness.model.arch import Arch
from harness.model.case import CaseRecord, Outcome
from harness.model.record import RunRecord
from harness.model.text import inert_line
from harness.report.content import Report
from harness.report.words import (
    ACCEL_WORDS,
    BAD_OUTCOMES,
    OUTCOME_WORDS,
    VERDICT_WORDS,
    counted,
    duration_text,
    field_word,
    kind_words,
)

_DETAIL_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One case of a record, for the list of all."""

    case: str
    word: str
    detail: str
    is_bad: bool
    time: str


def html_text(report: Report, records: Sequence[RunRecord] = ()) -> str:
    """Return the page; with records, it lists every case of them below the report."""
    word, status = VERDICT_WORDS[report.verdict] if report.verdict else ("NOT JUDGED", 0)
    return _template().render(
        report=report,
        word=word,
        status=status,
        kind_words=kind_words,
        accels=ACCEL_WORDS,
        outcomes=[
            (outcome, name)
            for outcome, name in OUTCOME_WORDS.items()
            if any(item.outcomes[outcome] for item in report.totals)
        ],
        bad=BAD_OUTCOMES,
        command=lambda arches, case: shlex.join(report.command(arches, case)),
        arches=lambda row: "both" if len(row.arches) == len(Arch) else ", ".join(row.arches),
        differences=sorted(report.differences, key=lambda item: item.is_expected),
        field_word=field_word,
        duration_text=duration_text,
        cells=[(_cell_name(record), list(_lines(record))) for record in records],
    )


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["inert"] = inert_line
    environment.filters["counted"] = counted
    return environment.get_template("report.html.jinja")


def _cell_name(record: RunRecord) -> str:
    return f"{record.world.arch} {record.suite}, {record.world.kernel_release}"


def _lines(record: RunRecord) -> Iterator[_Line]:
    """Every case, the bad ones first."""
    order = list(OUTCOME_WORDS)
    yield from map(_line, sorted(record.cases, key=lambda case: _rank(case, order)))


def _rank(case: CaseRecord, order: Sequence[Outcome]) -> tuple[bool, int, str]:
    outcome = case.attempts[-1].outcome
    return (outcome not in BAD_OUTCOMES, order.index(outcome), str(case.case))


def _line(case: CaseRecord) -> _Line:
    last = case.attempts[-1]
    return _Line(
        case=str(case.case),
        word=OUTCOME_WORDS[last.outcome],
        detail=inert_line(last.detail, _DETAIL_CHARACTERS),
        is_bad=last.outcome in BAD_OUTCOMES,
        time="" if last.duration_s is None else duration_text(last.duration_s),
    )
