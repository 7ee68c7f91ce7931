"""The monitor's facade, against a peer that speaks a little QMP."""

import contextlib
import gc
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.vm.monitor import Monitor, MonitorError
from tests.fakes.fake_qemu import requests

GREETING = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": []}}


class Peer:
    """QEMU's side: greets, answers every command with its arguments, refuses `bad`."""

    def __init__(
        self, end: socket.socket, *, after_hello: bytes = b"", dies_after_hello: bool = False
    ) -> None:
        self.end = end
        self._after_hello = after_hello
        self._dies_after_hello = dies_after_hello
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def tell(self, message: object) -> None:
        self.end.sendall(json.dumps(message).encode() + b"\r\n")

    def event(self, name: str, **data: object) -> None:
        self.tell({"event": name, "data": data, "timestamp": {"seconds": 1, "microseconds": 2}})

    def _serve(self) -> None:
        self.tell(GREETING)
        try:
            for request in requests(self.end):
                self._answer(request)
        except OSError:
            return

    def _answer(self, request: dict[str, object]) -> None:
        name, tag = request["execute"], {"id": request["id"]} if "id" in request else {}
        if name == "bad":
            self.tell({"error": {"class": "GenericError", "desc": "it is bad"}, **tag})
        elif name == "die":
            self.end.shutdown(socket.SHUT_RDWR)
        elif name == "qmp_capabilities":
            self.tell({"return": {}, **tag})
            self.end.sendall(self._after_hello)
            if self._dies_after_hello:
                self.end.shutdown(socket.SHUT_RDWR)
        elif name != "sleep":
            self.tell({"return": {"asked": request.get("arguments")}, **tag})


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Monitor]:
    monitor = Monitor("a test", tmp_path / "monitor.jsonl")
    yield monitor
    monitor.close()


Ends = tuple[socket.socket, socket.socket]


def test_a_command_brings_its_value_with_dashes_in_names(monitor: Monitor, ends: Ends) -> None:
    Peer(ends[1])
    monitor.connect(ends[0], 5)
    assert monitor.command("query", job_id="x") == {"asked": {"job-id": "x"}}


def test_a_refused_command_says_why(monitor: Monitor, ends: Ends) -> None:
    Peer(ends[1])
    monitor.connect(ends[0], 5)
    with pytest.raises(MonitorError, match="QEMU refused bad: it is bad"):
        monitor.command("bad")
    assert not monitor.is_dead


def test_a_command_without_an_answer_is_given_up(monitor: Monitor, ends: Ends) -> None:
    Peer(ends[1])
    monitor.connect(ends[0], 5)
    with pytest.raises(MonitorError, match="no answer to sleep"):
        monitor.command("sleep", timeout_s=0.1)
    assert monitor.command("query") == {"asked": None}


def test_a_death_during_a_command_is_said_so(monitor: Monitor, ends: Ends) -> None:
    Peer(ends[1])
    monitor.connect(ends[0], 5)
    with pytest.raises(MonitorError, match="QEMU is gone"):
        monitor.command("die", timeout_s=5)
    assert monitor.wait_death(5)
    with pytest.raises(MonitorError, match="no monitor"):
        monitor.command("query")


def test_an_event_is_found_by_who_asks_too_late(monitor: Monitor, ends: Ends) -> None:
    peer = Peer(ends[1])
    monitor.connect(ends[0], 5)
    peer.event("RESET", guest=True)
    peer.event("SHUTDOWN", reason="guest-reset")
    monitor.command("query")
    event = monitor.wait_event({"SHUTDOWN"}, 0)
    assert event is not None
    assert (event.index, event.data["reason"]) == (1, "guest-reset")
    assert monitor.wait_event({"SHUTDOWN"}, 0, since=2) is None
    assert [e.name for e in monitor.events_since(1)] == ["SHUTDOWN"]


def test_an_event_wakes_who_waits(monitor: Monitor, ends: Ends) -> None:
    peer = Peer(ends[1])
    monitor.connect(ends[0], 5)
    threading.Timer(0.1, peer.event, ("GUEST_PANICKED",)).start()
    assert monitor.wait_event({"GUEST_PANICKED"}, 5) is not None


def test_an_event_right_after_the_hello_is_not_lost(monitor: Monitor, ends: Ends) -> None:
    Peer(ends[1], after_hello=b'{"event":"RESUME","timestamp":{"seconds":1,"microseconds":2}}\n')
    monitor.connect(ends[0], 5)
    assert monitor.wait_event({"RESUME"}, 5) is not None


