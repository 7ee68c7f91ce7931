"""What every suite offers to the engine: how to start its programs, and how to read them.

A reader is fed one process's output line by line and says what became of the cases. It is pure: no
clock, no files. It never reports a case twice, and never a pass that the program did not print.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.model.case import Outcome
from harness.model.plan import Batch, PlannedCase

UNSURE_OK = "OK?"
"""Raw word of an OK that may have been a skip: the dialect does not tell, and nor does the log."""

_HEAD_LINES = 60
_TAIL_LINES = 20
_LINE_CHARS = 2000


class LogLine(Protocol):
    """A line of a program's output and its place in the output log, in bytes from 0."""

    @property
    def text(self) -> str: ...
    @property
    def begin_b(self) -> int: ...
    @property
    def end_b(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseReport:
    """What a program said of one of its cases; a planned one, or a subtest of it."""

    path: tuple[str, ...]
    """Below the program: `("atomics",)`, `("atomics", "add")`, `()` for the program as a whole."""
    outcome: Outcome
    raw: str
    """The word that was printed; "" when none was, UNSURE_OK where it may hide a skip."""
    detail: str = ""
    """What the reader itself can say of it: `Caught signal #11!`, the reason of a skip; else ""."""
    log_lines: tuple[str, ...] = ()
    """The case's log when it did not pass: its first and last lines, a cut marked by `[…]`."""
    begin_b: int = 0
    end_b: int = 0


class Reader(Protocol):
    """Reads the output of one process that runs some cases of one program, in their order."""

    problems: list[str]
    """Contradictions between what was printed and what was planned or counted."""
    notices: list[str]
    """What the program said about all its cases: a module that it could not load."""
    refused: str
    """Why the program ran no case at all, in its words; "" otherwise. Known after `finish`."""

    @property
    def in_flight(self) -> tuple[str, ...] | None:
        """Path of the first planned case whose result has not been seen; None when all have.

        A result that was seen may still be held back: a FAIL may turn out to be a crash, its log
        may be yet to come, an OK may hide a skip until the summary. So budgets, and the blame for
        a death, go by this property and not by the reports.
        """

    def feed(self, line: LogLine) -> Sequence[CaseReport]:
        """Take the next line; return what is now certain."""

    def finish(self, rc: int | None) -> Sequence[CaseReport]:
        """Take the end of the process; return what can still be said. Call it once.

        `rc` as a shell gives it (128 + n for signal n): the case that the end interrupted is among
        the reports, unless the process `refused`. None: the process was killed from outside or its
        guest died; the case in flight is then the caller's to judge, and is not reported.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteHooks:
    """What the engine must know of a suite: its commands and its dialects."""

    command: Callable[[Batch, Sequence[PlannedCase]], tuple[str, tuple[PlannedCase, ...]]]
    """One line for the guest's /bin/sh, and the cases that it will run, in order. Asked with what
    remains of a batch, which is never empty."""
    reader: Callable[[Batch, Sequence[PlannedCase]], Reader]
    """A fresh reader for the process that runs exactly these cases."""
    cwd: str
    """The folder of the suite's programs in the guest."""


class Stretch:
    """Output since some point, for a log excerpt: the first lines, the last ones, the place."""

    def __init__(self) -> None:
        self._head: list[str] = []
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._total = 0
        self.begin_b: int | None = None
        self.end_b = 0

    def cover(self, line: LogLine) -> None:
        """Count a line in without keeping its text: a result, which is no log."""
        if self.begin_b is None:
            self.begin_b = line.begin_b
        self.end_b = line.end_b

    def add(self, line: LogLine) -> None:
        self.cover(line)
        self._total += 1
        text = line.text[:_LINE_CHARS]
        if len(self._head) < _HEAD_LINES:
            self._head.append(text)
        else:
            self._tail.append(text)

    @property
    def lines(self) -> tuple[str, ...]:
        is_cut = self._total > len(self._head) + len(self._tail)
        return (*self._head, *(("[…]",) if is_cut else ()), *self._tail)
