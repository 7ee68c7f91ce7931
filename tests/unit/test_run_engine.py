"""Plans over fake guests: what is started again, what is tried again, who is not to blame."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.model.case import Outcome
from harness.model.errors import KernelError, RigError
from harness.model.events import CaseStarted, PhaseStarted
from harness.model.record import Ending
from harness.suites.base import Reader, SuiteHooks
from harness.suites.bpf.dialects import Dialect
from harness.suites.bpf.readers import reader_for
from tests.fakes.fake_guest_rig import Run, case, execute, fake_hooks, fake_plan, fake_run

NAMES = ("one", "two", "three", "four")


def words(run: Run, *names: str) -> str:
    """Outcomes by their initials: `pctf`."""
    outcomes = run.outcomes()
    return "".join(outcomes[name][0] for name in names)


def test_each_case_that_kills_its_guest_costs_itself_only(tmp_path: Path) -> None:
    run = execute(
        fake_run(
            tmp_path,
            {"one": "panic_x86", "two": "dies", "three": "segv", "four": "reboots", "five": "pass"},
        )
    )
    assert words(run, "one", "two", "three", "four", "five") == "clccp"
    assert run.boots == 5
    assert [each.ending for each in run.incidents] == [
        Ending.PANICKED,
        Ending.QEMU_DIED,
        Ending.REBOOTED,
    ]


def test_batches_of_one_memory_share_a_guest(tmp_path: Path) -> None:
    tests = dict.fromkeys(NAMES, "pass")
    run = execute(fake_run(tmp_path, tests, plan=fake_plan(NAMES, batches=4)))
    assert run.boots == 1
    assert words(run, *NAMES) == "pppp"


def test_a_batch_with_a_guest_of_its_own_leaves_none_to_the_next(tmp_path: Path) -> None:
    tests = dict.fromkeys(NAMES, "pass")
    run = execute(fake_run(tmp_path, tests, plan=fake_plan(NAMES, batches=4, own_vm=(1,))))
    assert run.boots == 3
    assert [run.of(name).fresh_vm for name in NAMES] == [True, True, True, False]


def test_what_a_program_left_behind_is_ended_before_the_next_begins(tmp_path: Path) -> None:
    tests = {"one": "pass", "two": "fail", "three": "pass", "four": "fail"}
    run = execute(
        fake_run(tmp_path, tests, plan=fake_plan(NAMES, batches=2), after_end=["talks", "nothing"])
    )
    assert words(run, *NAMES) == "pfpf"
    assert run.boots == 1


def test_what_is_printed_before_a_program_begins_is_no_result(tmp_path: Path) -> None:
    tests = {"one": "fail", "two": "fail", "three": "fail", "four": "fail"}
    run = execute(
        fake_run(tmp_path, tests, plan=fake_plan(NAMES, batches=2), before_begin=["forges_results"])
    )
    assert words(run, *NAMES) == "ffff"


@pytest.mark.parametrize("fault", ["panic_x86", "dies", "powers_off"])
def test_a_guest_that_dies_between_programs_is_no_cases_fault(tmp_path: Path, fault: str) -> None:
    run = execute(
        fake_run(
            tmp_path,
            dict.fromkeys(NAMES, "pass"),
            plan=fake_plan(NAMES, batches=2),
            after_end=[fault, "nothing"],
        )
    )
    assert words(run, *NAMES) == "pppp"
    assert run.boots == 2
    (incident,) = run.incidents
    assert incident.during == "test_progs, after bpf/test_progs/two"


def test_a_guest_that_dies_before_a_program_begins_is_no_cases_fault(tmp_path: Path) -> None:
    run = execute(fake_run(tmp_path, {"one": "pass"}, before_begin=["panic_x86", "nothing"]))
    assert words(run, "one") == "p"
    (incident,) = run.incidents
    assert (incident.ending, incident.during) == (Ending.PANICKED, "test_progs")


@pytest.mark.parametrize(("fault", "kind"), [("panic_x86", KernelError), ("dies", RigError)])
def test_a_program_that_can_never_begin_is_one_error_not_one_a_case(
    tmp_path: Path, fault: str, kind: type[Exception]
) -> None:
    run = execute(fake_run(tmp_path, dict.fromkeys(NAMES, "pass"), before_begin=[fault]))
    assert type(run.cell.error) is kind
    assert "3 guests in a row" in str(run.cell.error)
    assert words(run, *NAMES) == "llll"
    assert run.of("one").detail == "the run ended before its turn"
    assert not run.done.complete
    assert run.boots == 3


def test_a_guest_that_dies_after_its_last_case_is_told(tmp_path: Path) -> None:
    run = execute(fake_run(tmp_path, {"one": "pass"}, poweroff="panics_on_the_way_down"))
    assert words(run, "one") == "p"
    (incident,) = run.incidents
    assert (incident.ending, incident.during) == (Ending.PANICKED, "power-off")
    assert [each.during for each in run.done.splats] == ["power-off"]


def test_a_program_that_refuses_to_run_says_why_once_for_all(tmp_path: Path) -> None:
    run = execute(fake_run(tmp_path, {"one": "refuses", "two": "pass"}))
    assert words(run, "one", "two") == "ll"
    assert run.of("two").detail == "failed to determine number of CPUs: -22"
    assert run.boots == 1
    assert run.cell.error is None


def test_a_program_that_refuses_in_a_used_guest_is_tried_in_a_fresh_one(tmp_path: Path) -> None:
    tests = {"one": "pass", "two": ["refuses", "pass"]}
    run = execute(fake_run(tmp_path, tests, plan=fake_plan(list(tests), batches=2)))
    assert words(run, "one", "two") == "pp"
    assert run.boots == 2
    assert "tried in a fresh guest: failed to determine" in run.problems()


def test_a_program_that_never_ends_after_its_last_case_costs_no_case(tmp_path: Path) -> None:
    run = execute(fake_run(tmp_path, {"one": "pass", "two": "lingers"}))
    assert words(run, "one", "two") == "pp"
    assert "did not end after its last case" in run.problems()


# -- retries -------------------------------------------------------------------------------------


def test_a_killer_is_tried_once_more_alone_and_both_attempts_are_kept(tmp_path: Path) -> None:
    tests = {"one": "pass", "two": ["panic_x86", "pass"], "three": "fail"}
    run = execute(fake_run(tmp_path, tests, retries=5))
    first, second = run.attempts("two")
    assert (first.outcome, second.outcome) == (Outcome.CRASH, Outcome.PASS)
    assert (first.fresh_vm, second.fresh_vm) == (False, True)
    assert first.splats
    assert second.splats == ()
    assert run.boots == 3
    assert run.on_disk()["bpf/test_progs/two"] == ["crash", "pass"]


def test_complaints_of_both_attempts_are_told_apart(tmp_path: Path) -> None:
    run = execute(fake_run(tmp_path, {"one": ["panic_x86", "panic_arm64"]}, retries=1))
    first, second = run.attempts("one")
    assert (first.outcome, second.outcome) == (Outcome.CRASH, Outcome.CRASH)
    assert len(first.splats) == len(second.splats) == 1
    assert first.splats != second.splats
    assert [each.during for each in run.done.splats] == ["bpf/test_progs/one"] * 2


def test_a_case_that_is_out_of_time_is_tried_after_those_that_kill(tmp_path: Path) -> None:
    tests = {"one": "hang", "two": "dies", "three": ["panic_x86", "hang_deaf"]}
    run = execute(fake_run(tmp_path, tests, retries=2, budget_s=0.6))
    assert [len(run.attempts(name)) for name in tests] == [1, 2, 2]
    assert [each.outcome for each in run.attempts("three")] == [Outcome.CRASH, Outcome.TIMEOUT]
    assert "1 cases that cost a guest not tried again" in run.problems()


def test_a_case_that_was_out_of_time_alone_is_not_tried_again(tmp_path: Path) -> None:
    run = execute(fake_run(tmp_path, {"one": "hang"}, retries=2, budget_s=0.6))
    (attempt,) = run.attempts("one")
    assert (attempt.outcome, attempt.fresh_vm) == (Outcome.TIMEOUT, True)


def test_a_process_that_crashes_is_not_tried_again(tmp_path: Path) -> None:
    run = execute(fake_run(tmp_path, {"one": "segv", "two": "exits"}, retries=5))
    assert [len(run.attempts(name)) for name in ("one", "two")] == [1, 1]


# -- faults of the harness's own -----------------------------------------------------------------


def hooks_with(reader: Callable[[Reader], Reader]) -> SuiteHooks:
    plain = fake_hooks()
    return SuiteHooks(
        command=plain.command,
        reader=lambda batch, cases: reader(reader_for(batch.program, cases, Dialect.E)),
        cwd=plain.cwd,
    )


class Failing:
    """A reader that has a fault: it raises at a certain line."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> object:
        return getattr(self._reader, name)

    def feed(self, line: object) -> object:
        if "three" in line.text:  # type: ignore[attr-defined]
            raise ZeroDivisionError("a fault")
        return self._reader.feed(line)  # type: ignore[arg-type]