def test_events_are_on_disk_as_they_come(monitor: Monitor, ends: Ends, tmp_path: Path) -> None:
    peer = Peer(ends[1])
    monitor.connect(ends[0], 5)
    peer.event("RESET", guest=True)
    assert monitor.wait_event({"RESET"}, 5)
    (line,) = (tmp_path / "monitor.jsonl").read_text().splitlines()
    assert json.loads(line)["event"] == "RESET"
    assert json.loads(line)["t_s"] >= 0


def test_a_hostile_guests_events_do_not_fill_the_memory(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.vm.monitor._EVENTS_KEPT", 100)
    monitor = Monitor("a test", tmp_path / "log")
    peer = Peer(ends[1])
    monitor.connect(ends[0], 5)
    for _ in range(250):
        peer.event("RESET")
    peer.event("SHUTDOWN")
    event = monitor.wait_event({"SHUTDOWN"}, 20)
    assert event is not None
    assert event.index == 250
    assert len(monitor.events_since(0)) == 100
    assert len((tmp_path / "log").read_text().splitlines()) == 251
    monitor.close()


def test_waiting_ends_with_the_connection(monitor: Monitor, ends: Ends) -> None:
    peer = Peer(ends[1])
    monitor.connect(ends[0], 5)
    threading.Timer(0.1, peer.end.shutdown, (socket.SHUT_RDWR,)).start()
    begin = time.monotonic()
    assert monitor.wait_event({"SHUTDOWN"}, 30) is None
    assert time.monotonic() - begin < 5
    assert monitor.is_dead


def test_nonsense_ends_the_monitor_and_prints_nothing(
    monitor: Monitor, ends: Ends, capfd: pytest.CaptureFixture[str]
) -> None:
    peer = Peer(ends[1])
    monitor.connect(ends[0], 5)
    peer.end.sendall(b"this is not JSON\r\n")
    assert monitor.wait_death(5)
    monitor.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH\r\n", b"{}\r\n"])
def test_no_greeting_is_no_monitor(monitor: Monitor, ends: Ends, greeting: bytes) -> None:
    ends[1].sendall(greeting)
    with pytest.raises(MonitorError, match="monitor of a test"):
        monitor.connect(ends[0], 0.3)


def test_a_peer_that_is_gone_is_no_monitor(monitor: Monitor, ends: Ends) -> None:
    ends[1].close()
    with pytest.raises(MonitorError, match="no monitor of a test"):
        monitor.connect(ends[0], 5)


def test_a_peer_that_dies_right_after_the_hello_is_a_death_and_quiet(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(20):
        ours, theirs = socket.socketpair()
        with theirs:
            Peer(theirs, dies_after_hello=True)
            monitor = Monitor("a test", tmp_path / f"{number}")
            try:
                monitor.connect(ours, 5)
                assert monitor.wait_death(5)
            except MonitorError:
                pass  # it was seen before the hello was over
            monitor.close()
    gc.collect()
    assert capfd.readouterr() == ("", "")


def test_close_may_come_twice_and_before_a_connection(tmp_path: Path) -> None:
    monitor = Monitor("a test", tmp_path / "log")
    monitor.close()
    monitor.close()


def test_all_monitors_share_one_thread(tmp_path: Path) -> None:
    def loops() -> int:
        return sum(thread.name == "monitors" for thread in threading.enumerate())

    with contextlib.ExitStack() as stack:
        for number in range(3):
            ours, theirs = socket.socketpair()
            Peer(stack.enter_context(theirs))
            monitor = Monitor(f"number {number}", tmp_path / f"{number}")
            stack.callback(monitor.close)
            monitor.connect(ours, 5)
        assert loops() == 1


UNCLOSED = """
import atexit, socket, sys
from pathlib import Path
from harness.vm.monitor import Monitor
from tests.unit.test_vm_monitor import Peer
ours, theirs = socket.socketpair()
atexit.register(theirs.close)
peer = Peer(theirs)
monitor = Monitor("forgotten", Path(sys.argv[1]))
monitor.connect(ours, 5)
peer.event("RESET")
"""


def test_an_interpreter_that_ends_with_a_monitor_open_is_quiet(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", UNCLOSED, str(tmp_path / "log")],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_librarys_loggers_have_a_home() -> None:
    assert logging.getLogger("qemu.qmp").handlers
