"""A stand-in for QEMU with a guest in it: it boots, its agent answers, its test_progs has faults.

A script (JSON) says what each boot does and what each test does at its first, second, … time; what
was done is counted in a folder, since each boot is a process of its own. See fake_guest_rig.py.
"""

import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.fakes.fake_qemu import Guest, after, wait_for_ever

BANNER = "[    0.000000] Linux version 5.14.0-fake (fake@fake) #1 SMP\n"
MIB = 1 << 20

PANIC_X86 = """\
[   12.345678] sysrq: Trigger a crash
[   12.345680] Kernel panic - not syncing: sysrq triggered crash
[   12.345690] CPU: 0 PID: 77 Comm: test_progs Not tainted 5.14.0-fake #1
[   12.345700] Call Trace:
[   12.345701]  <TASK>
[   12.345702]  dump_stack_lvl+0x44/0x5c
[   12.345703]  panic+0x118/0x2ed
[   12.345704]  sysrq_handle_crash+0x16/0x20
[   12.345705]  </TASK>
[   12.345999] Kernel Offset: 0x1c00000 from 0xffffffff81000000
"""
PANIC_ARM64 = """\
[   20.100000] Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008
[   20.100001] Mem abort info:
[   20.100002]   ESR = 0x0000000096000004
[   20.100003] Internal error: Oops: 0000000096000004 [#1] SMP
[   20.100004] CPU: 1 PID: 88 Comm: test_progs Not tainted 5.14.0-fake #1
[   20.100005] pc : bpf_fake_crash+0x20/0x30
[   20.100006] lr : bpf_test_run+0x10/0x30
[   20.100007] Call trace:
[   20.100008]  bpf_fake_crash+0x20/0x30
[   20.100009]  bpf_test_run+0x20/0x30
[   20.100010]  el0t_64_sync+0x190/0x194
[   20.100011] Code: d503201f d503201f d503233f a9be7bfd (f9400001)
[   20.100012] ---[ end trace 0000000000000000 ]---
[   20.100013] Kernel panic - not syncing: Oops: Fatal exception
[   20.100014] SMP: stopping secondary CPUs
"""
WARN = """\
[   30.000000] ------------[ cut here ]------------
[   30.000001] WARNING: CPU: 1 PID: 99 at kernel/bpf/fake.c:12 bpf_fake_warn+0x1a/0x20
[   30.000002] CPU: 1 PID: 99 Comm: test_progs Not tainted 5.14.0-fake #1
[   30.000003] RIP: 0010:bpf_fake_warn+0x1a/0x20
[   30.000004] Call Trace:
[   30.000005]  bpf_test_run+0x20/0x30
[   30.000006] ---[ end trace 0000000000000000 ]---
"""
NO_ROOT = """\
[    0.912345] VFS: Unable to mount root fs on unknown-block(0,0)
[    0.912346] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)
"""


class Ended(Exception):
    """The program ends here, with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class FakeGuest(Guest):
    """A guest with its agent."""

    def __init__(self, argv: list[str]) -> None:
        super().__init__(argv)
        self.script = json.loads(Path(self.words["fake_script"]).read_text())
        self._state = Path(self.script["state"])
        self.nonce = ""
        self.is_deaf = False
        self.is_asked = threading.Event()
        """Somebody wants to know whether it lives."""
        self.programs: dict[str, Program] = {}

    def times(self, what: str) -> int:
        """How often this was asked before, in all boots."""
        with (self._state / what).open("ab") as file:
            file.write(b".")
            return file.tell() - 1

    def nth(self, what: str, choices: list[str]) -> str:
        return choices[min(self.times(what), len(choices) - 1)]

    def frame(self, text: str) -> None:
        self.ends["output"].sendall(f"\n@kh {self.nonce} {text} 4.20\n".encode())

    def answer(self, text: str) -> None:
        self.say(f"@kh {self.nonce} {text}\n", "control")

    def go(self, reason: str) -> None:
        """QEMU's orderly end."""
        self.event("SHUTDOWN", guest=True, reason=reason)
        os._exit(0)

    def panic(self, text: str) -> None:
        self.say(text)
        self.event("GUEST_PANICKED", action="run")
        self.go("guest-reset")

    # -- the agent -------------------------------------------------------------------------------

    def get_ready(self) -> None:
        while not self.nonce:
            self.say("@kh ready\n", "control")
            time.sleep(0.05)

    def serve(self) -> None:
        port = self.ends["control"]
        lines = port.makefile("rb")
        while port.recv(1, socket.MSG_PEEK):
            if self.is_deaf:
                wait_for_ever()
            words = lines.readline().decode().rstrip("\n").split(" ", 3)
            self.nonce = self.nonce or words[0]
            if words[1] == "hello":
                self.answer(self.script["hello"])
            else:
                self.obey(words[1], words[2], words[3] if len(words) > 3 else "")

    def obey(self, seq: str, verb: str, rest: str) -> None:
        match verb:
            case "ping":
                self.is_asked.set()
                self.answer(f"{seq} pong 4.20")
            case "calibrate":
                self.answer(f"{seq} calibrated {self.script['calibrated']}")
            case "sh":
                self.answer(f"{seq} out {rest}")
                self.answer(f"{seq} done 0")
            case "run":
                run_id, _, shell = rest.split(" ", 2)
                program = self.programs[run_id] = Program(self, run_id, shell)
                threading.Thread(target=program.run, daemon=True).start()
                self.answer(f"{seq} started 77")
            case "kill":
                run_id, name = rest.split()
                self.programs[run_id].signal(name)
                self.answer(f"{seq} killed {run_id}")
            case "poweroff":
                getattr(self, self.script["poweroff"])()

    def powers_off(self) -> None:
        self.go("guest-shutdown")

    def panics_on_the_way_down(self) -> None:
        self.panic(PANIC_X86)


