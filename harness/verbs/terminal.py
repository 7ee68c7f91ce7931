"""The user's terminal tied to a guest's console, for `harness shell`."""

import os
import select
import shutil
import sys
import termios
import time
import tty
from dataclasses import replace
from pathlib import Path

from harness.model.errors import ExitStatus, RigError
from harness.vm.guest_vm import VirtualMachine
from harness.vm.machine import MachineSpec
from harness.vm.qemu import QemuBinary

_LEAVE = b"\x1d"  # Ctrl-]


def relay_console(spec: MachineSpec, folder: Path, qemu: QemuBinary) -> int:
    """Run a guest whose console is this terminal, until it powers off or Ctrl-] is typed."""
    if not sys.stdin.isatty():
        return _relay(spec, folder, qemu, stdin_is_terminal=False)
    before = termios.tcgetattr(sys.stdin)
    print("Ctrl-] ends the guest; `exit` powers it off", file=sys.stderr)
    try:
        tty.setraw(sys.stdin)
        return _relay(spec, folder, qemu, stdin_is_terminal=True)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _relay(spec: MachineSpec, folder: Path, qemu: QemuBinary, *, stdin_is_terminal: bool) -> int:
    def show(data: bytes) -> None:
        os.write(sys.stdout.fileno(), data)

    size = shutil.get_terminal_size()
    sized = f"harness.rows={size.lines} harness.columns={size.columns}"
    spec = _with_cmdline(spec, sized if stdin_is_terminal else "")
    vm = VirtualMachine(spec, folder, qemu, on_console=show)
    try:
        vm.start()
        is_open = True
        while vm.poll() is None:
            if not is_open:
                time.sleep(0.1)
                continue
            ready, _, _ = select.select([sys.stdin], [], [], 0.1)
            if not ready:
                continue
            typed = os.read(sys.stdin.fileno(), 1024)
            is_open = bool(typed)
            if _LEAVE in typed:
                break
            if typed:
                vm.console.send(typed.decode(errors="surrogateescape"))
        status = vm.poll()
    finally:
        vm.close()
    if status:
        raise RigError(f"QEMU ended with status {status}", hint=f"see {folder / 'qemu.stderr'}")
    return int(ExitStatus.ACCEPT)


def _with_cmdline(spec: MachineSpec, extra: str) -> MachineSpec:
    return replace(spec, cmdline=f"{spec.cmdline} {extra}".strip())
