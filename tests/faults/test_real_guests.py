"""Faults planted for real in guests of both architectures: one cell each, a death in most cases."""

import os
import shutil
import signal
import threading
import time
from dataclasses import dataclass

import pytest

from harness.model.arch import Arch
from harness.model.events import CaseStarted, Event
from harness.model.record import Ending
from harness.pipeline import Workshop
from tests.fakes.fake_guest_rig import Run, case, check_promises, fake_plan, new_run, run_cell
from tests.faults.scripted import children, scripted_hooks

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="the kernel is fetched by apt"),
]

BUDGET_S = 15.0
MEMORY_MIB = 512
SPIN = "chrt -f 99 sh -c 'while :; do :; done'"


@dataclass(frozen=True, slots=True)
class Fault:
    shell: str
    outcome: str
    ending: Ending | None = None
    detail: str = ""


# In this order, in one plan. What follows a death runs in a fresh guest.
FAULTS = {
    "plain": Fault("true", "pass"),
    "fails": Fault("echo why; false", "fail"),
    "panic": Fault("echo c >/proc/sysrq-trigger; sleep 60", "crash", Ending.PANICKED, "panic"),
    "after_panic": Fault("test $(cut -d. -f1 /proc/uptime) -lt 60", "pass"),
    "reboot": Fault("echo b >/proc/sysrq-trigger; sleep 60", "crash", Ending.REBOOTED),
    "power_off": Fault("echo o >/proc/sysrq-trigger; sleep 60", "crash", Ending.POWERED_OFF),
    "init_is_unkillable": Fault("kill -KILL 1", "pass"),
    "agent_killed": Fault(
        "kill -KILL $(pgrep -f harness/agent); sleep 60", "crash", Ending.POWERED_OFF
    ),
    "agent_stopped": Fault(
        "kill -STOP $(pgrep -f harness/agent); sleep 600", "timeout", Ending.HUNG, "not answer"
    ),
    "starved": Fault(
        f"echo -1 >/proc/sys/kernel/sched_rt_runtime_us; {SPIN} & {SPIN} & {SPIN}",
        "timeout",
        Ending.HUNG,
    ),
    "hang": Fault("sleep 1000", "timeout", None, "no result within its budget"),
    "spin": Fault("while :; do :; done", "timeout", None, "no result within its budget"),
    "oom": Fault("tail /dev/zero; test $? = 137", "pass"),
    "console_flood": Fault("head -c 300000 /dev/zero | tr '\\0' x >/dev/console", "pass"),
    "kmsg_flood": Fault("for i in $(seq 2000); do echo flood $i; done >/dev/kmsg", "pass"),
    "output_flood": Fault("seq 1 100000", "pass"),
    "long_line": Fault("head -c 2000000 /dev/zero | tr '\\0' y; echo", "pass"),
    "binary": Fault("head -c 100000 /dev/urandom; echo", "pass"),
    "forged": Fault(
        "printf '\\n@kh 0123456789abcdef end r1 0 1.00\\n'; echo 'last: ok'; false", "fail"
    ),
    "joke": Fault("echo 'Kernel panic - not syncing: a joke' >/dev/kmsg; sleep 9", "pass"),
    "qemu_killed": Fault("sleep 1000", "lost", Ending.QEMU_DIED, "killed by signal 9"),
    "last": Fault("true", "pass"),
}


def kill_qemu_in(run: Run, name: str) -> None:
    """SIGKILL for the guest, half a second into that case."""

    def watch() -> None:
        while not any(isinstance(each, CaseStarted) and each.case == case(name) for each in events):
            time.sleep(0.05)
        time.sleep(0.5)
        for pid, command in children().items():
            if "qemu-system" in command:
                os.kill(pid, signal.SIGKILL)

    events: list[Event] = run.events
    threading.Thread(target=watch, daemon=True).start()


@pytest.fixture(scope="module", params=list(Arch))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    workshop, arch = Workshop(), request.param
    setup = workshop.guest(workshop.kernel(arch, None), None, memory_mib=MEMORY_MIB)
    plan = fake_plan(list(FAULTS), arch=arch, budget_s=BUDGET_S)
    hooks = scripted_hooks({name: fault.shell for name, fault in FAULTS.items()})
    made = new_run(tmp_path_factory.mktemp(f"faults-{arch}"), plan, setup, hooks)
    kill_qemu_in(made, "qemu_killed")
    run_cell(made)
    return made


def test_the_plan_is_run_to_its_end_and_no_process_is_left(run: Run) -> None:
    check_promises(run)
    assert run.cell.error is None
    assert run.done.complete
    assert not [text for text in children().values() if "qemu-system" in text]


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_has_its_outcome(run: Run, name: str) -> None:
    fault, attempt = FAULTS[name], run.of(name)
    assert str(attempt.outcome) == fault.outcome
    assert fault.detail in attempt.detail


@pytest.mark.parametrize("name", FAULTS)
def test_each_death_has_its_ending_and_evidence(run: Run, name: str) -> None:
    fault = FAULTS[name]
    found = [each for each in run.incidents if each.during == str(case(name))]
    assert [each.ending for each in found] == ([fault.ending] if fault.ending else [])
    assert all(each.evidence for each in found)


def test_every_death_is_some_cases(run: Run) -> None:
    assert len(run.incidents) == sum(fault.ending is not None for fault in FAULTS.values())


def test_the_panic_is_a_complaint_with_its_stack(run: Run) -> None:
    (splat,) = [each for each in run.done.splats if each.during == str(case("panic"))]
    assert splat.kind == "panic"
    assert splat.log is not None
    console = (run.folder / splat.log.log).read_bytes()[splat.log.begin_b : splat.log.end_b]
    assert b"write_sysrq_trigger" in console
    assert run.of("panic").signature == splat.signature


def test_a_forged_panic_is_called_a_joke(run: Run) -> None:
    assert "and the guest lives: Kernel panic: a joke" in run.problems()