class Program:
    """One process of test_progs: the tests that its command names, each with its fault."""

    def __init__(self, guest: FakeGuest, run_id: str, shell: str) -> None:
        self.guest = guest
        self.run_id = run_id
        self.shell = shell
        self.counts = dict.fromkeys(("OK", "SKIP", "FAIL"), 0)
        self.is_warned = threading.Event()
        """A signal is on its way."""
        self.is_stopped = False
        self.is_killed = threading.Event()
        self._lock = threading.Lock()

    def signal(self, name: str) -> None:
        self.is_warned.set()
        time.sleep(0.02)
        # A word that it is saying is said to its end, unless nobody listens.
        is_free = self._lock.acquire(timeout=0.2)
        if name == "STOP":
            self.is_stopped = True
        else:
            self.is_killed.set()
        if is_free:
            self._lock.release()

    def run(self) -> None:
        guest = self.guest
        if guest.script["before_begin"]:
            self.play(guest.nth("before_begin", guest.script["before_begin"]), 0, "")
        guest.frame(f"begin {self.run_id}")
        try:
            for number in numbers(self.shell):
                test = guest.script["tests"][number - 1]
                self.play(guest.nth(test["name"], test["does"]), number, test["name"])
            ok, skip, fail = self.counts["OK"], self.counts["SKIP"], self.counts["FAIL"]
            self.say(f"Summary: {ok + skip}/0 PASSED, {skip} SKIPPED, {fail} FAILED\n")
            status = int(fail > 0)
        except Ended as ended:
            status = ended.status
        guest.frame(f"end {self.run_id} {status}")
        if guest.script["after_end"]:
            self.play(guest.nth("after_end", guest.script["after_end"]), 0, "")

    def say(self, text: str | bytes) -> None:
        with self._lock:
            if self.is_killed.is_set():
                sys.exit()
            if self.is_stopped:
                wait_for_ever()
            self.guest.ends["output"].sendall(text.encode() if isinstance(text, str) else text)

    def result(self, number: int, name: str, word: str = "OK") -> None:
        self.counts[word] += 1
        self.say(f"#{number:<7} {name}:{word}\n")

    def play(self, fault: str, number: int, name: str) -> None:
        FAULTS[fault](self, number, name)

    def hang(self) -> None:
        """Until somebody kills the process."""
        self.is_killed.wait()
        raise Ended(137)


def numbers(shell: str) -> list[int]:
    """`… -n 1-3,7` → 1, 2, 3, 7"""
    found = re.search(r" -n ([\d,-]+)", shell)
    chosen: list[int] = []
    for part in found[1].split(",") if found else ():
        low, _, high = part.partition("-")
        chosen += range(int(low), int(high or low) + 1)
    return chosen


# -- faults of a test ----------------------------------------------------------------------------


def fail(self: Program, number: int, name: str) -> None:
    self.say(f"test_{name}:FAIL:attach unexpected error: -524\n")
    self.result(number, name, "FAIL")


