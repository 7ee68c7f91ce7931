"""Boots that fail, each in its own way: whose fault it is, and that it is told once."""

from pathlib import Path

import pytest

from harness.model.errors import KernelError, RigError
from harness.model.record import Ending
from harness.run.budget import Limits
from tests.fakes.fake_guest_rig import execute, fake_run

TWO = {"alpha": "dies", "beta": "pass"}
HELLO = "hello 5.14.0-fake x86_64 0.42 2 1000000"
QUICK = Limits(boot_s=1.5, answer_s=0.5, last_words_s=0.3, least_s=0.1)
FIRST_BOOTS = {
    "refuses": (RigError, "QEMU ended with status 1 before its monitor answered"),
    "no_output": (RigError, "not one byte came from the guest"),
    "ends_silently": (RigError, "QEMU ended with status 1 (not one byte came from the guest)"),
    "killed_in_boot": (RigError, "QEMU was killed by signal 9"),
    "slow": (RigError, "its console was still talking"),
    "no_init": (KernelError, "VFS: Unable to mount root fs"),
}


@pytest.mark.parametrize("boot", FIRST_BOOTS)
def test_a_first_boot_that_fails_is_one_error_with_its_blame(tmp_path: Path, boot: str) -> None:
    kind, what = FIRST_BOOTS[boot]
    run = execute(fake_run(tmp_path, TWO, boots=[boot], limits=QUICK))
    assert type(run.cell.error) is kind
    assert what in str(run.cell.error)
    assert run.cell.error.hint
    assert run.boots == 1
    assert run.outcomes()["alpha"] == run.outcomes()["beta"] == "lost"
    (incident,) = run.incidents
    expected = Ending.NEVER_BOOTED if kind is KernelError else Ending.NEVER_STARTED
    assert (incident.ending, incident.during) == (expected, "boot")


def test_qemus_own_words_are_the_evidence(tmp_path: Path) -> None:
    run = execute(fake_run(tmp_path, TWO, boots=["ends_silently"], limits=QUICK))
    assert run.cell.error is not None
    assert run.cell.error.evidence == ("fake: rom check and register reset failed",)


def test_a_guest_that_fell_silent_is_the_kernels_fault(tmp_path: Path) -> None:
    run = execute(fake_run(tmp_path, TWO, boots=["never_ready"], limits=QUICK))
    assert type(run.cell.error) is KernelError
    assert run.cell.error.evidence == (
        "[    0.000000] Linux version 5.14.0-fake (fake@fake) #1 SMP",
    )


def test_a_guest_that_speaks_still_gets_more_time_than_one_that_does_not(tmp_path: Path) -> None:
    run = execute(fake_run(tmp_path, {"alpha": "pass"}, boots=["late_boot"], limits=QUICK))
    assert run.cell.error is None
    assert run.outcomes()["alpha"] == "pass"


def test_an_agent_that_falls_silent_after_hello_is_an_error_not_a_traceback(tmp_path: Path) -> None:
    limits = Limits(boot_s=5, answer_s=0.5, last_words_s=0.3, least_s=0.1, calibration_s=0.5)
    run = execute(fake_run(tmp_path, TWO, boots=["deaf_after_hello"], limits=limits))
    assert isinstance(run.cell.error, RigError)
    assert "the agent did not answer in time" in str(run.cell.error)


@pytest.mark.parametrize(
    ("hello", "calibrated"),
    [
        ("hello 5.14.0-fake", "1000"),
        ("hello 5.14.0-fake x86_64 soon 2 1000000", "1000"),
        (HELLO, "nan"),
        (HELLO, "-5"),
        (HELLO, ""),
    ],
)
def test_an_agent_that_tells_nonsense_is_not_believed(
    tmp_path: Path, hello: str, calibrated: str
) -> None:
    run = execute(fake_run(tmp_path, TWO, hello=hello, calibrated=calibrated))
    assert isinstance(run.cell.error, RigError)
    assert "the agent" in str(run.cell.error)


def test_a_later_boot_that_fails_is_tried_once_more(tmp_path: Path) -> None:
    run = execute(fake_run(tmp_path, TWO, boots=["boots", "killed_in_boot", "boots"]))
    assert run.cell.error is None
    assert (run.outcomes()["alpha"], run.outcomes()["beta"]) == ("lost", "pass")
    assert [each.ending for each in run.incidents] == [Ending.QEMU_DIED]
    assert "boot: tried once more" in run.problems()


def test_a_kernel_that_does_not_boot_each_time_is_told(tmp_path: Path) -> None:
    run = execute(fake_run(tmp_path, TWO, boots=["boots", "no_init", "boots"]))
    assert run.cell.error is None
    assert run.outcomes()["beta"] == "pass"
    assert [each.ending for each in run.incidents] == [Ending.QEMU_DIED, Ending.NEVER_BOOTED]


def test_two_later_boots_that_fail_end_the_cell_with_its_results(tmp_path: Path) -> None:
    tests = {"alpha": "pass", "beta": "dies", "gamma": "pass"}
    run = execute(fake_run(tmp_path, tests, boots=["boots", "killed_in_boot"]))
    assert isinstance(run.cell.error, RigError)
    outcomes = run.outcomes()
    assert [outcomes[name] for name in tests] == ["pass", "lost", "lost"]
    assert run.of("gamma").detail == "the run ended before its turn"
    assert run.boots == 3


def test_a_folder_that_cannot_be_written_is_the_rigs_fault(tmp_path: Path) -> None:
    run = fake_run(tmp_path, TWO)
    (run.folder / "vm1").write_text("in the way")
    execute(run)
    assert isinstance(run.cell.error, RigError)
    assert "cannot keep the logs of a guest" in str(run.cell.error)


def test_a_slow_guest_is_given_more_time(tmp_path: Path) -> None:
    """Half the speed of the reference, twice the budget."""
    run = execute(fake_run(tmp_path, {"alpha": "hang"}, calibrated="2000", budget_s=0.3))
    assert run.of("alpha").detail == "no result within its budget of 1 s"
    duration_s = run.of("alpha").duration_s
    assert duration_s is not None
    assert duration_s > 0.6
    assert run.done.speed == 0.5
