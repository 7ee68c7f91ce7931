"""Reading what make and compilers print, on recorded output."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.suites.bpf.build_errors import target_failures, telling_line

CORPUS = sorted((Path(__file__).parent.parent / "corpus" / "bpf_build").glob("*.log"))
BUILD = Path("/build")


def _headers(text: str, name: str) -> list[str]:
    start = f"# {name} "
    return [line.removeprefix(start) for line in text.splitlines() if line.startswith(start)]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_each_failed_target_of_a_recorded_build_has_its_first_error(path: Path) -> None:
    text = path.read_text()
    (folder,) = _headers(text, "folder")
    lines = [line for line in text.splitlines() if not line.startswith("# ")]
    failures = target_failures(lines, Path(folder))
    assert [f"{f.target} | {f.error}" for f in failures] == _headers(text, "expect")


def test_an_error_of_one_target_is_not_told_of_the_next() -> None:
    lines = [
        "  CC       a.o",
        "a.c:1:2: error: first",
        "make: *** [Makefile:9: /build/a.o] Error 1",
        "  CC       b.o",
        "  CC       c.o",
        "make: *** [Makefile:9: /build/c.o] Segmentation fault (core dumped)",
    ]
    first, second = target_failures(lines, BUILD)
    assert (first.target, first.error) == ("a.o", "a.c:1:2: error: first")
    assert (second.target, second.error) == ("c.o", "CC c.o")


def test_a_target_that_says_nothing_is_told_by_how_it_ended() -> None:
    (failure,) = target_failures(["make: *** [Makefile:9: /build/a.o] Killed"], BUILD)
    assert failure.error == "Killed"


def test_the_outer_make_repeats_the_error_of_the_inner_one() -> None:
    lines = [
        "  CC       x.o",
        "x.c:1:1: error: real",
        "make[2]: *** [/build/Makefile.build:97: /build/x.o] Error 1",
        "make[1]: *** [Makefile:161: /build/libbpf-in.o] Error 2",
        "make: *** [Makefile:272: /build/libbpf.a] Error 2",
    ]
    assert [f.error for f in target_failures(lines, BUILD)] == ["x.c:1:1: error: real"] * 3


def test_a_missing_rule_is_a_failure_with_a_name() -> None:
    line = "make: *** No rule to make target '/build/no.c', needed by '/build/no.o'.  Stop."
    (failure,) = target_failures([line], BUILD)
    assert failure.target == "no.c"
    assert failure.error == "No rule to make target 'no.c', needed by 'no.o'. Stop."


def test_control_characters_of_a_compiler_do_not_reach_a_report() -> None:
    lines = [
        "\x1b[31mx.c:1:1: error: red\x1b[0m \x07",
        "make: *** [Makefile:9: /build/x.o] Error 1",
    ]
    (failure,) = target_failures(lines, BUILD)
    assert "\x1b" not in failure.error
    assert "\x07" not in failure.error


def test_the_reason_wins_over_its_consequence() -> None:
    said = [
        "/usr/bin/ld: /build/a.test.o: in function `test_a':",
        "a.c:(.text+0x9): undefined reference to `far'",
        "collect2: error: ld returned 1 exit status",
    ]
    assert telling_line(said) == "a.c:(.text+0x9): undefined reference to `far'"
    assert telling_line(["warning: x", "/usr/bin/ld: cannot find -lcap: No such file"]) == (
        "/usr/bin/ld: cannot find -lcap: No such file"
    )
    assert telling_line([]) == ""


@given(st.lists(st.text(max_size=60), max_size=30))
def test_any_output_is_read_without_an_exception(lines: list[str]) -> None:
    for failure in target_failures(lines, BUILD):
        assert "\n" not in failure.error
