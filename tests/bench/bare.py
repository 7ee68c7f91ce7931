"""The same guest without the harness: QEMU with files for consoles, one process, then power-off.

It boots the harness's own initramfs with one archive behind it that replaces the agent by a script
of a few lines, so that what differs is the harness and nothing else.
"""

import dataclasses
import io
import time
from pathlib import Path

from harness.guest.newc import regular, write_newc
from harness.host.command import kill_group, spawn
from harness.model.plan import Plan
from harness.pipeline import Prepared
from harness.suites.bpf.hooks import bpf_hooks
from harness.vm.machine import Sockets, machine_argv

AGENT = """#!/bin/sh
for folder in /sys/class/virtio-ports/*; do
    read -r name <"$folder/name"
    [ "$name" = org.harness.output ] && port=/dev/${folder##*/}
done
cd %(cwd)s
(exec </dev/null >"$port" 2>&1; env --default-signal=INT,QUIT /bin/sh -c '%(command)s')
sync
printf o >/proc/sysrq-trigger
sleep 5
"""
_LIMIT_S = 1800.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """One bare run."""

    wall_s: float
    first_result_s: float
    """From the start of QEMU to the first result line of test_progs in the output file."""
    output: str


def command_of(prepared: Prepared, plan: Plan) -> str:
    """The one command that runs the plan's cases."""
    (batch,) = plan.batches
    text, cases = bpf_hooks(prepared.selftests).command(batch, batch.cases)
    assert len(cases) == len(batch.cases)
    return text


def run_bare(prepared: Prepared, folder: Path) -> Bare:
    """Boot, run, power off; nothing reads while it runs but a look at the output file's size."""
    folder.mkdir(parents=True)
    setup = prepared.setup
    spec = dataclasses.replace(setup.machine(), initrd=_initrd(prepared, folder))
    argv = list(machine_argv(spec, Sockets.in_folder(folder), setup.qemu))
    for index, word in enumerate(argv):
        for name in ("monitor", "console", "control", "output"):
            if word.startswith(f"socket,id={name},"):
                argv[index] = f"file,id={name},path={folder / name}"
    at = argv.index("chardev=monitor,mode=control")
    del argv[at - 1 : at + 1]  # a monitor needs somebody to talk to
    begin = time.monotonic()
    child = spawn(argv)
    first_s = 0.0
    try:
        while child.poll() is None and time.monotonic() - begin < _LIMIT_S:
            if not first_s and b"\n#" in b"\n" + _content(folder / "output"):
                first_s = time.monotonic() - begin
            time.sleep(0.02 if not first_s else 0.1)
        wall_s = time.monotonic() - begin
    finally:
        kill_group(child)
    text = _content(folder / "output").decode(errors="backslashreplace")
    return Bare(wall_s=wall_s, first_result_s=first_s, output=text)


def _initrd(prepared: Prepared, folder: Path) -> Path:
    agent = AGENT % {
        "cwd": bpf_hooks(prepared.selftests).cwd,
        "command": command_of(prepared, prepared.plan),
    }
    extra = io.BytesIO()
    write_newc([regular("usr/lib/harness/agent", agent.encode(), 0o755)], extra)
    initrd = folder / "initramfs"
    initrd.write_bytes(prepared.setup.initrd.read_bytes() + extra.getvalue())
    return initrd


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
