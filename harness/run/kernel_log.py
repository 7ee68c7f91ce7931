"""A guest's kernel log as it comes through the console: lines for whoever reads along."""

import time
from collections.abc import Callable
from typing import Protocol

from harness.run.death import ConsoleWatch
from harness.run.lines import LineSplitter


class ConsoleReader(Protocol):
    """Reads a kernel log along, in the thread that drains the console."""

    def take_line(self, text: str, begin_b: int, end_b: int) -> None:
        """Take a line without its end, and its place in the log."""

    def end(self) -> None:
        """No more will come. Called once, when the console's thread has ended."""


class Nobody:
    """A reader that reads nothing."""

    def take_line(self, text: str, begin_b: int, end_b: int) -> None:
        return

    def end(self) -> None:
        return


class KernelLog:
    """Cuts the console's bytes into lines, for the watch and for one more reader."""

    def __init__(
        self, reader: ConsoleReader, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.watch = ConsoleWatch()
        self.last_heard = clock()
        """When the last byte came, by the clock."""
        self._reader = reader
        self._clock = clock
        self._splitter = LineSplitter()
        self._has_ended = False

    def take(self, data: bytes) -> None:
        """Take what the console said; in the console's thread."""
        self.last_heard = self._clock()
        self._give(self._splitter.feed(data))

    def finish(self) -> None:
        """The console has ended, its last line maybe in the middle. Harmless the second time."""
        if not self._has_ended:
            self._has_ended = True
            self._give(self._splitter.finish())
            self._reader.end()

    def _give(self, lines: list[tuple[str, int, int]]) -> None:
        for text, begin_b, end_b in lines:
            self.watch.feed(text)
            self._reader.take_line(text, begin_b, end_b)
