"""A signature is the same for the same failure, and another for another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.triage.signature import can_match, first_telling_line, normalised, signature

_SAME = [
    # addresses, numbers, times, pids, line numbers, positions in a list
    ("[    3.141592] f: bad address 0xffff888012345678", "[   99.000001] f: bad address 0x10"),
    ("test_a:FAIL:run took 12.5ms of pid 4711", "test_a:FAIL:run took 3ms of pid 12"),
    ("#12/3 a:FAIL", "#4/1 a:FAIL"),
    ("main:FAIL:123 strange", "main:FAIL:99 strange"),
    ("prog_tests/d_path.c:120: oops", "prog_tests/d_path.c:121: oops"),
    ("do_x+0x56/0x220 failed", "do_x+0x1/0x2 failed"),
    ("at ffff8880deadbeef99 in f", "at ffff8880deadbeef11 in f"),
    ("[   12.5][  T123] BUG: x", "[   13.0][  T9] BUG: x"),
    ("connect to 127.0.0.1:5000 failed", "connect to 10.1.2.3:80 failed"),
    ("actual 10001 != expected 10000", "actual 10002 != expected 10000"),
]
_DIFFERENT = [
    ("x unexpected error: -524 (errno 524)", "x unexpected error: -22 (errno 22)"),
    ("failed to attach: ERROR: strerror_r(-524)=22", "failed to attach: ERROR: strerror_r(-95)=22"),
    ("err -1 errno 2", "err -1 errno 17"),
    ("R1 invalid mem access 'inv'", "R1 invalid mem access 'scalar'"),
    ("tcp4 is broken", "tcp6 is broken"),
    ("a:FAIL:one", "a:FAIL:two"),
    ("loop3 rejected", "loop4 rejected"),
]


@pytest.mark.parametrize(("one", "other"), _SAME)
def test_what_changes_from_run_to_run_does_not_matter(one: str, other: str) -> None:
    assert signature([one]) == signature([other])
    assert can_match(signature([one]))


@pytest.mark.parametrize(("one", "other"), _DIFFERENT)
def test_what_a_failure_is_about_matters(one: str, other: str) -> None:
    assert signature([one]) != signature([other])


def test_nothing_has_no_signature() -> None:
    assert signature([]) == signature(["", "  "]) == ""
    assert not can_match("")
    assert not can_match("kx:1234")


def test_passing_lines_and_noise_about_a_failure_do_not_matter() -> None:
    failure = "test_x:FAIL:attach unexpected error: -524 (errno 524)"
    alone = signature([failure, "#7 x:FAIL"])
    assert signature(["test_x:PASS:load 12 nsec", "libbpf: fine", failure, "#9 x:FAIL"]) == alone


def test_the_first_failed_assertion_is_told_when_nothing_explains_it() -> None:
    lines = ["test_x:PASS:a 0 nsec", "test_x:FAIL:b 1", "test_x:FAIL:c 2"]
    assert first_telling_line(lines) == "test_x:FAIL:b 1"


def test_without_an_assertion_the_first_line_that_speaks_of_an_error_is_told() -> None:
    assert first_telling_line(["hello", "cannot open x", "bye"]) == "cannot open x"
    assert first_telling_line(["hello", "bye"]) == "bye"
    assert first_telling_line(["#1 a:FAIL"]) == "#1 a:FAIL"


def test_test_verifiers_complaint_is_told() -> None:
    lines = [
        "#12/u unpriv: return pointer FAIL",
        "Failed to load prog 'Permission denied'!",
        "0: (95) exit",
    ]
    assert first_telling_line(lines) == "Failed to load prog 'Permission denied'!"


@given(st.lists(st.text(), max_size=20))
def test_any_log_is_read(lines: list[str]) -> None:
    telling = first_telling_line(lines)
    assert "\n" not in signature(lines)
    assert not telling or any(telling in line.strip() or line for line in lines)


@given(st.text(max_size=300))
def test_normalising_twice_changes_nothing_more_than_once(text: str) -> None:
    once = normalised(text)
    assert signature([once]) == "" if not once else True
    assert len(once) <= 400


@given(st.integers(0, 2**64), st.integers(0, 99999), st.floats(0, 9999))
def test_addresses_pids_and_times_never_matter(address: int, pid: int, at: float) -> None:
    line = f"[{at:12.6f}] f: address 0x{address:016x} of pid {pid} is bad"
    assert signature([line]) == signature(["[    1.000000] f: address 0x1 of pid 1 is bad"])


def test_a_line_of_a_megabyte_is_signed_in_no_time() -> None:
    assert signature(["x" * 1_000_000 + " failed"]) == signature(["x" * 2_000_000 + " failed"])
    assert can_match(signature(["1 " * 500_000]))
