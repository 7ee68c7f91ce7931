"""One booted guest: its agent answers, its programs run, its death is noticed whoever tells it.

The session owns the conversation (`selftests/guest/agent` is the other side); the virtual machine
owns the processes and sockets. Nothing here knows what a program's output means.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.guest.wire import Begin, Damage, End, Line, Wire
from harness.model.errors import KernelError, RigError
from harness.model.record import Ending
from harness.run.death import ConsoleWatch
from harness.run.lines import LineSplitter
from harness.vm.console import ChannelClosed
from harness.vm.guest_vm import VirtualMachine
from harness.vm.machine import MachineSpec
from harness.vm.qemu import QemuBinary

Item = Begin | End | Line | Damage

_GRACE_S = 1.0
"""How long the last words of a dead guest may take to come through the console's socket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A guest that is gone or must be taken for gone."""

    ending: Ending
    what: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What the agent says of its guest."""

    release: str
    machine: str
    uptime_s: float
    cpus: int
    memory_kib: int


class GuestGone(Exception):
    """The guest died while something was asked of it; never leaves this package."""

    def __init__(self, death: Death) -> None:
        super().__init__(death.what)
        self.death = death


class Session:
    """A guest from its first byte to its end.

    `on_console_line(text, begin_b, end_b)` gets each line of the kernel log, on a thread of the
    console's own.
    """

    def __init__(
        self,
        spec: MachineSpec,
        folder: Path,
        qemu: QemuBinary,
        *,
        on_console_line: Callable[[str, int, int], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # A started machine is always drained: an unread serial line stops its guest.
        self.vm = VirtualMachine(spec, folder, qemu, on_console=self._take_console)
        self.watch = ConsoleWatch()
        self.hello: Hello | None = None
        self.calibration_ms = 0.0
        self._on_console_line = on_console_line
        self._clock = clock
        self._nonce = secrets.token_hex(8)
        self._sequence = 0
        self._wire = Wire(self._nonce)
        self._splitter = LineSplitter()
        self._tail: list[str] = []
        self._expected_end = False

    # -- life ------------------------------------------------------------------------------------

    def start(self, timeout_s: float) -> Hello:
        """Start the machine and wait until the agent has said hello.

        Raises RigError when not one byte came from the guest, KernelError when it spoke and did not
        reach its agent within `timeout_s`.
        """
        self.vm.start()
        deadline = self._clock() + timeout_s
        try:
            self._await_ready(deadline)
            self.vm.control.send_line(f"{self._nonce} hello")
            words = self._answer("hello", deadline)
        except GuestGone as gone:
            raise self._boot_error(gone.death) from None
        self.hello = Hello(
            release=words[0],
            machine=words[1],
            uptime_s=float(words[2]),
            cpus=int(words[3]),
            memory_kib=int(words[4]),
        )
        return self.hello

    def calibrate(self, timeout_s: float = 60.0) -> float:
        """Milliseconds that the agent's fixed loop takes in this guest."""
        self.calibration_ms = float(self._ask("calibrate", timeout_s=timeout_s)[0])
        return self.calibration_ms

    def power_off(self, timeout_s: float = 5.0) -> None:
        """Ask the guest to go, then make it go."""
        if self.death() is None:
            self._expected_end = True
            self._sequence += 1
            try:
                self.vm.control.send_line(f"{self._nonce} {self._sequence} poweroff")
                deadline = self._clock() + timeout_s
                while self.vm.poll() is None and self._clock() < deadline:
                    time.sleep(0.02)
            except (ChannelClosed, OSError):
                pass
        self.vm.close()

    def abandon(self) -> None:
        """End the machine at once, whatever it does."""
        self._expected_end = True
        self.vm.close()

    # -- asking ----------------------------------------------------------------------------------

    def shell(self, text: str, timeout_s: float) -> tuple[int, tuple[str, ...]]:
        """Run shell text in the guest's foreground; return its status and its output lines."""
        out: list[str] = []
        status = self._ask("sh", text, timeout_s=timeout_s, out=out)[0]
        return int(status), tuple(out)

    def run_program(self, run_id: str, cwd: str, text: str) -> None:
        """Start a program; what it prints and its end come through `poll`."""
        self._ask("run", run_id, cwd, text, timeout_s=30.0)

    def kill_program(self, run_id: str, signal_name: str = "KILL") -> None:
        self._ask("kill", run_id, signal_name, timeout_s=30.0)

    def is_answering(self, timeout_s: float) -> bool:
        """Whether the agent answers a ping in time. A dead guest does not."""
        try:
            self._ask("ping", timeout_s=timeout_s)
        except GuestGone:
            return False
        return True

    def poll(self, timeout_s: float) -> list[Item]:
        """What the output port said since the last call; waits up to `timeout_s` for a byte.

        Raises GuestGone once the guest is dead and all that it had said is read.
        """
        try:
            chunk = self.vm.output.read_chunk(timeout_s)
        except ChannelClosed:
            rest = self._wire.finish()
            if rest:
                return rest
            raise GuestGone(self._await_death()) from None
        if chunk:
            return self._wire.feed(chunk)
        death = self.death()
        if death is not None:
            raise GuestGone(self._await_death())
        return []

    # -- death -----------------------------------------------------------------------------------

    def death(self) -> Death | None:
        """The guest's end as far as anybody has said, or None while it lives."""
        watch = self.watch
        if watch.ending is not None:
            return Death(ending=watch.ending, what=watch.what, evidence=self.console_tail())
        events = [event for event in self.vm.monitor_events() if event.name in _ENDING_EVENTS]
        for event in events:
            reason = str(event.data.get("reason", ""))
            ending = _ENDING_EVENTS[event.name].get(reason, _ENDING_EVENTS[event.name][""])
            what = f"QEMU reported {event.name} {reason}".strip()
            return Death(ending=ending, what=what, evidence=self.console_tail())
        status = self.vm.poll()
        if status is not None:
            what = f"QEMU ended with status {status}"
            lines = tuple(self.vm.stderr_text().splitlines()[-8:])
            return Death(ending=Ending.QEMU_DIED, what=what, evidence=lines or self.console_tail())
        return None

    def console_tail(self) -> tuple[str, ...]:
        """The last lines of the kernel log."""
        return tuple(self._tail[-20:])

    def _await_death(self) -> Death:
        # The first sign is often not the best one: a closed port is seen before the panic's text
        # has come through the console. Anything but a panic waits a moment for one.
        deadline = self._clock() + _GRACE_S
        death = self.death()
        while self._clock() < deadline and not (death and death.ending is Ending.PANICKED):
            time.sleep(0.02)
            death = self.death()
        if death is None:
            return Death(
                ending=Ending.HUNG, what="the output port closed", evidence=self.console_tail()
            )
        return death

    def _boot_error(self, death: Death) -> KernelError | RigError:
        where = f"{self.vm.spec.arch_spec.arch}: the guest did not reach its agent: {death.what}"
        if not self.watch.has_spoken:
            stderr = tuple(self.vm.stderr_text().splitlines()[-8:])
            return RigError(
                where + " (not one byte came from the guest)",
                hint=f"the command is in {self.vm.folder / 'qemu.argv'}",
                evidence=stderr,
            )
        return KernelError(
            where, hint=f"see {self.vm.folder / 'console.log'}", evidence=self.console_tail()
        )

    # -- wire ------------------------------------------------------------------------------------

    def _await_ready(self, deadline: float) -> None:
        while True:
            line = self._control_line(deadline)
            if line == "@kh ready":
                return

    def _ask(
        self, verb: str, *args: str, timeout_s: float, out: list[str] | None = None
    ) -> list[str]:
        self._sequence += 1
        request = " ".join((self._nonce, str(self._sequence), verb, *args))
        if "\n" in request:
            raise ValueError("a request is one line")
        try:
            self.vm.control.send_line(request)
        except (ChannelClosed, OSError):
            raise GuestGone(self._await_death()) from None
        return self._answer(str(self._sequence), self._clock() + timeout_s, out)

    def _answer(self, tag: str, deadline: float, out: list[str] | None = None) -> list[str]:
        """Words after the frame's tag (and after its verb, for a numbered request)."""
        prefix = f"@kh {self._nonce} {tag} "
        while True:
            line = self._control_line(deadline)
            if not line.startswith(prefix):
                continue
            rest = line[len(prefix) :]
            if tag == "hello":
                return rest.split()
            verb, _, tail = rest.partition(" ")
            if verb == "out":
                if out is not None:
                    out.append(tail)
                continue
            if verb == "error":
                raise RigError(f"the guest's agent refused: {tail}")
            return tail.split()

    def _control_line(self, deadline: float) -> str:
        """The next line of the control port. Raises GuestGone when it dies or the time is over."""
        while True:
            left = deadline - self._clock()
            if left <= 0:
                raise GuestGone(
                    self.death()
                    or Death(
                        ending=Ending.HUNG,
                        what="the agent did not answer in time",
                        evidence=self.console_tail(),
                    )
                )
            try:
                line = self.vm.control.read_line(min(left, 0.25))
            except ChannelClosed:
                raise GuestGone(self._await_death()) from None
            if line is not None:
                return line
            if self.death() is not None:
                raise GuestGone(self._await_death())

    def _take_console(self, data: bytes) -> None:
        for text, begin_b, end_b in self._splitter.feed(data):
            self.watch.feed(text)
            self._tail.append(text)
            del self._tail[:-40]
            self._on_console_line(text, begin_b, end_b)


_ENDING_EVENTS: dict[str, dict[str, Ending]] = {
    "GUEST_PANICKED": {"": Ending.PANICKED},
    "SHUTDOWN": {
        "": Ending.POWERED_OFF,
        "guest-shutdown": Ending.POWERED_OFF,
        "guest-reset": Ending.REBOOTED,
        "guest-panic": Ending.PANICKED,
        "host-qmp-quit": Ending.KILLED,
        "host-signal": Ending.QEMU_DIED,
    },
}


def first_line(lines: Sequence[str]) -> str:
    """The first line that says anything, or ""."""
    return next((line.strip() for line in lines if line.strip()), "")
