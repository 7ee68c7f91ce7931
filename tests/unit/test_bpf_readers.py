"""The readers of the BPF programs keep their promises, whatever comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.case import Outcome
from harness.model.errors import UserError
from harness.suites.base import UNSURE_OK
from harness.suites.bpf.dialects import Dialect, dialect_of
from harness.suites.bpf.names import case_name, numbered, without_occurrence
from harness.suites.bpf.readers import reader_for
from tests.unit.bpf_samples import lines_of, planned, read_log

NAMES = ((1, "align"), (2, "atomics"), (3, "bpf_iter"), (4, "btf"))
LOG_D = """\
#1       align:OK
do_test:FAIL:unexpected -524
#2/1     atomics/add:OK
#2/2     atomics/sub:FAIL
#2       atomics:FAIL
#3/1     bpf_iter/task:SKIP
#3       bpf_iter:SKIP
#4       btf:OK

All error logs:
#2/2     atomics/sub:FAIL
#2       atomics:FAIL
Summary: 3/1 PASSED, 1 SKIPPED, 1 FAILED
"""


def test_case_in_flight_moves_on_while_a_failure_is_held_back() -> None:
    reader = reader_for("test_progs", planned("test_progs", NAMES), Dialect.D)
    first, second = lines_of("#1       align:FAIL\n#2       atomics:OK\n")
    assert reader.in_flight == ("align",)
    assert not reader.feed(first)
    assert reader.in_flight == ("atomics",)
    assert [report.path for report in reader.feed(second)] == [("align",), ("atomics",)]
    assert reader.in_flight == ("bpf_iter",)


def test_killed_process_leaves_its_case_in_flight_to_the_caller() -> None:
    reading = read_log("test_progs", NAMES, "#1       align:OK\n#2/1     atomics/add:OK\n", None)
    assert reading.outcomes() == {"align": "pass", "atomics/add": "pass"}
    assert reading.reader.in_flight == ("atomics",)


def test_process_that_ended_by_itself_blames_the_case_in_flight() -> None:
    reading = read_log("test_progs", NAMES, "#1       align:OK\nsome log\n", 3)
    crash = reading.of("atomics")
    assert crash.outcome is Outcome.CRASH
    assert crash.log_lines == ("some log",)
    assert "status 3" in crash.detail


def test_program_that_could_not_start_blames_no_case() -> None:
    reading = read_log("test_progs", NAMES, "stdbuf: failed to run command './test_progs'\n", 127)
    assert reading.reports == []
    assert "failed to run command" in reading.reader.refused


def test_each_planned_case_is_told_once_when_the_program_finished() -> None:
    text = "#4       btf:OK\nSummary: 1/0 PASSED, 0 SKIPPED, 0 FAILED\n"
    reading = read_log("test_progs", NAMES, text)
    lost = dict.fromkeys(("align", "atomics", "bpf_iter"), "lost")
    assert reading.outcomes() == {**lost, "btf": "pass"}


def test_summary_that_counts_otherwise_is_a_problem() -> None:
    text = LOG_D.replace("Summary: 3/1", "Summary: 3/2")
    reading = read_log("test_progs", NAMES, text, 1, Dialect.D)
    assert reading.reader.problems == ["the summary counts 2 subtests passed, read were 1"]
    assert read_log("test_progs", NAMES, LOG_D, 1, Dialect.D).reader.problems == []


def test_log_of_a_failure_is_kept_with_its_place() -> None:
    reading = read_log("test_progs", NAMES, LOG_D, 1, Dialect.D)
    failure = reading.of("atomics")
    assert failure.log_lines[0] == "do_test:FAIL:unexpected -524"
    assert LOG_D[failure.begin_b : failure.end_b].endswith("#2       atomics:FAIL\n")
    assert reading.of("align").log_lines == ()


def test_log_of_megabytes_is_kept_as_its_first_and_last_lines() -> None:
    noise = "".join(f"line {number}\n" for number in range(5000))
    text = f"#1       align:OK\n{noise}#2       atomics:FAIL\n"
    lines = read_log("test_progs", NAMES, text, None).of("atomics").log_lines
    assert len(lines) == 81
    assert (lines[0], lines[60], lines[-1]) == ("line 0", "[…]", "line 4999")


def test_result_of_a_case_that_nobody_asked_for_is_a_problem_and_no_result() -> None:
    reading = read_log("test_progs", NAMES, "#9       xdp:OK\n#1       atomics:OK\n", None)
    assert reading.reports == []
    assert len(reading.reader.problems) == 2


def test_second_result_of_a_case_is_a_problem_and_no_result() -> None:
    reading = read_log("test_progs", NAMES, "#1       align:OK\n#1       align:FAIL\n", None)
    assert reading.outcomes() == {"align": "pass"}
    assert reading.reader.problems == ["#1 align reported a result twice"]


def test_failure_that_its_test_takes_back_was_expected() -> None:
    text = (
        "#1/1     align/good:OK\n#1/2     align/bad:FAIL\n#1       align:OK\n"
        "Summary: 1/0 PASSED, 0 SKIPPED, 0 FAILED\n"
    )
    reading = read_log("test_progs", NAMES[:1], text, 0, Dialect.D)
    assert reading.outcomes() == {"align/good": "pass", "align/bad": "xfail", "align": "pass"}
    assert reading.of("align", "bad").raw == "FAIL"
    assert not reading.reader.problems


def test_result_lines_are_no_log() -> None:
    text = "#1/1     align/a:SKIP\n#1       align:SKIP\n"
    assert read_log("test_progs", NAMES, text, None).of("align").log_lines == ()


def test_name_of_a_subtest_cannot_carry_control_characters() -> None:
    text = "#1/1     align/\x1b[31mred\x1b[0m\x07x:OK\n#1       align:OK\n"
    assert "align/red\ufffdx" in read_log("test_progs", NAMES, text, None).outcomes()


def test_ok_of_a_quiet_old_dialect_is_marked_as_unsure() -> None:
    text = "#1 align:OK\n"
    assert read_log("test_progs", NAMES, text, None, Dialect.A).of("align").raw == "OK?"
    assert read_log("test_progs", NAMES, text, None, Dialect.D).of("align").raw == "OK"


def test_summary_without_skips_clears_the_unsure() -> None:
    text = "#1 align:OK\nSummary: 1/0 PASSED, 0 SKIPPED, 0 FAILED\n"
    assert read_log("test_progs", NAMES[:1], text, 0, Dialect.A).of("align").raw == "OK"


@pytest.mark.parametrize(
    ("strings", "dialect"),
    [
        (b"\0#%d/%d %s:%s\n\0", Dialect.A),
        (b"\0#%d/%d %s/%s:%s\n\0#%d %s:%s\n\0", Dialect.B),
        (b"\0#%d/%d %s/%s:%s\n\0\nAll error logs:\n\0", Dialect.C),
        (b"\0#%-*s %s/%s\0All error logs:", Dialect.D),
        (b"\0#%-*s %s/%s\0OK (SKIP: %d/%d)\0", Dialect.E),
        (b"\x7fELF", Dialect.UNKNOWN),
    ],
)
def test_dialect_is_told_by_the_programs_own_strings(strings: bytes, dialect: Dialect) -> None:
    assert dialect_of(strings) is dialect


def test_verifier_case_is_as_bad_as_its_worse_side() -> None:
    text = "#0/u x FAIL\nUnexpected success to load!\n#0/p x OK\n#1/p y OK\n"
    reading = read_log("test_verifier", [(0, "x"), (1, "y")], text, None)
    assert reading.outcomes() == {
        "x/u": "fail",
        "x/p": "pass",
        "x": "fail",
        "y/p": "pass",
        "y": "pass",
    }
    assert "Unexpected success to load!" in reading.of("x", "u").log_lines


def test_descriptor_that_ends_like_a_result_is_told_by_the_plan() -> None:
    text = "#0/p load is OK SKIP (unsupported map type 5)\n#1/p FAIL early OK\n"
    reading = read_log("test_verifier", [(0, "load is OK"), (1, "FAIL early")], text, None)
    assert reading.of("load is OK", "p").outcome is Outcome.SKIP
    assert reading.of("FAIL early", "p").outcome is Outcome.PASS


def test_verifier_side_without_a_result_loses_its_case() -> None:
    text = "#0/u x garbage\n#0/p x OK\n#1/p y OK\n"
    reading = read_log("test_verifier", [(0, "x"), (1, "y")], text, None)
    assert reading.of("x").outcome is Outcome.LOST
    assert reading.of("x").raw == ""


def test_maps_pass_needs_both_the_last_line_and_the_status() -> None:
    done = "test_maps: OK, 0 SKIPPED\n"
    assert read_log("test_maps", [(0, "")], done, 0).of().outcome is Outcome.PASS
    assert read_log("test_maps", [(0, "")], done, 1).of().outcome is Outcome.FAIL
    assert read_log("test_maps", [(0, "")], "", 0).of().outcome is Outcome.LOST
    failed = f"check(3):FAIL:lookup\n{done}"
    assert read_log("test_maps", [(0, "")], failed, 0).of().outcome is Outcome.FAIL
    assert read_log("test_maps", [(0, "")], done, None).reports == []


def test_program_without_a_reader_is_the_users_mistake() -> None:
    with pytest.raises(UserError):
        reader_for("test_lpm_map")


def test_names_are_unique_and_fit_an_address() -> None:
    names = numbered(map(case_name, ("a/b", "x", "x", "x #2", "x", "a|b")))
    assert names == ("a|b", "x", "x #2", "x #2 #2", "x #3", "a|b #2")
    assert without_occurrence("x #12") == "x"


# -- any damage ------------------------------------------------------------------------------------

LOG_A = """\
Loading bpf_testmod.ko...
test_align:PASS:x 0 nsec
#1 align:OK
#2/1 add:OK
test_atomics:FAIL:sub -524
#2/2 sub:FAIL
#2 atomics:FAIL
test_bpf_iter:SKIP:no __builtin_btf_type_id
#3 bpf_iter:OK
test_btf:PASS:x 0 nsec
#4 btf:OK
Summary: 3/1 PASSED, 1 SKIPPED, 2 FAILED
"""
LOG_VERIFIER = """\
#0/u add+sub+mul OK
#0/p add+sub+mul OK
#1/u calls FAIL
Failed to load prog 'Invalid argument'!
#1/p calls OK
#2/p scale SKIP (unsupported program type 26)
#3/p scale 2 2 cases OK
Summary: 4 PASSED, 1 SKIPPED, 1 FAILED
"""
VERIFIER_NAMES = ((0, "add+sub+mul"), (1, "calls"), (2, "scale"), (3, "scale 2"))
LOG_MAPS = """\
Fork 100 tasks to 'test_update_delete'
test_htab_map_batch_ops:PASS
test_maps: OK, 0 SKIPPED
"""
WHOLE = [
    ("test_progs", NAMES, LOG_D, Dialect.D),
    ("test_progs", NAMES, LOG_D, Dialect.UNKNOWN),
    ("test_progs", NAMES, LOG_A, Dialect.A),
    ("test_progs", (), LOG_D, Dialect.UNKNOWN),
    ("test_verifier", VERIFIER_NAMES, LOG_VERIFIER, Dialect.UNKNOWN),
    ("test_verifier", (), LOG_VERIFIER, Dialect.UNKNOWN),
    ("test_maps", ((0, ""),), LOG_MAPS, Dialect.UNKNOWN),
]
STATUSES = st.sampled_from([None, 0, 1, 2, 3, 127, 134, 137, 139, 255])
NOISE = st.sampled_from(
    [
        "[   12.3] bpf_testmod: loading out-of-tree module",
        "\n",
        "\x1b[31m",
        "\ufffd",
        "K",
        "O",
        ":",
        "#",
        "/",
        "libbpf: x\n",
        " ",
    ]
)


def planned_passes(sample: tuple[str, object, str, Dialect]) -> set[tuple[str, ...]]:
    program, names, text, dialect = sample
    whole = read_log(program, names, text, 0, dialect)  # type: ignore[arg-type]
    return {report.path for report in whole.reports if report.outcome is Outcome.PASS}


@given(st.sampled_from(WHOLE), st.data(), STATUSES)
def test_no_damage_makes_a_pass_or_tells_a_case_twice(
    sample: tuple[str, tuple[tuple[int, str], ...], str, Dialect],
    data: st.DataObject,
    rc: int | None,
) -> None:
    program, names, text, dialect = sample
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(text)))
        if data.draw(st.booleans()):
            text = text[:place] + data.draw(NOISE) + text[place:]
        else:
            text = text[:place] + text[place + data.draw(st.integers(1, 30)) :]
    reading = read_log(program, names, text, rc, dialect)
    paths = [report.path for report in reading.reports]
    assert len(set(paths)) == len(paths)
    tests = {(name,) if name else () for _, name in names}
    passes = {
        report.path
        for report in reading.reports
        if report.outcome is Outcome.PASS and report.raw != UNSURE_OK
    }
    has_summary = sample[2].splitlines()[-1] in text.splitlines()
    if names and not passes & tests <= planned_passes(sample):
        # What is cut out without a trace, a whole line of a failure, only the count can tell.
        assert reading.reader.problems or not has_summary
    if names and rc is not None and not reading.reader.refused:
        assert tests & set(paths)  # each process takes the run further
    if names and rc is not None and has_summary:
        assert tests <= set(paths)


@given(st.sampled_from(WHOLE), st.lists(st.text(max_size=40), max_size=30), STATUSES)
def test_noise_alone_is_never_a_result(
    sample: tuple[str, tuple[tuple[int, str], ...], str, Dialect], noise: list[str], rc: int | None
) -> None:
    program, names, _, dialect = sample
    reading = read_log(program, names, "\n".join(noise), rc, dialect)
    assert not any(report.outcome is Outcome.PASS for report in reading.reports)
