"""Each fault of a test, planted in a fake guest that is a process: who is blamed, what stands."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from harness.model.record import Ending
from tests.fakes.fake_guest_rig import Run, execute, fake_run


@dataclass(frozen=True, slots=True)
class Expected:
    outcome: str
    detail: str = ""
    """A part of the detail."""
    ending: Ending | None = None
    """How the guest died; None when it lived, or was ended for the program's sake."""
    boots: int = 2
    problem: str = ""
    """A part of what the event log complains of."""


PANIC = "Kernel panic: sysrq triggered crash"
FAULTS = {
    "pass": Expected("pass", boots=1),
    "fail": Expected("fail", "attach unexpected error: -524", boots=1),
    "skip": Expected("skip", boots=1),
    "subtests": Expected("pass", boots=1),
    "hang": Expected("timeout", "no result within its budget of 1 s"),
    "hang_deaf": Expected("timeout", "the agent did not answer in time", Ending.HUNG),
    "late": Expected("pass"),
    "floods_for_ever": Expected("timeout", "no result within its budget"),
    "segv": Expected("crash", "Caught signal #11!"),
    "exits": Expected("crash", "ended with status 1 before its result"),
    "refuses": Expected("crash", "ended with status 255 before its result"),
    "panic_x86": Expected("crash", PANIC, Ending.PANICKED, problem="ends inside a line"),
    "panic_arm64": Expected(
        "crash", "null-ptr-deref in bpf_fake_crash (Kernel panic: Oops", Ending.PANICKED
    ),
    "panic_unspoken": Expected("crash", "GUEST_PANICKED", Ending.PANICKED),
    "panic_stuck": Expected("crash", PANIC, Ending.PANICKED),
    "panic_forged": Expected("pass", boots=1, problem="and the guest lives"),
    "dies": Expected("lost", "QEMU was killed by signal 9", Ending.QEMU_DIED),
    "dies_in_result": Expected("lost", "QEMU was killed by signal 9", Ending.QEMU_DIED),
    "reboots": Expected("crash", "SHUTDOWN guest-reset", Ending.REBOOTED),
    "reboots_unseen": Expected("crash", "booted a second time", Ending.REBOOTED),
    "powers_off": Expected("crash", "SHUTDOWN guest-shutdown", Ending.POWERED_OFF),
    "halts": Expected("crash", "the guest halted", Ending.POWERED_OFF),
    "floods_console": Expected("pass", boots=1),
    "floods_output": Expected("pass", boots=1),
    "forges": Expected("fail", "-524", boots=1, problem="#104 delta was not asked for"),
    "tears_a_frame": Expected("pass", boots=1, problem="damage: not a whole frame"),
    "tears_its_result": Expected("lost", "damaged result line", boots=1, problem="the summary"),
    "megabyte": Expected("pass", boots=1),
    "binary": Expected("pass", boots=1),
    "warns": Expected("pass", boots=1),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """Every fault in a cell of its own, several at once: most of them wait."""

    def run(fault: str) -> Run:
        folder = tmp_path_factory.mktemp(fault)
        tests = {"alpha": "pass", "beta": [fault, "pass"], "gamma": "pass", "delta": "fail"}
        budget_s = 8.0 if FAULTS[fault].outcome == "pass" and fault != "late" else 1.0
        return execute(fake_run(folder, tests, budget_s=budget_s))

    with ThreadPoolExecutor(8) as pool:
        yield dict(zip(FAULTS, pool.map(run, FAULTS), strict=True))


@pytest.mark.parametrize("fault", FAULTS)
def test_one_case_pays_for_a_fault_and_it_is_the_right_one(
    runs: dict[str, Run], fault: str
) -> None:
    expected, run = FAULTS[fault], runs[fault]
    outcomes = {name: word for name, word in run.outcomes().items() if "/" not in name}
    assert outcomes == {
        "alpha": "pass",
        "beta": expected.outcome,
        "gamma": "pass",
        "delta": "fail",
        "denied_one": "denied",
        "unbuilt_one": "not_built",
    }
    assert expected.detail in run.of("beta").detail
    assert run.cell.error is None
    assert run.done.complete


@pytest.mark.parametrize("fault", FAULTS)
def test_results_are_on_disk_in_the_order_in_which_they_came(
    runs: dict[str, Run], fault: str
) -> None:
    written = [case for case in runs[fault].on_disk() if case.count("/") == 2]
    assert [case.rpartition("/")[2] for case in written] == ["alpha", "beta", "gamma", "delta"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_guests_death_is_told_once_with_its_evidence(runs: dict[str, Run], fault: str) -> None:
    expected, run = FAULTS[fault], runs[fault]
    assert run.boots == expected.boots
    assert [each.ending for each in run.incidents] == [expected.ending] * bool(expected.ending)
    for incident in run.incidents:
        assert incident.during == "bpf/test_progs/beta"
        assert incident.evidence


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_in_the_stream_is_called_so(runs: dict[str, Run], fault: str) -> None:
    assert FAULTS[fault].problem in runs[fault].problems()


def test_a_panics_stack_is_whole_although_it_comes_after_the_panic(runs: dict[str, Run]) -> None:
    for fault, last in (("panic_x86", "Kernel Offset"), ("panic_arm64", "secondary CPUs")):
        assert last in runs[fault].incidents[0].evidence[-1]
    (splat,) = runs["panic_arm64"].done.splats
    assert splat.frames[:2] == ("bpf_fake_crash", "bpf_test_run")
    assert splat.during == "bpf/test_progs/beta"


def test_a_crash_is_signed_by_what_the_kernel_said(runs: dict[str, Run]) -> None:
    run = runs["panic_arm64"]
    assert run.of("beta").signature == run.done.splats[0].signature
    assert run.of("beta").splats == (run.done.splats[0].signature,)


def test_a_warning_belongs_to_the_case_in_flight_which_may_pass(runs: dict[str, Run]) -> None:
    (splat,) = runs["warns"].done.splats
    assert splat.during == "bpf/test_progs/beta"
    assert runs["warns"].of("beta").splats == (splat.signature,)
    assert runs["warns"].of("gamma").splats == ()


def test_subtests_are_kept_beside_their_test(runs: dict[str, Run]) -> None:
    outcomes = runs["subtests"].outcomes()
    assert (outcomes["beta/one"], outcomes["beta/two"]) == ("pass", "skip")


def test_cases_have_durations(runs: dict[str, Run]) -> None:
    duration_s = runs["panic_forged"].of("beta").duration_s
    assert duration_s is not None
    assert 0.3 < duration_s < 8
    assert runs["pass"].of("delta").duration_s is not None
