"""The user's terminal tied to a guest's console, for `harness shell`."""

import os
import select
import shutil
import sys
import termios
import threading
import time
import tty
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.model.errors import ExitStatus, KernelError, RigError
from harness.run.budget import Limits
from harness.vm.console import ChannelError
from harness.vm.guest_vm import VirtualMachine
from harness.vm.machine import MachineSpec
from harness.vm.qemu import QemuBinary

_LEAVE = b"\x1d"  # Ctrl-]
_END = b"\nexit\n"  # Ctrl-D would be lost: the line editor changes the terminal's mode under it
_READY = b"harness: a shell in the guest"  # selftests/guest/init says it
_GLANCE_S = 0.1
_LINES = 12


def relay_console(spec: MachineSpec, folder: Path, qemu: QemuBinary) -> int:
    """Run a guest whose console is this terminal, until it powers off or Ctrl-] is typed.

    Without a terminal the shell is given what standard input holds. Raises KernelError when the
    guest does not reach its shell then, RigError when QEMU fails.
    """
    if not sys.stdin.isatty():
        return Relay(spec, folder, qemu).run(boot_limit_s=Limits().boot_s)
    before = termios.tcgetattr(sys.stdin)
    print("Ctrl-] ends the guest; `exit` powers it off", file=sys.stderr)
    spec = replace(spec, cmdline=f"{spec.cmdline} {terminal_words(os.environ)}")
    try:
        tty.setraw(sys.stdin)
        return Relay(spec, folder, qemu).run()
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        print(f"\nthe guest is gone; all it said is in {folder / 'console.log'}", file=sys.stderr)


def terminal_words(env: Mapping[str, str]) -> str:
    """What the guest is told of this terminal on its kernel's command line."""
    size = shutil.get_terminal_size()
    words = [f"harness.rows={size.lines}", f"harness.columns={size.columns}"]
    name = env.get("TERM", "")
    # A word of the command line ends at a blank, and quotes would open a string.
    if name and name.isascii() and name.replace("-", "").replace("+", "").isalnum():
        words.append(f"harness.term={name}")
    return " ".join(words)


class Relay:
    """Standard input to the guest's console, and its console to standard output."""

    def __init__(self, spec: MachineSpec, folder: Path, qemu: QemuBinary) -> None:
        self._folder = folder
        self._vm = VirtualMachine(spec, folder, qemu, on_console=self._show)
        self._seen = b""
        self._is_ready = threading.Event()
        """The shell is there: what is sent earlier would be lost."""
        self._is_unread = threading.Event()
        """Nobody reads our standard output any more."""
        self._typed = b""
        self._is_open = True

    def run(self, boot_limit_s: float | None = None) -> int:
        """Start the guest and relay until its end, or until it is left."""
        try:
            self._vm.start()
            deadline = time.monotonic() + boot_limit_s if boot_limit_s is not None else None
            while self._vm.poll() is None and not self._is_unread.is_set():
                if not self._glance():
                    break
                if deadline and not self._is_ready.is_set() and time.monotonic() > deadline:
                    raise self._no_shell(f"within {boot_limit_s:.0f} s")
            status = self._vm.poll()
        finally:
            self._vm.close()
        if status:
            raise RigError(
                f"QEMU ended with status {status}",
                hint=f"see {self._folder / 'qemu.stderr'}",
                evidence=tuple(self._vm.stderr_text().splitlines()[-_LINES:]),
            )
        if status == 0 and not self._is_ready.is_set():
            raise self._no_shell("before it ended")
        return int(ExitStatus.ACCEPT)

    def _glance(self) -> bool:
        """Pass on what has been typed; False when the guest is to be left."""
        self._read_typed()
        if _LEAVE in self._typed:
            return False
        if self._typed and self._is_ready.is_set():
            data, self._typed = self._typed, b""
            try:
                self._vm.console.send_bytes(data)
            except ChannelError:
                return False  # it is gone, or takes nothing: there is nobody to talk to
        return True

    def _read_typed(self) -> None:
        if not self._is_open:
            time.sleep(_GLANCE_S)
            return
        ready, _, _ = select.select([sys.stdin], [], [], _GLANCE_S)
        if not ready:
            return
        data = os.read(sys.stdin.fileno(), 1024)
        if not data:
            self._is_open = False
            data = _END  # the end of what was piped in is the end of the shell
        self._typed += data

    def _show(self, data: bytes) -> None:
        """In the thread that drains the console."""
        if not self._is_ready.is_set():
            self._seen = (self._seen + data)[-4096:]
            if _READY in self._seen:
                self._is_ready.set()
        try:
            while data and not self._is_unread.is_set():
                data = data[os.write(sys.stdout.fileno(), data) :]
        except OSError:
            self._is_unread.set()

    def _no_shell(self, when: str) -> KernelError:
        lines = self._seen.decode(errors="backslashreplace").splitlines()
        return KernelError(
            f"the guest did not reach its shell {when}",
            hint=f"see {self._folder / 'console.log'}",
            evidence=tuple(lines[-_LINES:]),
        )
