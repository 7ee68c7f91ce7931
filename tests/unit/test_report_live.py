"""The live view and what it is made from: nothing lost, nothing hostile, no control codes in CI."""

import io
import re
import threading
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model.arch import Arch
from harness.model.case import CaseId, Outcome
from harness.model.events import (
    CaseFinished,
    CaseStarted,
    CellEnded,
    CellPlanned,
    Event,
    GuestDied,
    PhaseAdvanced,
    PhaseEnded,
    PhaseStarted,
)
from harness.report.live import LiveView
from harness.report.progress import HOST, Progress, status_text

ARM = Arch.AARCH64
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def case(number: int) -> CaseId:
    return CaseId("bpf", ("test_progs", f"case_{number}"))


def planned(total: int) -> CellPlanned:
    return CellPlanned(arch=ARM, suite="bpf", total=total, denied=2, not_built=1)


def run_of(number: int, outcome: Outcome = Outcome.PASS, detail: str = "") -> tuple[Event, Event]:
    return (
        CaseStarted(arch=ARM, case=case(number), budget_s=20),
        CaseFinished(arch=ARM, case=case(number), outcome=outcome, detail=detail),
    )


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def lines_of(events: Iterable[Event], step_s: float = 0.0) -> list[str]:
    clock, file = Clock(), io.StringIO()
    with LiveView(file, is_terminal=False, clock=clock) as view:
        for event in events:
            view(event)
            clock.now_s += step_s
    return file.getvalue().splitlines()


def test_a_case_in_flight_is_told_with_its_time_and_budget() -> None:
    progress = Progress()
    progress.apply(planned(3), 0)
    progress.apply(run_of(1)[0], 10)
    text = status_text(progress.lanes[str(ARM)], 12.5)
    assert text == "0 of 3, no outcome yet; now bpf/test_progs/case_1 2.5 s of 20 s"


def test_subtests_do_not_count_as_planned_cases() -> None:
    progress = Progress()
    progress.apply(planned(3), 0)
    sub = CaseId("bpf", ("test_progs", "case_1", "sub"))
    progress.apply(CaseFinished(arch=ARM, case=sub, outcome=Outcome.FAIL), 1)
    assert progress.lanes[str(ARM)].done == 0


def test_a_case_tried_again_counts_once_with_its_last_outcome() -> None:
    progress = Progress()
    progress.apply(planned(3), 0)
    for outcome in (Outcome.CRASH, Outcome.PASS):
        for event in run_of(1, outcome):
            progress.apply(event, 1)
    assert progress.lanes[str(ARM)].counts() == {Outcome.PASS: 1}


def test_time_left_comes_from_the_pace_and_before_that_from_an_earlier_run() -> None:
    progress = Progress({ARM: 0.5})
    progress.apply(planned(100), 0)
    lane = progress.lanes[str(ARM)]
    assert lane.left_s(0) == 50
    for number in range(10):
        for event in run_of(number):
            progress.apply(event, 20)
    assert lane.left_s(20) == 180


def test_nobody_guesses_time_left_from_nothing() -> None:
    progress = Progress()
    progress.apply(planned(100), 0)
    assert progress.lanes[str(ARM)].left_s(5) is None


def test_each_noteworthy_event_is_one_plain_line() -> None:
    lines = lines_of(
        (
            PhaseStarted(arch=None, phase="fetch", detail="linux-image-arm64"),
            PhaseAdvanced(arch=None, phase="fetch", done=1, total=2),
            PhaseEnded(arch=None, phase="fetch", duration_s=3),
            planned(3),
            *run_of(1),
            *run_of(2, Outcome.FAIL, "expected 1"),
            GuestDied(arch=ARM, during="bpf/test_progs/case_3", what="panic"),
            CellEnded(arch=ARM, suite="bpf", duration_s=61),
        )
    )
    assert [line[6:] for line in lines] == [
        f"{HOST}    fetch linux-image-arm64",
        f"{HOST}    fetch took 3.0 s",
        "aarch64 bpf: 3 cases planned, 2 left out by decision, 1 not built",
        "aarch64 FAIL bpf/test_progs/case_2: expected 1",
        "aarch64 guest died during bpf/test_progs/case_3: panic",
        "aarch64 bpf: ended after 1 min 01 s: pass 1, fail 1",
    ]


def test_a_long_silence_is_broken() -> None:
    events = [event for number in range(20) for event in run_of(number)]
    lines = lines_of((planned(100), *events), step_s=2)
    assert any(re.search(r"aarch64 \d+ of 100, pass \d+, about .* left", line) for line in lines)


def test_a_thousand_failures_are_not_a_thousand_lines() -> None:
    events = [event for number in range(1000) for event in run_of(number, Outcome.FAIL)]
    lines = lines_of((planned(1000), *events))
    assert len(lines) < 60
    assert any("the report has them all" in line for line in lines)


@settings(max_examples=30)
@given(st.text())
def test_no_text_of_a_guest_is_more_than_one_inert_line(text: str) -> None:
    lines = lines_of(
        (planned(1), *run_of(1, Outcome.FAIL, text), GuestDied(arch=ARM, during=text, what=text))
    )
    assert len(lines) == 3
    assert CONTROL.findall("".join(lines)) == []


def test_a_terminal_is_left_in_order_even_after_an_exception() -> None:
    file = io.StringIO()
    try:
        with LiveView(file, is_terminal=True, width=80) as view:
            view(planned(3))
            view(run_of(1)[0])
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    text = file.getvalue()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is shown again


def test_events_of_many_threads_are_all_counted() -> None:
    file = io.StringIO()
    with LiveView(file, is_terminal=True, width=100) as view:
        view(planned(400))

        def work(first: int) -> None:
            for number in range(first, first + 100):
                for event in run_of(number):
                    view(event)

        threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 400, 100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        view(CellEnded(arch=ARM, suite="bpf", duration_s=1))
    assert "pass 400" in file.getvalue()