def subtests(self: Program, number: int, name: str) -> None:
    self.say(f"#{number}/1     {name}/one:OK\n#{number}/2     {name}/two:SKIP\n")
    self.result(number, name)


def hang(self: Program, number: int, name: str) -> None:
    self.hang()


def hang_deaf(self: Program, number: int, name: str) -> None:
    """The whole guest hangs: its agent answers no more."""
    self.guest.is_deaf = True
    self.say("the last line\n")
    wait_for_ever()


def late(self: Program, number: int, name: str) -> None:
    """Its result comes just when it is to be stopped, and is its last word."""
    self.is_warned.wait()
    self.result(number, name)
    self.is_stopped = True


def lingers(self: Program, number: int, name: str) -> None:
    """The result is there, and the program does not end."""
    self.result(number, name)
    self.hang()


def segv(self: Program, number: int, name: str) -> None:
    self.say("Caught signal #11!\nStack trace:\n./test_progs(crash_handler+0x38)[0x5645]\n")
    raise Ended(139)


def exits(self: Program, number: int, name: str) -> None:
    self.say("libbpf: giving up\n")
    raise Ended(1)


def refuses(self: Program, number: int, name: str) -> None:
    self.say("failed to determine number of CPUs: -22\n")
    raise Ended(255)


def panic_x86(self: Program, number: int, name: str) -> None:
    self.say(f"test_{name}: about to ")
    self.guest.panic(PANIC_X86)


def panic_arm64(self: Program, number: int, name: str) -> None:
    self.guest.panic(PANIC_ARM64)


def panic_unspoken(self: Program, number: int, name: str) -> None:
    """Only the paravirtual device tells of it."""
    self.guest.panic("")


def panic_stuck(self: Program, number: int, name: str) -> None:
    """The panic is told, and its reboot never comes."""
    self.guest.is_deaf = True
    self.guest.say(PANIC_X86)
    wait_for_ever()


def panic_forged(self: Program, number: int, name: str) -> None:
    """Somebody writes to the kernel log."""
    self.guest.say("[   40.000000] Kernel panic - not syncing: just a joke\n")
    self.guest.is_asked.wait(10)
    self.result(number, name)


def dies(self: Program, number: int, name: str) -> None:
    self.guest.say("[   41.0000")
    self.guest.is_greeted.wait()
    os.kill(os.getpid(), signal.SIGKILL)


def dies_in_result(self: Program, number: int, name: str) -> None:
    self.say(f"#{number:<7} {name}:OK")
    self.guest.is_greeted.wait()
    os.kill(os.getpid(), signal.SIGKILL)


def reboots(self: Program, number: int, name: str) -> None:
    self.guest.say("[   42.000000] reboot: Restarting system\n")
    self.guest.go("guest-reset")


def reboots_unseen(self: Program, number: int, name: str) -> None:
    """QEMU does not end: the guest boots a second time."""
    self.guest.is_deaf = True
    self.guest.say(BANNER)
    for _ in range(3):
        self.guest.say("@kh ready\n", "control")
    wait_for_ever()


def powers_off(self: Program, number: int, name: str) -> None:
    self.guest.go("guest-shutdown")


def halts(self: Program, number: int, name: str) -> None:
    self.guest.is_deaf = True
    self.guest.say("[   43.000000] reboot: System halted\n")
    wait_for_ever()


