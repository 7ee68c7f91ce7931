"""A channel over a socket pair: the test plays the guest."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.vm.console import BytesHook, Channel
from harness.vm.timeline import Timeline


class Pair:
    """A channel, the guest's end of it, and its log."""

    def __init__(self, folder: Path, *, lossless: bool, hook: BytesHook) -> None:
        self.log = folder / "log"
        self.timeline = Timeline(folder / "timeline")
        self.channel = Channel("test", self.log, self.timeline, lossless=lossless, on_bytes=hook)
        ours, self.guest = socket.socketpair()
        self.channel.attach(ours)

    def received(self, size_b: int) -> None:
        """Wait until the log holds that much."""
        deadline = time.monotonic() + 10
        while self.channel.received_b < size_b:
            assert time.monotonic() < deadline
            time.sleep(0.001)


def sent_until_full(guest: socket.socket) -> int:
    """Send until nobody takes any more for half a second; how many bytes were taken."""
    guest.settimeout(0.5)
    sent_b = 0
    while sent_b < 1 << 30:
        try:
            sent_b += guest.send(b"r" * 65536)
        except TimeoutError:
            return sent_b
    pytest.fail("1 GiB was taken")


MakePair = Callable[..., Pair]


@contextlib.contextmanager
def pairs(folder: Path) -> Iterator[MakePair]:
    """A maker of pairs, which are closed in the end."""
    made: list[Pair] = []

    def make(*, lossless: bool = True, hook: BytesHook = lambda data: None) -> Pair:
        made.append(Pair(folder, lossless=lossless, hook=hook))
        return made[-1]

    yield make
    for one in made:
        one.guest.close()
        one.channel.close()
        one.timeline.close()
