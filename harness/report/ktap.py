"""A record as KTAP, nested by program, test and subtest: for tools that read kselftest's output."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from harness.model.case import Attempt, CaseId, CaseRecord, Outcome
from harness.model.record import RunRecord
from harness.model.text import inert_line

_DETAIL_CHARACTERS = 200
_RESULTS: Mapping[Outcome, tuple[str, str]] = MappingProxyType(
    {
        Outcome.PASS: ("ok", ""),
        Outcome.FAIL: ("not ok", ""),
        Outcome.SKIP: ("ok", "SKIP"),
        Outcome.XFAIL: ("not ok", "XFAIL"),
        Outcome.TIMEOUT: ("not ok", "TIMEOUT"),
        Outcome.CRASH: ("not ok", "ERROR crash"),
        Outcome.LOST: ("not ok", "ERROR lost"),
        Outcome.DENIED: ("ok", "SKIP denied"),
        Outcome.NOT_BUILT: ("not ok", "ERROR not built"),
    }
)


def ktap_text(record: RunRecord) -> str:
    """Return one record; the last attempt of each case is its result."""
    programs: dict[str, list[CaseRecord]] = {}
    for case in record.cases:
        programs.setdefault(case.case.path[0], []).append(case)
    lines = ["KTAP version 1", f"1..{len(programs)}"]
    for number, (program, cases) in enumerate(sorted(programs.items()), start=1):
        lines += _program(number, program, cases)
    return "\n".join(lines) + "\n"


def _program(number: int, program: str, cases: Sequence[CaseRecord]) -> Iterator[str]:
    own = [case for case in cases if len(case.case.path) == 1]
    tests = [case for case in cases if len(case.case.path) == 2]
    subtests: dict[CaseId, list[CaseRecord]] = {}
    for case in cases:
        if case.case.is_subtest:
            subtests.setdefault(case.case.parent, []).append(case)
    if tests:
        yield from ("  KTAP version 1", f"  1..{len(tests)}")
    for place, test in enumerate(tests, start=1):
        below = subtests.get(test.case, [])
        if below:
            yield from ("    KTAP version 1", f"    1..{len(below)}")
        for inner, subtest in enumerate(below, start=1):
            yield from _result(inner, subtest.case.path[-1], subtest.attempts[-1], "    ")
        yield from _result(place, test.case.path[-1], test.attempts[-1], "  ")
    if own:
        yield from _result(number, program, own[0].attempts[-1], "")
        return
    is_bad = any(_RESULTS[test.attempts[-1].outcome][0] == "not ok" for test in tests)
    yield f"{'not ok' if is_bad else 'ok'} {number} {_name(program)}"


def _result(number: int, name: str, attempt: Attempt, indent: str) -> Iterator[str]:
    word, directive = _RESULTS[attempt.outcome]
    detail = inert_line(attempt.detail, _DETAIL_CHARACTERS)
    if detail and not directive:
        yield f"{indent}# {detail}"
    tail = f" # {directive} {_name(detail)}".rstrip() if directive else ""
    yield f"{indent}{word} {number} {_name(name)}{tail}"


def _name(text: str) -> str:
    """A description without the mark that begins a directive."""
    return inert_line(text).replace("#", "_")
