#!/usr/bin/env python3
"""A stand-in for QEMU: takes the harness's real command line, speaks enough QMP, plays a guest.

What it plays is named on the guest's command line, `fake=panics`; it needs nothing but Python.
"""

import itertools
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping

VERSION = "QEMU emulator version 7.9.1 (fake)\n"
HELP = "-help\n-action reboot=reset|shutdown\n-sandbox on[,obsolete=allow|deny]\n"
ACCELS = "Accelerators supported in QEMU binary:\ntcg\nkvm\n"
MACHINES = "Supported machines are:\nq35                  Standard PC\nvirt                 ARM\n"
DEVICES = 'name "virtio-rng-pci", bus PCI, alias "virtio-rng"\nname "pvpanic-pci", bus PCI\n'
GREETING = {"QMP": {"version": {"qemu": {"micro": 1, "minor": 9, "major": 7}}, "capabilities": []}}
PIECE_B = 65536


class Guest:
    """The sockets that were inherited, by the names of their character devices."""

    def __init__(self, argv: list[str]) -> None:
        self.ends: dict[str, socket.socket] = {}
        for before, value in itertools.pairwise(argv):
            if before == "-chardev":
                fields = dict(field.partition("=")[::2] for field in value.split(","))
                self.ends[fields["id"]] = socket.socket(fileno=int(fields["fd"]))
        self.words = dict(word.partition("=")[::2] for word in after(argv, "-append").split())
        self._monitor_lock = threading.Lock()
        self.is_greeted = threading.Event()

    def say(self, text: str, where: str = "console") -> None:
        self.ends[where].sendall(text.encode())

    def tell(self, message: Mapping[str, object]) -> None:
        with self._monitor_lock:
            self.ends["monitor"].sendall(json.dumps(message).encode() + b"\r\n")

    def event(self, name: str, **data: object) -> None:
        self.is_greeted.wait()  # QEMU tells no events to whom it has not met
        self.tell({"event": name, "data": data, "timestamp": {"seconds": 1, "microseconds": 0}})

    def flood(self, where: str) -> None:
        """Send as many MiB as the command line says, in numbered lines."""
        size_b = int(self.words["mib"]) << 20
        line = b"[    1.000000] flood: " + b"x" * 41 + b"\n"
        piece = line * (PIECE_B // len(line))
        for _ in range(size_b // len(piece)):
            self.ends[where].sendall(piece)
        self.ends[where].sendall(b"the last line\n")

    def serve_monitor(self) -> None:
        """Answer commands until the harness goes."""
        self.tell(GREETING)
        for request in requests(self.ends["monitor"]):
            answer: dict[str, object] = {"id": request.get("id")}
            match request["execute"]:
                case "qmp_capabilities":
                    answer["return"] = {}
                case "query-status":
                    answer["return"] = {"status": "running", "asked": request.get("arguments")}
                case "no-answer":
                    continue
                case name:
                    error = {"class": "CommandNotFound", "desc": f"The command {name} is unknown"}
                    answer["error"] = error
            self.tell({key: value for key, value in answer.items() if value is not None})
            self.is_greeted.set()


def requests(end: socket.socket) -> Iterator[dict[str, object]]:
    """JSON objects as they come; QMP does not ask for a line's end between them."""
    text, decoder = "", json.JSONDecoder()
    while data := end.recv(PIECE_B):
        text += data.decode()
        while text:
            try:
                request, size = decoder.raw_decode(text)
            except json.JSONDecodeError:
                break
            text = text[size:].lstrip()
            yield request


def after(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1]


def boots(guest: Guest) -> None:
    guest.say("[    0.000000] Linux version 5.14.0-fake\n")
    guest.event("RTC_CHANGE", offset=0)
    wait_for_ever()


def panics(guest: Guest) -> None:
    guest.say("[    1.000000] Kernel panic - not syncing: fake\n")
    guest.event("GUEST_PANICKED", action="run")
    guest.event("SHUTDOWN", guest=True, reason="guest-reset")


def dies_mid_line(guest: Guest) -> None:
    guest.say("[    0.000000] Linux version 5.14.0-fake\n[    0.5] half a li")
    guest.say("@kh 0123456789abcdef 7 done 1", "control")
    guest.is_greeted.wait()
    os.kill(os.getpid(), signal.SIGKILL)


def floods_console(guest: Guest) -> None:
    guest.flood("console")
    wait_for_ever()


def floods_output(guest: Guest) -> None:
    guest.flood("output")


def closes_control(guest: Guest) -> None:
    guest.say("the last words\n", "control")
    guest.ends["control"].close()
    wait_for_ever()


def echoes(guest: Guest) -> None:
    for line in guest.ends["control"].makefile("rb"):
        guest.ends["control"].sendall(b"echo " + line)


def dies_with_input(guest: Guest) -> None:
    """Ends while the harness's line is unread: the connection is reset."""
    guest.say("last words\n", "control")
    guest.ends["control"].recv(1, socket.MSG_PEEK)


def wait_for_ever() -> None:
    while True:
        time.sleep(60)


GUESTS: dict[str, Callable[[Guest], None]] = {
    "boots": boots,
    "panics": panics,
    "dies-mid-line": dies_mid_line,
    "floods-console": floods_console,
    "floods-output": floods_output,
    "closes-control": closes_control,
    "echoes": echoes,
    "dies-with-input": dies_with_input,
}


def answer_question(argv: list[str]) -> bool:
    """What it says of itself."""
    for question, text in {"-version": VERSION, "-help": HELP}.items():
        if question in argv:
            sys.stdout.write(text)
            return True
    for option, text in {"-accel": ACCELS, "-machine": MACHINES, "-device": DEVICES}.items():
        if option in argv and after(argv, option) == "help":
            sys.stdout.write(text)
            return True
    return "stdio" in argv and "-qmp" in argv


def run_firmware(argv: list[str]) -> None:
    """The accelerator's probe: the CPU model says how it goes."""
    match after(argv, "-cpu"):
        case "works":
            sys.stdout.write("guest runs")
        case "aborts":
            sys.exit("fake: error: failed to set MSR 0x10a to 0x69\nAssertion failed")
        case "hangs":
            wait_for_ever()
        case _:
            sys.exit(0)  # a reset right away: no word


def main(argv: list[str]) -> None:
    if answer_question(argv):
        return
    if "-bios" in argv:
        run_firmware(argv)
        return
    fake = dict(word.partition("=")[::2] for word in after(argv, "-append").split())["fake"]
    if fake == "refuses":
        sys.exit(f"fake: could not load kernel '{after(argv, '-kernel')}'")
    guest = Guest(argv)
    if fake == "silent":
        wait_for_ever()
    threading.Thread(target=guest.serve_monitor, daemon=True).start()
    GUESTS[fake](guest)


if __name__ == "__main__":
    main(sys.argv[1:])
