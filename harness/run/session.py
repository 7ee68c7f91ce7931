"""One booted guest: its agent answers, its programs run, its death is noticed whoever tells it.

The session owns the conversation (`selftests/guest/agent` is the other side); the virtual machine
owns the processes and sockets. Nothing here knows what a program's output means.
"""

import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.guest.wire import Begin, Damage, End, Line, Wire
from harness.model.errors import HarnessError, RigError
from harness.run.boot_error import boot_error
from harness.run.budget import Limits
from harness.run.death import Death, GuestGone
from harness.run.kernel_log import ConsoleReader, KernelLog, Nobody
from harness.run.vitals import LONGEST, Vitals
from harness.vm.console import ChannelClosed, ChannelStuck
from harness.vm.guest_vm import VirtualMachine
from harness.vm.machine import MachineSpec
from harness.vm.qemu import QemuBinary

Item = Begin | End | Line | Damage

_GLANCE_S = 0.25
_SILENCE = 4
"""A console is silent when nothing came for a fourth of the time that a boot may take."""


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
        self._boot_since = clock()
        self._boot_limit_s = self._limits.boot_s
        self._nonce = secrets.token_hex(8)
        self._sequence = 0
        self._wire = Wire(self._nonce)
        self._vitals = Vitals(
            self.vm, self.log, last_words_s=self._limits.last_words_s, clock=clock
        )

    # -- life ------------------------------------------------------------------------------------

    def start(self, timeout_s: float) -> Hello:
        """Start the machine and wait until the agent has said hello.

        One that still speaks then is slow, and gets up to four times as long. Raises RigError when
        not one byte came from the guest, when QEMU died, or when the guest was merely slow;
        KernelError when it spoke and did not reach its agent.
        """
        begin = self._boot_since = self._clock()
        self._boot_limit_s = timeout_s
        self._vitals.start()
        try:
            self._await_ready()
            self.hello = self._greet(max(begin + timeout_s, self._clock() + self.patience_s))
        except GuestGone as gone:
            raise self._boot_error(gone.death) from None
        return self.hello

    def calibrate(self, timeout_s: float = 60.0) -> float:
        """Milliseconds that the agent's fixed loop takes in this guest. Raises as `start` does."""
        try:
            (text,) = self._ask("calibrate", timeout_s=timeout_s)[:1] or [""]
            self.calibration_ms = self._number(text)
        except GuestGone as gone:
            raise self._boot_error(gone.death) from None
        return self.calibration_ms

    def interrupt(self) -> None:
        """End the guest at once, from any thread: who waits for it learns that it was stopped."""
        self._vitals.interrupt()

    def power_off(self, timeout_s: float = 5.0) -> Death | None:
        """Ask the guest to go, then make it go. Returns its death, when that is not what was asked.

        All that it had said is in the logs then.
        """
        try:
            if self._vitals.death is None and not self._vitals.is_told_by_qemu:
                self._switch_off(timeout_s)
        except (ChannelClosed, ChannelStuck):
            pass  # it is made to go
        finally:
            self.abandon()
        return self._vitals.panic()

    def _switch_off(self, timeout_s: float) -> None:
        deadline = self._clock() + timeout_s
        self._sequence += 1
        self.vm.control.send_line(f"{self._nonce} {self._sequence} poweroff", timeout_s)
        while self.vm.poll() is None and self._clock() < deadline:
            time.sleep(0.02)

    def abandon(self) -> None:
        """End the machine at once, whatever it does. Harmless the second time."""
        self._vitals.close()

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
        vitals = self._vitals
        try:
            chunk = self.vm.output.read_chunk(timeout_s) if vitals.may_read_on else b""
        except ChannelClosed:
            rest = [_torn(item) for item in self._wire.finish()]
            if rest:
                return rest
            raise vitals.gone("the output port closed", is_closed=True) from None
        if chunk:
            return list(self._wire.feed(chunk))
        if not vitals.may_read_on or (vitals.death is None and vitals.is_past_hope()):
            return self._doubted()
        return []

    def _doubted(self) -> list[Item]:
        """An end that should have come has not: ask the guest, where only its log speaks of it."""
        claim = self.log.watch.what
        if self._vitals.is_interrupted or self._vitals.is_told_by_qemu:
            raise self._vitals.gone("QEMU does not end")
        self._vitals.hope_again()
        self._ask("ping", timeout_s=self.patience_s)
        self.log.watch.dismiss()
        return [Damage(f"the kernel log speaks of an end, and the guest lives: {claim}", b"")]

    def _boot_error(self, death: Death) -> HarnessError:
        return boot_error(
            death,
            arch=self.vm.spec.arch_spec.arch,
            folder=self.vm.folder,
            stderr=self.vm.stderr_text().splitlines(),
            has_spoken=self.log.watch.has_spoken,
            is_silent=self._is_silent(),
            after_s=self._clock() - self._boot_since,
        )

    def _is_silent(self) -> bool:
        return self._clock() - self.log.last_heard >= self._boot_limit_s / _SILENCE

    # -- wire ------------------------------------------------------------------------------------

    def _await_ready(self) -> None:
        limit_s = self._boot_limit_s
        while self._glance(_GLANCE_S) != "@kh ready":
            age_s = self._clock() - self._boot_since
            if age_s >= limit_s and (self._is_silent() or age_s >= LONGEST * limit_s):
                raise self._vitals.gone("its agent said nothing")

    def _greet(self, deadline: float) -> Hello:
        self._send(f"{self._nonce} hello", deadline)
        words = self._answer("hello", deadline)
        if len(words) < 5:
            raise self._vitals.gone(f"the agent's hello is not whole: {' '.join(words)}")
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
            raise self._vitals.gone("the control port closed", is_closed=True) from None
        except ChannelStuck:
            raise self._vitals.gone("the guest takes no input") from None

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
                raise self._vitals.gone("the agent did not answer in time")
            line = self._glance(min(left_s, _GLANCE_S))
            if line is not None:
                return line

    def _glance(self, timeout_s: float) -> str | None:
        """A line of the control port, if one comes soon. Raises GuestGone."""
        try:
            line = self.vm.control.read_line(timeout_s)
        except ChannelClosed:
            raise self._vitals.gone("the control port closed", is_closed=True) from None
        if self._vitals.is_interrupted or (line is None and self._vitals.is_past_hope()):
            raise self._vitals.gone("the agent did not answer in time")
        return line

    def _number(self, text: str) -> float:
        """A number that the agent told. A guest that tells nonsense there is given up."""
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not 0 <= number < 1e12:
            raise self._vitals.gone(f"the agent told no number: {text[:80]!r}")
        return number


def _torn(item: Item) -> Item:
    """A last line without its end is damage: nobody knows how it would have gone on."""
    if isinstance(item, Line) and item.text:
        return Damage("the stream ends inside a line", item.text.encode(errors="replace"))
    return item
