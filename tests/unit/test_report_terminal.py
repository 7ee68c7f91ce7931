"""What the terminal's report promises to the people and the logs that read it."""

import io
import re
import shlex
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model.arch import Arch
from harness.model.case import Outcome
from harness.model.change import Change, ChangeKind, Finding, Gate, Standing, Verdict, Weight
from harness.report.assemble import build_report
from harness.report.content import Report, SectionName
from harness.report.terminal import make_console, print_report, report_svg, report_text
from harness.report.words import KIND_WORDS, OUTCOME_WORDS, STANDING_WORDS, VERDICT_WORDS
from tests.unit.report_fixtures import (
    ABSENT,
    REPORTS,
    change,
    comparison,
    mixed_record,
    record,
    reject,
    side,
)

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_line_is_wider_than_asked(name: str, width: int) -> None:
    lines = report_text(REPORTS[name](), width=width).splitlines()
    assert [line for line in lines if len(line) > width] == []


@pytest.mark.parametrize("name", REPORTS)
def test_verdict_is_on_the_first_line(name: str) -> None:
    report = REPORTS[name]()
    assert report.verdict is not None
    first = report_text(report).strip().splitlines()[0]
    assert first.strip().startswith(VERDICT_WORDS[report.verdict][0])


def test_sections_come_in_the_order_of_importance() -> None:
    text = report_text(reject())
    heads = [name.value for name in SectionName if name.value in text]
    heads += ["What happened to the guests", "What else differs", "Totals of the candidate"]
    places = [text.index(head) for head in heads]
    assert len(heads) >= 6
    assert places == sorted(places)


def test_a_blocking_case_has_its_three_outcomes_its_line_and_its_command() -> None:
    text = report_text(reject())
    block = text[text.index("bpf/test_progs/ringbuf") :].split("\n\n")[0]
    assert "candidate crash 2/2 | 5.12 pass 5/5 | Stream 9 pass 5/5" in block
    assert "> Internal error: Oops: 96000004 [#1] SMP" in block
    assert "$ harness run --arch aarch64 --only bpf/test_progs/ringbuf" in block


def test_without_a_terminal_there_is_no_control_code_whatever_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.setenv(name, "1")
    file = io.StringIO()
    print_report(reject(), make_console(file, is_terminal=False))
    assert CONTROL.findall(file.getvalue()) == []


def test_a_log_that_is_ascii_takes_the_report_too() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    print_report(reject(), make_console(file, is_terminal=False))
    file.flush()
    assert b"REJECT" in raw.getvalue()


def test_with_a_terminal_and_no_colour_the_words_are_the_same() -> None:
    file = io.StringIO()
    console = make_console(file, is_terminal=True, colour=False, width=80)
    print_report(reject(), console)
    plain = "\n".join(line.rstrip() for line in file.getvalue().splitlines())
    assert plain.strip() == report_text(reject()).strip()


def test_a_folded_command_pastes_as_one_command() -> None:
    report = build_report(
        Gate(verdict=Verdict.INCONCLUSIVE, policy="p", findings=()),
        (comparison(Arch.AARCH64, _failing("bpf/test_verifier/a name; with $(words)")),),
        (record(Arch.AARCH64, ()),),
        kernel_args=("--kernel", "/srv/" + "long/" * 12 + "vmlinuz with space"),
    )
    text = report_text(report)
    begin = text.index("$ harness") + 2
    lines = iter(text[begin:].splitlines())
    command = next(lines)
    while command.endswith("\\"):
        command = command[:-1] + next(lines).strip()
    assert shlex.split(command) == [
        "harness", "run", *report.kernel_args, "--arch", "aarch64",
        "--only", "bpf/test_verifier/a name; with $(words)",
    ]  # fmt: skip


def _failing(case: str, detail: str = "") -> Change:
    return change(case, ChangeKind.NO_BASIS, side(Standing.FAIL, "F", detail), ABSENT, ABSENT)


@settings(max_examples=30)
@given(st.text(max_size=200))
def test_no_text_of_a_guest_moves_the_cursor_or_breaks_the_report(text: str) -> None:
    report = _report_with(text)
    assert CONTROL.findall(report_text(report)) == []


def _report_with(detail: str) -> Report:
    return build_report(
        Gate(
            verdict=Verdict.INCONCLUSIVE,
            policy="p",
            findings=(Finding(weight=Weight.INCONCLUSIVE, rule="r", what=detail),),
        ),
        (comparison(Arch.AARCH64, _failing("bpf/test_progs/x", detail)),),
        (mixed_record(Arch.AARCH64),),
    )


def test_thousands_of_failures_are_a_short_report_made_at_once() -> None:
    changes = [_failing(f"bpf/test_progs/t{n}", f"error {n}") for n in range(5000)]
    report = build_report(None, (comparison(Arch.AARCH64, *changes),), ())
    begin = time.monotonic()
    text = report_text(report)
    assert time.monotonic() - begin < 20  # a table of 5000 rows takes longer than anyone waits
    assert len(text.splitlines()) < 60
    assert "and 4990 more cases" in text


def test_a_case_alike_on_both_architectures_is_told_once() -> None:
    text = report_text(REPORTS["no_basis"]())
    assert text.count("bpf/test_progs/test_0\n") == 2  # its heading and its command
    assert "$ harness run --only bpf/test_progs/test_0" in text


def test_a_missing_baseline_is_not_called_a_missing_case() -> None:
    text = report_text(REPORTS["no_basis"]())
    assert "5.12 no baseline" in text
    assert "no such case" not in text


def test_the_picture_loads_nothing() -> None:
    svg = report_svg(reject())
    assert "@font-face" not in svg
    assert "url(http" not in svg
    assert "\x1b" not in svg


def test_each_word_of_the_model_has_a_word_for_people() -> None:
    assert set(STANDING_WORDS) == set(Standing)
    assert set(OUTCOME_WORDS) == set(Outcome)
    assert set(KIND_WORDS) == set(ChangeKind)
    assert set(VERDICT_WORDS) == set(Verdict)