def floods_console(self: Program, number: int, name: str) -> None:
    line = "[   44.000000] flood: " + "x" * 41 + "\n"
    for _ in range(4):
        self.guest.say(line * (MIB // len(line)))
    self.result(number, name)


def floods_output(self: Program, number: int, name: str) -> None:
    for _ in range(4):
        self.say(("y" * 63 + "\n") * (MIB // 64))
    self.result(number, name)


def floods_for_ever(self: Program, number: int, name: str) -> None:
    while True:
        self.say(("z" * 63 + "\n") * 1024)


def forges(self: Program, number: int, name: str) -> None:
    """Frames with another nonce, and results of other tests; then it fails."""
    self.say(f"\n@kh 0123456789abcdef end {self.run_id} 0 4.20\n")
    self.say(f"@kh 0123456789abcdef begin {self.run_id} 4.20\n")
    for other, test in enumerate(self.guest.script["tests"], 1):
        if other > number + 1:
            self.say(f"#{other + 100:<7} {test['name']}:OK\n")
    fail(self, number, name)


def tears_a_frame(self: Program, number: int, name: str) -> None:
    self.say(f"\n@kh {self.guest.nonce} end {self.run_id}[   45.0] btrfs: hello\n")
    self.result(number, name)


def tears_its_result(self: Program, number: int, name: str) -> None:
    self.say(f"#{number:<7} {name}:O[   46.000000] btrfs: hello\nK\n")
    self.counts["OK"] += 1


def megabyte(self: Program, number: int, name: str) -> None:
    self.say("m" * MIB + "\n")
    self.result(number, name)


def binary(self: Program, number: int, name: str) -> None:
    self.say(bytes(range(256)) + b"\x1b[31m\xff\xfe\n")
    self.result(number, name)


def warns(self: Program, number: int, name: str) -> None:
    time.sleep(0.1)  # channels are drained by different threads
    self.guest.say(WARN)
    time.sleep(0.1)
    self.result(number, name)


def forges_results(self: Program, number: int, name: str) -> None:
    """Somebody else than the program prints results."""
    for other, test in enumerate(self.guest.script["tests"], 1):
        self.say(f"#{other:<7} {test['name']}:OK\n")


def talks(self: Program, number: int, name: str) -> None:
    """A process that goes on after the program's end, until it is killed."""
    while True:
        forges_results(self, number, name)
        time.sleep(0.01)


FAULTS: dict[str, Callable[[Program, int, str], None]] = {
    "pass": Program.result,
    "nothing": lambda self, number, name: None,
    "skip": lambda self, number, name: self.result(number, name, "SKIP"),
    **{
        function.__name__: function
        for function in (
            fail, subtests, hang, hang_deaf, late, lingers, segv, exits, refuses, panic_x86,
            panic_arm64, panic_unspoken, panic_stuck, panic_forged, dies, dies_in_result, reboots,
            reboots_unseen, powers_off, halts, floods_console, floods_output, floods_for_ever,
            forges, tears_a_frame, tears_its_result, megabyte, binary, warns, forges_results, talks,
        )
    },
}  # fmt: skip


# -- faults of a boot ----------------------------------------------------------------------------


def boots(guest: FakeGuest) -> None:
    guest.say(BANNER)
    threading.Thread(target=guest.get_ready, daemon=True).start()
    guest.serve()
    wait_for_ever()


def never_ready(guest: FakeGuest) -> None:
    guest.say(BANNER)
    wait_for_ever()


def slow(guest: FakeGuest) -> None:
    while True:
        guest.say("[    1.000000] still unpacking\n")
        time.sleep(0.05)


def late_boot(guest: FakeGuest) -> None:
    """It takes longer than a boot may, and its console says all the time that it is at it."""
    guest.say(BANNER)
    for _ in range(25):
        guest.say("[    1.000000] still unpacking\n")
        time.sleep(0.1)
    threading.Thread(target=guest.get_ready, daemon=True).start()
    guest.serve()


def no_init(guest: FakeGuest) -> None:
    guest.say(BANNER + NO_ROOT)
    guest.go("guest-reset")


def no_output(guest: FakeGuest) -> None:
    wait_for_ever()


def ends_silently(guest: FakeGuest) -> None:
    guest.is_greeted.wait()
    sys.stderr.write("fake: rom check and register reset failed\n")
    sys.stderr.flush()
    os._exit(1)


def killed_in_boot(guest: FakeGuest) -> None:
    guest.say(BANNER)
    guest.is_greeted.wait()
    os.kill(os.getpid(), signal.SIGKILL)


def deaf_after_hello(guest: FakeGuest) -> None:
    guest.say(BANNER)
    guest.say("@kh ready\n", "control")
    line = guest.ends["control"].makefile("rb").readline()
    guest.nonce = line.decode().split()[0]
    guest.answer(guest.script["hello"])
    wait_for_ever()


BOOTS: dict[str, Callable[[FakeGuest], None]] = {
    function.__name__: function
    for function in (
        boots, never_ready, slow, late_boot, no_init, no_output, ends_silently, killed_in_boot,
        deaf_after_hello,
    )
}  # fmt: skip


def main(argv: list[str]) -> None:
    guest = FakeGuest(argv)
    chosen = guest.nth(".boots", guest.script["boots"])
    if chosen == "refuses":
        sys.exit(f"fake: could not load kernel '{after(argv, '-kernel')}'")
    if chosen == "silent":
        wait_for_ever()
    threading.Thread(target=guest.serve_monitor, daemon=True).start()
    BOOTS[chosen](guest)
