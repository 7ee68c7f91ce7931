"""A virtual machine over a QEMU that is a fake and a process."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.model.errors import RigError
from harness.vm.console import Channel, ChannelClosed
from harness.vm.guest_vm import VirtualMachine
from harness.vm.timeline import read_timeline
from tests.fakes.machines import fake_machine, fake_qemu

ROOT = Path(__file__).resolve().parents[2]

MakeMachine = Callable[..., VirtualMachine]


@pytest.fixture
def vm(tmp_path: Path) -> Iterator[MakeMachine]:
    made: list[VirtualMachine] = []

    def make(behaviour: str, *, monitor_timeout_s: float = 20, **words: object) -> VirtualMachine:
        made.append(
            VirtualMachine(
                fake_machine(behaviour, **words),
                tmp_path / "run",
                fake_qemu(tmp_path),
                monitor_timeout_s=monitor_timeout_s,
            )
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


def wait_until(is_met: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_met():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def chunks(channel: Channel) -> Iterator[bytes]:
    """All that comes, to the end."""
    with contextlib.suppress(ChannelClosed):
        while True:
            yield channel.read_chunk(10)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_guest_starts_speaks_and_is_gone_after_close(vm: MakeMachine, tmp_path: Path) -> None:
    with vm("boots") as machine:
        machine.console.expect_exact("Linux version 5.14.0-fake", timeout=10)
        assert machine.monitor.command("query-status")["status"] == "running"
        assert machine.monitor.wait_event({"RTC_CHANGE"}, 10)
        assert machine.poll() is None
    assert machine.poll() == -signal.SIGKILL
    assert machine.monitor_events()[0].name == "RTC_CHANGE"
    assert (tmp_path / "run" / "console.log").read_bytes().startswith(b"[    0.000000] Linux")


def test_the_folder_tells_it_all(vm: MakeMachine, tmp_path: Path) -> None:
    with vm("boots") as machine:
        machine.console.expect_exact("Linux version", timeout=10)
        assert machine.monitor.wait_event({"RTC_CHANGE"}, 10)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "qemu.argv",
        "qemu.stderr",
        "console.log",
        "control.log",
        "output.log",
        "monitor.jsonl",
        "timeline.jsonl",
    }
    assert tuple((tmp_path / "run" / "qemu.argv").read_text().splitlines()) == machine.argv
    assert read_timeline(tmp_path / "run" / "timeline.jsonl")[0].channel == "console"


def test_a_panic_is_seen_on_console_monitor_and_exit_status(vm: MakeMachine) -> None:
    with vm("panics") as machine:
        machine.console.expect_exact("Kernel panic", timeout=10)
        assert machine.monitor.wait_event({"GUEST_PANICKED"}, 10)
        event = machine.monitor.wait_event({"SHUTDOWN"}, 10)
        assert event is not None
        assert event.data["reason"] == "guest-reset"
        assert machine.wait(10) == 0


def test_a_qemu_that_refuses_is_the_rigs_failure_with_its_own_words(
    vm: MakeMachine, tmp_path: Path
) -> None:
    with pytest.raises(
        RigError, match="QEMU ended with status 1 before its monitor answered"
    ) as caught:
        vm("refuses").start()
    assert caught.value.evidence == ("fake: could not load kernel '/artifacts/bzImage'",)
    assert "qemu.argv" in caught.value.hint
    assert (tmp_path / "run" / "qemu.argv").stat().st_size > 0


def test_a_qemu_that_is_not_there_is_the_rigs_failure(vm: MakeMachine, tmp_path: Path) -> None:
    machine = vm("boots")
    machine.qemu.path.unlink()
    with pytest.raises(RigError, match="no such program") as caught:
        machine.start()
    assert "harness doctor" in caught.value.hint


def test_a_qemu_that_never_says_hello_is_given_up_and_killed(vm: MakeMachine) -> None:
    machine = vm("silent", monitor_timeout_s=0.3)
    with pytest.raises(RigError, match="said nothing within"):
        machine.start()
    assert machine.poll() is not None


def test_a_qemu_that_dies_in_the_middle_of_a_line_leaves_what_it_said(
    vm: MakeMachine, tmp_path: Path
) -> None:
    with vm("dies-mid-line") as machine:
        with pytest.raises(ChannelClosed):
            machine.control.read_line(10)
        assert machine.wait(10) == -signal.SIGKILL
    assert (tmp_path / "run" / "console.log").read_bytes().endswith(b"[    0.5] half a li")
    assert (tmp_path / "run" / "control.log").read_bytes() == b"@kh 0123456789abcdef 7 done 1"


def test_a_killed_qemu_is_noticed_at_once(vm: MakeMachine) -> None:
    with vm("boots") as machine:
        machine.kill()
        begin = time.monotonic()
        assert machine.monitor.wait_death(5)
        assert time.monotonic() - begin < 1  # 0.1 s on an idle host
        assert machine.monitor.is_dead
        with pytest.raises(ChannelClosed):
            machine.output.read_chunk(5)


def test_a_channel_that_closes_alone_is_the_end_of_that_channel(vm: MakeMachine) -> None:
    with vm("closes-control") as machine:
        assert machine.control.read_line(10) == "the last words"
        with pytest.raises(ChannelClosed):
            machine.control.read_line(10)
        assert machine.poll() is None
        assert machine.output.read_chunk(0) == b""


def test_a_guest_that_dies_with_our_line_unread_has_its_last_words_heard(vm: MakeMachine) -> None:
    with vm("dies-with-input") as machine:
        machine.control.send_line("a question")
        assert machine.control.read_line(10) == "last words"
        with pytest.raises(ChannelClosed):
            machine.control.read_line(10)


def test_a_conversation(vm: MakeMachine) -> None:
    with vm("echoes") as machine:
        for number in range(100):
            machine.control.send_line(f"{number}")
            assert machine.control.read_line(10) == f"echo {number}"


def test_all_output_of_a_fast_guest_reaches_a_slow_reader(vm: MakeMachine, tmp_path: Path) -> None:
    with vm("floods-output", mib=20) as machine:
        time.sleep(0.3)
        assert machine.output.received_b < 8 << 20  # the guest waits for us
        size_b, tail = 0, b""
        for chunk in chunks(machine.output):
            size_b, tail = size_b + len(chunk), (tail + chunk)[-20:]
        assert tail.endswith(b"the last line\n")
    assert size_b == (tmp_path / "run" / "output.log").stat().st_size


def test_a_guest_in_a_short_lived_thread_outlives_it(vm: MakeMachine) -> None:
    machine = vm("boots")
    starter = threading.Thread(target=machine.start)
    starter.start()
    starter.join(20)
    time.sleep(0.2)  # a death signal would come with the thread's end
    assert machine.poll() is None


def test_a_machine_starts_once(vm: MakeMachine) -> None:
    with vm("boots") as machine, pytest.raises(RuntimeError, match="starts once"):
        machine.start()


def test_the_logs_of_another_machine_are_not_written_over(vm: MakeMachine) -> None:
    vm("boots")
    with pytest.raises(RigError, match="holds the logs of another machine"):
        vm("boots")


def test_close_before_a_start_and_twice_is_harmless(vm: MakeMachine) -> None:
    machine = vm("boots")
    machine.close()
    machine.close()
    assert machine.poll() is None


def test_no_thread_and_no_descriptor_is_left(vm: MakeMachine, tmp_path: Path) -> None:
    with vm("boots"):
        pass  # the spawner and the event loop stay: they are the process's own
    threads, descriptors = threading.active_count(), open_descriptors()
    with VirtualMachine(fake_machine("boots"), tmp_path / "other", fake_qemu(tmp_path)):
        assert threading.active_count() > threads
    assert threading.active_count() == threads
    assert open_descriptors() == descriptors


START = """
import os, sys, time
from pathlib import Path
from harness.vm.guest_vm import VirtualMachine
from tests.fakes.machines import fake_machine, fake_qemu
folder = Path(sys.argv[1])
words = dict(word.split("=") for word in sys.argv[3:])
machine = VirtualMachine(fake_machine(sys.argv[2], **words), folder / "run", fake_qemu(folder))
machine.start()
print(machine._child.pid, flush=True)
"""

FLOOD = (
    START
    + """
size_b = int(words["mib"]) << 20
while machine.console.received_b < size_b - 65536:
    time.sleep(0.05)
machine.close()
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""
)


def harness_process(script: str, folder: Path, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder), *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("end", ["killed", "ends by itself"])
def test_no_qemu_survives_its_harness(tmp_path: Path, end: str) -> None:
    script = START + ("time.sleep(60)" if end == "killed" else "")
    with harness_process(script, tmp_path, "boots") as harness:
        assert harness.stdout is not None
        pid = int(harness.stdout.readline())
        if end == "killed":
            assert is_running(pid)
            harness.kill()
        harness.wait(20)
    wait_until(lambda: not is_running(pid))


def test_a_hundred_mib_of_console_do_not_fill_the_memory(tmp_path: Path) -> None:
    with harness_process(FLOOD, tmp_path, "floods-console", "mib=100") as harness:
        out, _ = harness.communicate(timeout=100)
    peak_kib = int(out.split()[1])
    assert (tmp_path / "run" / "console.log").stat().st_size > 99 << 20
    assert peak_kib < 200 << 10
