"""One booted guest: its agent answers, its programs run, its death is noticed whoever tells it.

The session owns the conversation (`selftests/guest/agent` is the other side); the virtual machine
owns the processes and sockets. Nothing here knows what a program's output means.
"""

import math
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.guest.wire import Begin, Damage, End, Line, Wire
from harness.model.errors import HarnessError, RigError
from harness.model.record import Ending
from harness.run.boot_error import STOPPED, RunStopped, boot_error
from harness.run.budget import Limits
from harness.run.death import Death, GuestGone, is_ending, judge
from harness.run.kernel_log import ConsoleReader, KernelLog, Nobody
from harness.vm.console import ChannelClosed, ChannelStuck
from harness.vm.guest_vm import VirtualMachine
from harness.vm.machine import MachineSpec
from harness.vm.qemu import QemuBinary

Item = Begin | End | Line | Damage

_GLANCE_S = 0.25
_SETTLE_S = 2.0
_LONGEST = 4
"""Times the usual, for last words of a console that still speaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What the agent says of its guest."""

    release: str
    machine: str
    uptime_s: float
    cpus: int
    memory_kib: int


class Session:
    """A guest from its first byte to its end; one thread asks, any thread may `interrupt`.

    GuestGone leaves `poll`, `shell`, `run_program` and `kill_program` when the guest dies or does
    not answer in time; it is ended then, with its last words in the logs. What the output port had
    said by then is still to be had from `poll`.
    """

    def __init__(
        self,
        spec: MachineSpec,
        folder: Path,
        qemu: QemuBinary,
        *,
        console: ConsoleReader | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.log = KernelLog(console or Nobody(), clock=clock)
        # A started machine is always drained: an unread serial line stops its guest.
        self.vm = VirtualMachine(spec, folder, qemu, on_console=self.log.take)
        self.hello: Hello | None = None
        self.calibration_ms = 0.0
        self._limits = limits or Limits()
        self.patience_s = self._limits.answer_s
        """How long the agent may take to answer."""
        self._clock = clock
        self._nonce = secrets.token_hex(8)
        self._sequence = 0
        self._wire = Wire(self._nonce)
        self._interrupted = threading.Event()
        self._is_starting = False
        self._sign_since: float | None = None
        self._death: Death | None = None

    # -- life ------------------------------------------------------------------------------------

    def start(self, timeout_s: float) -> Hello:
        """Start the machine and wait until the agent has said hello.

        Raises RigError when not one byte came from the guest, when QEMU died, or when the guest was
        merely slow; KernelError when it spoke and did not reach its agent within `timeout_s`.
        """
        begin = self._clock()
        self._start_machine()
        try:
            self.hello = self._greet(begin + timeout_s)
        except GuestGone as gone:
            raise self._boot_error(gone.death, begin) from None
        return self.hello

    def calibrate(self, timeout_s: float = 60.0) -> float:
        """Milliseconds that the agent's fixed loop takes in this guest. Raises as `start` does."""
        begin = self._clock()
        try:
            (text,) = self._ask("calibrate", timeout_s=timeout_s)[:1] or [""]
            self.calibration_ms = self._number(text)
        except GuestGone as gone:
            raise self._boot_error(gone.death, begin) from None
        return self.calibration_ms

    def _start_machine(self) -> None:
        self._is_starting = True
        try:
            if not self._interrupted.is_set():
                self.vm.start()
        except RigError:
            if not self._interrupted.is_set():
                raise
        finally:
            self._is_starting = False
        if self._interrupted.is_set():
            raise RunStopped(STOPPED)

    def interrupt(self) -> None:
        """End the guest at once, from any thread: who waits for it learns that it was stopped."""
        self._interrupted.set()
        self.vm.kill()
        deadline = self._clock() + _SETTLE_S
        while self._is_starting and self._clock() < deadline:
            time.sleep(0.02)
            self.vm.kill()  # the machine may have been made in this moment

    def power_off(self, timeout_s: float = 5.0) -> Death | None:
        """Ask the guest to go, then make it go. Returns its death, when that is not what was asked.

        All that it had said is in the logs then.
        """
        try:
            if self._death is None and not self._is_told_by_qemu():
                self._switch_off(timeout_s)
        except (ChannelClosed, ChannelStuck):
            pass  # it is made to go
        finally:
            self.abandon()
        if self._death is not None:
            return None
        death = judge(self.log.watch, self.vm.monitor_events(), None, ())
        return death if death is not None and death.ending is Ending.PANICKED else None

    def _switch_off(self, timeout_s: float) -> None:
        deadline = self._clock() + timeout_s
        self._sequence += 1
        self.vm.control.send_line(f"{self._nonce} {self._sequence} poweroff", timeout_s)
        while self.vm.poll() is None and self._clock() < deadline:
            time.sleep(0.02)

    def abandon(self) -> None:
        """End the machine at once, whatever it does. Harmless the second time."""
        try:
            self.vm.close()
        finally:
            self.log.finish()

    # -- asking ----------------------------------------------------------------------------------

    def shell(self, text: str, timeout_s: float) -> tuple[int, tuple[str, ...]]:
        """Run shell text in the guest's foreground; return its status and its output lines."""
        out: list[str] = []
        (status,) = self._ask("sh", text, timeout_s=timeout_s, out=out)[:1] or [""]
        return int(self._number(status)), tuple(out)

    def run_program(self, run_id: str, cwd: str, text: str) -> None:
        """Start a program; what it prints and its end come through `poll`."""
        self._ask("run", run_id, cwd, text, timeout_s=self.patience_s)

    def kill_program(self, run_id: str, signal_name: str = "KILL") -> None:
        """Send a signal to a program and to all that it started, also after its end."""
        self._ask("kill", run_id, signal_name, timeout_s=self.patience_s)

    def is_answering(self, timeout_s: float) -> bool:
        """Whether the agent answers a ping in time. A guest that does not is ended."""
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
            rest = [_torn(item) for item in self._wire.finish()]
            if rest:
                return rest
            raise self._gone("the output port closed", is_closed=True) from None
        if chunk:
            return list(self._wire.feed(chunk))
        if self._death is None and self._is_past_hope():
            return self._doubted()
        return []

    # -- death -----------------------------------------------------------------------------------

    def _shows_death(self) -> bool:
        """Whether anything says that the guest is dying. Its end may take a moment more."""
        return (
            self._interrupted.is_set()
            or self.log.watch.ending is not None
            or self._is_told_by_qemu()
        )

    def _is_told_by_qemu(self) -> bool:
        return self.vm.poll() is not None or any(map(is_ending, self.vm.monitor_events()))

    def _is_past_hope(self) -> bool:
        """Whether a sign of death is so old that its end should have come."""
        if not self._shows_death():
            self._sign_since = None
            return False
        if self._sign_since is None:
            self._sign_since = self._clock()
        limit_s, now = self._limits.last_words_s, self._clock()
        age_s, silent_s = now - self._sign_since, now - self.log.last_heard
        is_late = age_s >= limit_s and (silent_s >= limit_s / 2 or age_s >= _LONGEST * limit_s)
        return is_late or self._interrupted.is_set()

    def _doubted(self) -> list[Item]:
        """An end that should have come has not: ask the guest, where only its log speaks of it."""
        claim = self.log.watch.what
        if self._interrupted.is_set() or self._is_told_by_qemu():
            raise self._gone("QEMU does not end")
        self._sign_since = None  # the answer may take as long again
        self._ask("ping", timeout_s=self.patience_s)
        self.log.watch.dismiss()
        return [Damage(f"the kernel log speaks of an end, and the guest lives: {claim}", b"")]

    def _gone(self, otherwise: str, *, is_closed: bool = False) -> GuestGone:
        """End the machine, when it has not ended, and say how it died: `otherwise` without a sign.

        `is_closed`: a port has ended, so QEMU will. The console is complete then, and the output
        port still to be read.
        """
        if self._death is None:
            is_going = is_closed or self._shows_death()
            if is_going and not self._interrupted.is_set():  # its last words are on the way
                self.vm.wait(self._limits.last_words_s)
            self._death = self._autopsy(otherwise)
        return GuestGone(self._death)

    def _autopsy(self, otherwise: str) -> Death:
        status = self.vm.poll()
        self.vm.kill()
        if self.vm.monitor.is_connected:
            self.vm.monitor.wait_death(_SETTLE_S)
        self.vm.console.close()
        self.log.finish()
        if self._interrupted.is_set():
            return Death(ending=Ending.KILLED, what=STOPPED)
        watch, stderr = self.log.watch, self.vm.stderr_text().splitlines()
        death = judge(watch, self.vm.monitor_events(), status, stderr)
        return death or Death(ending=Ending.HUNG, what=otherwise, evidence=watch.evidence)

    def _boot_error(self, death: Death, since: float) -> HarnessError:
        now = self._clock()
        return boot_error(
            death,
            arch=self.vm.spec.arch_spec.arch,
            folder=self.vm.folder,
            stderr=self.vm.stderr_text().splitlines(),
            has_spoken=self.log.watch.has_spoken,
            silent_s=now - self.log.last_heard,
            after_s=now - since,
        )

    # -- wire ------------------------------------------------------------------------------------

    def _greet(self, deadline: float) -> Hello:
        while self._control_line(deadline) != "@kh ready":
            pass
        self._send(f"{self._nonce} hello", deadline)
        words = self._answer("hello", deadline)
        if len(words) < 5:
            raise self._gone(f"the agent's hello is not whole: {' '.join(words)}")
        return Hello(
            release=words[0],
            machine=words[1],
            uptime_s=self._number(words[2]),
            cpus=int(self._number(words[3])),
            memory_kib=int(self._number(words[4])),
        )

    def _ask(
        self, verb: str, *args: str, timeout_s: float, out: list[str] | None = None
    ) -> list[str]:
        self._sequence += 1
        deadline = self._clock() + timeout_s
        self._send(" ".join((self._nonce, str(self._sequence), verb, *args)), deadline)
        return self._answer(str(self._sequence), deadline, out)

    def _send(self, request: str, deadline: float) -> None:
        try:
            self.vm.control.send_line(request, max(0.0, deadline - self._clock()))
        except ChannelClosed:
            raise self._gone("the control port closed", is_closed=True) from None
        except ChannelStuck:
            raise self._gone("the guest takes no input") from None

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
            left_s = deadline - self._clock()
            if left_s <= 0:
                raise self._gone("the agent did not answer in time")
            try:
                line = self.vm.control.read_line(min(left_s, _GLANCE_S))
            except ChannelClosed:
                raise self._gone("the control port closed", is_closed=True) from None
            if line is not None and not self._interrupted.is_set():
                return line
            if self._is_past_hope():
                raise self._gone("the agent did not answer in time")

    def _number(self, text: str) -> float:
        """A number that the agent told. A guest that tells nonsense there is given up."""
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not 0 <= number < 1e12:
            raise self._gone(f"the agent told no number: {text[:80]!r}")
        return number


def _torn(item: Item) -> Item:
    """A last line without its end is damage: nobody knows how it would have gone on."""
    if isinstance(item, Line) and item.text:
        return Damage("the stream ends inside a line", item.text.encode(errors="replace"))
    return item