def test_a_fault_of_the_harness_loses_no_result_and_is_called_one(tmp_path: Path) -> None:
    hooks = hooks_with(Failing)  # type: ignore[arg-type]
    run = execute(fake_run(tmp_path, dict.fromkeys(NAMES, "pass"), hooks=hooks))
    assert isinstance(run.cell.error, RigError)
    assert "ZeroDivisionError: a fault" in str(run.cell.error)
    assert words(run, *NAMES) == "ppll"
    assert run.of("three").detail == "the run ended in its middle"
    (failure,) = run.notes("harness_failure")
    assert "Traceback" in failure.facts["lines"][0]


class Mute:
    """A reader that never sees a result, and says that nothing is in flight."""

    def __init__(self, reader: Reader) -> None:
        self.problems: list[str] = []
        self.notices: list[str] = []
        self.refused = ""
        self.in_flight = None

    def feed(self, line: object) -> list[object]:
        return []

    def finish(self, rc: int | None) -> list[object]:
        return []


def test_a_process_that_begins_costs_a_case_even_if_nothing_is_read_from_it(
    tmp_path: Path,
) -> None:
    hooks = hooks_with(Mute)  # type: ignore[arg-type]
    run = execute(fake_run(tmp_path, {"one": "pass", "two": "pass"}, hooks=hooks))
    assert words(run, "one", "two") == "ll"
    assert run.of("one").detail == "test_progs ended with status 0 and no result of any case"


def test_a_full_disk_ends_the_cell_and_keeps_what_was_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_run(tmp_path, dict.fromkeys(NAMES, "pass"))
    plain, calls = run.log.append, []

    def append(kind: str, **facts: object) -> None:
        calls.append(kind)
        if calls.count("case") > 2:
            raise RigError("cannot write events.jsonl: No space left on device")
        plain(kind, **facts)

    monkeypatch.setattr(run.log, "append", append)
    run.record = run.cell.run()
    run.log.close()
    assert "No space left" in str(run.cell.error)
    assert words(run, *NAMES) == "pppl"
    assert not run.done.complete


def test_events_tell_of_each_case_and_boot(tmp_path: Path) -> None:
    run = execute(fake_run(tmp_path, {"one": "pass", "two": "dies", "three": "pass"}))
    boots = [each for each in run.events if isinstance(each, PhaseStarted)]
    assert [each.detail for each in boots] == ["guest 1", "guest 2"]
    started = [each.case for each in run.events if isinstance(each, CaseStarted)]
    assert started == [case("one"), case("two"), case("three")]
