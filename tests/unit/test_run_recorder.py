"""What is kept of a run: each promised case once, nothing from whom nobody asked."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.model.case import CaseId, LogSpan, Outcome
from harness.model.record import Ending, Incident, Splat
from harness.run.complaints import Complaints
from harness.run.recorder import Recorder, Setting, outcome_counts
from harness.store.runs import EventLog, read_events
from harness.suites.base import CaseReport
from tests.fakes.fake_guest_rig import case, fake_plan

SETTING = Setting(guest="vm1")
RETRY = Setting(guest="vm2", fresh_vm=True, is_retry=True)
NAMES = ("one", "two", "three")


def splat(title: str, kind: str = "oops") -> Splat:
    return Splat(kind=kind, title=title, signature=f"k1:{title}", during="")


def report(name: str, outcome: Outcome = Outcome.PASS, **facts: object) -> CaseReport:
    return CaseReport(path=(name,), outcome=outcome, raw="OK", **facts)  # type: ignore[arg-type]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "events.jsonl") as log:
        yield log


@pytest.fixture
def recorder(log: EventLog) -> Recorder:
    return Recorder(fake_plan(NAMES), log, lambda event: None)


def attempts(recorder: Recorder, name: str) -> list[tuple[str, str]]:
    (found,) = [each for each in recorder.cases() if each.case == case(name)]
    return [(str(each.outcome), each.detail) for each in found.attempts]


def test_before_anything_ran_all_is_lost_denied_or_not_built(recorder: Recorder) -> None:
    outcomes = {each.case.path[1]: str(each.attempts[0].outcome) for each in recorder.cases()}
    assert outcomes == {
        **dict.fromkeys(NAMES, "lost"),
        "denied_one": "denied",
        "unbuilt_one": "not_built",
    }
    assert not recorder.is_complete
    assert outcome_counts(recorder.cases())[Outcome.LOST] == 3


def test_what_ran_counts_more_than_what_was_decided(recorder: Recorder) -> None:
    assert recorder.report(case("denied_one"), report("denied_one"), None, SETTING)
    assert recorder.report(case("unbuilt_one"), report("unbuilt_one"), None, SETTING)
    assert attempts(recorder, "denied_one") == [("pass", "")]
    assert attempts(recorder, "unbuilt_one") == [("pass", "")]


def test_the_first_outcome_stands(recorder: Recorder) -> None:
    assert recorder.report(case("one"), report("one", Outcome.FAIL), 1.0, SETTING)
    assert not recorder.report(case("one"), report("one"), 1.0, SETTING)
    assert [outcome for outcome, _ in attempts(recorder, "one")] == ["fail"]
    assert recorder.problems == ["test_progs: reported twice: bpf/test_progs/one"]


def test_a_retry_adds_one_attempt_and_no_second(recorder: Recorder) -> None:
    recorder.settle(case("one"), Outcome.CRASH, "it died", 1.0, SETTING)
    assert recorder.report(case("one"), report("one"), 1.0, RETRY)
    assert not recorder.report(case("one"), report("one"), 1.0, RETRY)
    assert [outcome for outcome, _ in attempts(recorder, "one")] == ["crash", "pass"]
    assert outcome_counts(recorder.cases())[Outcome.CRASH] == 1


@pytest.mark.parametrize("path", [("test_progs", ""), ("test_progs", "a/b", "c"), ("", "x")])
def test_a_name_that_cannot_be_read_back_is_a_problem(
    recorder: Recorder, path: tuple[str, ...]
) -> None:
    odd = CaseId("bpf", path)
    assert not recorder.report(odd, report("x"), None, SETTING)
    assert "by a name that is none" in recorder.problems[0]


def test_hostile_text_is_inert(recorder: Recorder) -> None:
    nasty = "\x1b[31mred\x1b[0m \u202eevil\x00" + "x" * 1000
    recorder.report(case("one"), report("one", Outcome.FAIL, detail=nasty), None, SETTING)
    recorder.incident(
        Incident(ending=Ending.HUNG, during="boot", what=nasty, evidence=(nasty, nasty))
    )
    ((_, detail),) = attempts(recorder, "one")
    (incident,) = recorder.incidents
    for text in (detail, incident.what, *incident.evidence):
        assert text.startswith("red \ufffdevil\ufffdxxx")
        assert len(text) == 300


def test_problems_without_end_are_told_up_to_a_number(recorder: Recorder, tmp_path: Path) -> None:
    for number in range(5000):
        recorder.problem("test_progs", f"damage {number}")
    assert len(recorder.problems) == 1001
    assert recorder.problems[-1] == "more problems than are worth telling"
    assert len(read_events(tmp_path / "events.jsonl").events) == 1001


def test_a_failures_place_is_kept_and_a_passes_is_not(recorder: Recorder) -> None:
    failed = report("one", Outcome.FAIL, begin_b=10, end_b=90)
    recorder.report(case("one"), failed, None, SETTING)
    recorder.report(case("two"), report("two", begin_b=10, end_b=90), None, SETTING)
    spans = {each.case.path[1]: each.attempts[0].log for each in recorder.cases()}
    assert spans["one"] == LogSpan(log="vm1/output.log", begin_b=10, end_b=90)
    assert spans["two"] is None


def test_a_settled_case_is_signed_by_the_last_complaint_in_its_time(recorder: Recorder) -> None:
    planned = fake_plan(NAMES).batches[0].cases
    recorder.in_flight(planned[0], 60, SETTING, 0)
    recorder.in_flight(planned[1], 60, SETTING, 100)
    recorder.splat(splat("early"), "vm1", 50)
    recorder.splat(splat("late"), "vm1", 150)
    recorder.settle(case("two"), Outcome.CRASH, "Kernel panic: x", None, SETTING)
    assert attempts(recorder, "two") == [("crash", "late (Kernel panic: x)")]
    found = {each.case.path[1]: each.attempts[0] for each in recorder.cases()}
    assert found["two"].signature == "k1:late"
    assert found["one"].splats == ("k1:early",)


# -- complaints ----------------------------------------------------------------------------------


def test_a_complaint_belongs_to_what_was_in_flight_where_the_output_stood() -> None:
    complaints = Complaints()
    for at, what in ((1, "start"), (10, "one"), (20, "two"), (30, "end")):
        complaints.enter("vm1", at, what)
    for at in (0, 1, 9, 10, 19, 20, 29, 30, 1000):
        complaints.add(splat(str(at)), "vm1", at)
    complaints.add(splat("other guest"), "vm2", 15)
    found = {each.title: each.during for each in complaints.all()}
    assert found == {
        "0": "boot", "1": "start", "9": "start", "10": "one", "19": "one", "20": "two",
        "29": "two", "30": "end", "1000": "end", "other guest": "boot",
    }  # fmt: skip


def test_a_complaint_may_come_before_its_case_is_known_to_be_in_flight() -> None:
    complaints = Complaints()
    complaints.add(splat("x"), "vm1", 15)
    assert complaints.all()[0].during == "boot"
    complaints.enter("vm1", 10, "one")
    assert complaints.all()[0].during == "one"


def test_what_a_guest_died_of_belongs_to_the_case_in_flight_at_its_death() -> None:
    complaints = Complaints()
    complaints.enter("vm1", 10, "one")
    complaints.enter("vm1", 20, "two")
    complaints.add(splat("warning"), "vm1", 12)
    complaints.add(splat("panic"), "vm1", 12)  # the console overtook the output
    complaints.add(splat("elsewhere"), "vm2", 12)
    complaints.blame_last("vm1", 25)
    found = {each.title: each.during for each in complaints.all()}
    assert found == {"warning": "one", "panic": "two", "elsewhere": "boot"}
