"""Somebody stops a run: soon, with all results kept, and a record that says it is not complete."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.model.record import Ending
from harness.run.boot_error import RunStopped
from harness.run.budget import Limits
from tests.fakes.fake_guest_rig import Run, execute, fake_run, stop_when

SOON_S = 2.0
PATIENT = Limits(boot_s=60, answer_s=30, last_words_s=5, least_s=0.1)
"""Whoever waited for one of these would be late."""


def has_result(run: Run, name: str) -> Callable[[], bool]:
    return lambda: f"bpf/test_progs/{name}" in run.on_disk()


def in_flight(run: Run, name: str) -> Callable[[], bool]:
    return lambda: (
        f"bpf/test_progs/{name}" in [event.facts["case"] for event in run.notes("case_started")]
    )


@pytest.mark.parametrize("fault", ["hang", "hang_deaf", "floods_for_ever", "panic_stuck"])
def test_a_stop_in_a_case_keeps_all_that_was_reported(tmp_path: Path, fault: str) -> None:
    tests = {"alpha": "pass", "beta": "fail", "gamma": fault, "delta": "pass"}
    run = fake_run(tmp_path, tests, limits=PATIENT, budget_s=60, retries=5)
    assert stop_when(run, in_flight(run, "gamma")) < SOON_S
    outcomes = run.outcomes()
    assert [outcomes[name] for name in tests] == ["pass", "fail", "lost", "lost"]
    assert run.of("gamma").detail == "the run was stopped"
    assert run.of("delta").detail == "the run ended before its turn"
    assert isinstance(run.cell.error, RunStopped)
    assert not run.done.complete
    assert [each.ending for each in run.incidents] == [Ending.KILLED]


@pytest.mark.parametrize("boot", ["never_ready", "silent", "no_output", "deaf_after_hello", "slow"])
def test_a_stop_while_a_guest_boots_does_not_wait_for_it(tmp_path: Path, boot: str) -> None:
    run = fake_run(tmp_path, {"alpha": "pass"}, boots=[boot], limits=PATIENT)
    took_s = stop_when(run, (run.folder / "vm1" / "qemu.argv").exists)
    assert took_s < SOON_S
    assert isinstance(run.cell.error, RunStopped)
    assert run.outcomes()["alpha"] == "lost"
    assert [each.ending for each in run.incidents] == [Ending.KILLED]


def test_a_stop_while_a_later_guest_boots_boots_no_other(tmp_path: Path) -> None:
    tests = {"alpha": "dies", "beta": "pass"}
    run = fake_run(tmp_path, tests, boots=["boots", "never_ready"], limits=PATIENT)
    assert stop_when(run, (run.folder / "vm2" / "qemu.argv").exists) < SOON_S
    assert run.boots == 2
    assert isinstance(run.cell.error, RunStopped)


def test_a_cell_that_was_stopped_before_it_began_starts_nothing(tmp_path: Path) -> None:
    run = fake_run(tmp_path, {"alpha": "pass"})
    run.cell.stop()
    execute(run)
    assert isinstance(run.cell.error, RunStopped)
    assert not (run.folder / "vm1" / "qemu.argv").exists()


def test_a_stop_after_the_end_changes_nothing(tmp_path: Path) -> None:
    run = execute(fake_run(tmp_path, {"alpha": "pass"}))
    run.cell.stop()
    run.cell.stop()
    assert run.cell.error is None
    assert run.done.complete


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5])
def test_a_stop_at_any_moment_leaves_a_record_and_no_process(
    tmp_path: Path, delay_s: float
) -> None:
    import time

    tests = dict.fromkeys(("alpha", "beta", "gamma", "delta"), "warns") | {"last": "dies"}
    run = fake_run(tmp_path, tests, limits=PATIENT)
    moment = time.monotonic() + delay_s
    assert stop_when(run, lambda: time.monotonic() >= moment) < SOON_S
    assert isinstance(run.cell.error, RunStopped)
