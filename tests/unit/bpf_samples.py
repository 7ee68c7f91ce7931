"""Planned cases and lines for the tests of the BPF readers, and a way to run a reader over them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.model.case import CaseId
from harness.model.plan import PlannedCase
from harness.suites.base import CaseReport, Reader
from harness.suites.bpf.dialects import Dialect
from harness.suites.bpf.readers import reader_for


@dataclass(frozen=True, slots=True)
class SampleLine:
    text: str
    begin_b: int
    end_b: int


def lines_of(text: str) -> Iterator[SampleLine]:
    """The lines of a log with their places in it."""
    offset_b = 0
    for line in text.splitlines():
        end_b = offset_b + len(line.encode(errors="surrogateescape")) + 1
        yield SampleLine(line, offset_b, end_b)
        offset_b = end_b


def planned(program: str, names: Iterable[tuple[int, str]]) -> tuple[PlannedCase, ...]:
    return tuple(
        PlannedCase(
            case=CaseId("bpf", (program, name) if name else (program,)),
            selector=str(number),
            budget_s=60.0,
        )
        for number, name in names
    )


@dataclass(slots=True)
class Reading:
    """What a reader said of a whole log."""

    reader: Reader
    reports: list[CaseReport] = field(default_factory=list)

    def outcomes(self) -> dict[str, str]:
        return {"/".join(each.path): str(each.outcome) for each in self.reports}

    def of(self, *path: str) -> CaseReport:
        (report,) = [each for each in self.reports if each.path == path]
        return report


def read_log(
    program: str,
    names: Sequence[tuple[int, str]],
    text: str,
    rc: int | None = 0,
    dialect: Dialect = Dialect.UNKNOWN,
) -> Reading:
    reader = reader_for(program, planned(program, names), dialect)
    reading = Reading(reader)
    for line in lines_of(text):
        reading.reports += reader.feed(line)
    reading.reports += reader.finish(rc)
    return reading
