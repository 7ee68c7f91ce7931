"""One QEMU process and all that belongs to it: channels, monitor, evidence on disk."""

import contextlib
import socket
from pathlib import Path
from types import TracebackType

from harness.host.cache import write_atomically
from harness.host.command import Child, kill_group, wait_for
from harness.host.faults import hint_of
from harness.model.errors import RigError
from harness.vm.console import BytesHook, Channel
from harness.vm.machine import MachineSpec, Sockets, machine_argv
from harness.vm.monitor import Monitor, MonitorError, MonitorEvent
from harness.vm.qemu import QemuBinary
from harness.vm.spawner import SPAWNER
from harness.vm.timeline import Timeline

_MONITOR_TIMEOUT_S = 30.0
_EXIT_S = 2.0
_STDERR_TAIL_B = 65536
_EVIDENCE_LINES = 12
_ENDS = ("monitor", "console", "control", "output")


def _ignore(data: bytes) -> None:
    return


class VirtualMachine:
    """A guest from `start` to `close`, also as a context manager that does both.

    All that is known of it is in `folder`, as it comes: qemu.argv, qemu.stderr, console.log,
    control.log, output.log, monitor.jsonl, timeline.jsonl.
    """

    def __init__(
        self,
        spec: MachineSpec,
        folder: Path,
        qemu: QemuBinary,
        *,
        on_console: BytesHook = _ignore,
        monitor_timeout_s: float = _MONITOR_TIMEOUT_S,
    ) -> None:
        """`on_console` sees all console bytes at once, in the thread that drains them.

        Raises RigError for a folder that holds another machine's logs: offsets would lie.
        """
        if (folder / "console.log").exists():
            raise RigError(f"{folder} holds the logs of another machine")
        self.spec = spec
        self.folder = folder
        self.qemu = qemu
        self.argv: tuple[str, ...] = ()
        folder.mkdir(parents=True, exist_ok=True)
        self._stderr = folder / "qemu.stderr"
        self._stderr.touch()
        self._monitor_timeout_s = monitor_timeout_s
        self.timeline = Timeline(folder / "timeline.jsonl")
        self.console = self._channel("console", lossless=False, on_bytes=on_console)
        self.control = self._channel("control", lossless=True)
        self.output = self._channel("output", lossless=True)
        self.monitor = Monitor(
            f"QEMU {spec.arch_spec.arch}", folder / "monitor.jsonl", self.timeline.start
        )
        self._child: Child | None = None

    def _channel(self, name: str, *, lossless: bool, on_bytes: BytesHook = _ignore) -> Channel:
        log = self.folder / f"{name}.log"
        return Channel(name, log, self.timeline, lossless=lossless, on_bytes=on_bytes)

    def start(self) -> None:
        """Start QEMU and the guest; returns as soon as the monitor answers.

        Raises RigError, with the end of QEMU's stderr, when QEMU cannot be started, ends at once,
        or does not answer; nothing is left running then.
        """
        if self._child is not None:
            raise RuntimeError("a virtual machine starts once")
        pairs = {name: socket.socketpair() for name in _ENDS}
        try:
            self._child = self._spawned({name: theirs for name, (_, theirs) in pairs.items()})
            for channel in (self.console, self.control, self.output):
                channel.attach(pairs[channel.name][0])
            self.monitor.connect(pairs["monitor"][0], self._monitor_timeout_s)
        except MonitorError as error:
            raise self._stillborn(error) from error
        except BaseException:
            self.close()
            for ours, _ in pairs.values():
                ours.close()
            raise

    def _spawned(self, theirs: dict[str, socket.socket]) -> Child:
        with contextlib.ExitStack() as stack:
            for end in theirs.values():
                stack.enter_context(end)  # once QEMU has its copies: its end shall be their end
            fds = {name: end.fileno() for name, end in theirs.items()}
            self.argv = machine_argv(self.spec, Sockets(**fds), self.qemu)
            write_atomically(self.folder / "qemu.argv", "\n".join((*self.argv, "")).encode())
            return SPAWNER.spawn(self.argv, output=self._stderr, pass_fds=tuple(fds.values()))

    def _stillborn(self, error: MonitorError) -> RigError:
        status = self.wait(_EXIT_S)
        self.close()
        what = (
            f"QEMU is running and does not work: {error}"
            if status is None
            else f"QEMU {_ending_text(status)} before its monitor answered"
        )
        return RigError(
            f"{what} ({self.spec.arch_spec.arch})",
            hint=f"its command line is in {self.folder / 'qemu.argv'}",
            evidence=tuple(self.stderr_text().splitlines()[-_EVIDENCE_LINES:]),
        )

    def poll(self) -> int | None:
        """QEMU's exit status, negative for a signal; None while it runs or before it started.

        Raises RigError when the console's log cannot be written, or its hook failed.
        """
        if self.console.failure is not None:
            raise RigError(
                f"the console's evidence is lost: {self.console.failure}",
                hint=hint_of(self.console.failure),
            )
        return None if self._child is None else self._child.poll()

    def wait(self, timeout_s: float) -> int | None:
        """The same, after waiting for the end up to this long."""
        if self._child is not None:
            wait_for(self._child, timeout_s)
        return self.poll()

    def kill(self) -> None:
        """End QEMU now and reap it; what it had sent stays readable. Harmless the second time."""
        if self._child is not None:
            kill_group(self._child)

    def monitor_events(self) -> tuple[MonitorEvent, ...]:
        """All that QEMU has said unasked, oldest first; also after the end."""
        return self.monitor.events_since(0)

    def stderr_text(self) -> str:
        """The end of what QEMU printed."""
        with self._stderr.open("rb") as file:
            file.seek(max(0, self._stderr.stat().st_size - _STDERR_TAIL_B))
            return file.read().decode(errors="backslashreplace")

    def close(self) -> None:
        """End everything, with all that had been sent in the logs. Harmless the second time."""
        self.kill()
        if self._child is not None and self.monitor.is_connected:
            self.monitor.wait_death(_EXIT_S)
        self.monitor.close()
        for channel in (self.console, self.control, self.output):
            channel.close()
        self.timeline.close()

    def __enter__(self) -> "VirtualMachine":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _ending_text(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
