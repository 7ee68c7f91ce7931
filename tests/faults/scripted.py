"""A suite of shell snippets for real guests: each case is a line that may kill its guest."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.model.case import Outcome
from harness.model.plan import Batch, PlannedCase
from harness.suites.base import CaseReport, LogLine, Reader, SuiteHooks


class LastWord:
    """Reads `NAME: ok` and `NAME: bad`, in the order of the plan; nothing else is a result."""

    def __init__(self, cases: Sequence[PlannedCase]) -> None:
        self.problems: list[str] = []
        self.notices: list[str] = []
        self.refused = ""
        self._waiting = [item.case.path[1:] for item in cases]

    @property
    def in_flight(self) -> tuple[str, ...] | None:
        return self._waiting[0] if self._waiting else None

    def feed(self, line: LogLine) -> Sequence[CaseReport]:
        name, _, word = line.text.partition(": ")
        outcome = {"ok": Outcome.PASS, "bad": Outcome.FAIL}.get(word)
        if outcome is None or self.in_flight != (name,):
            return ()
        self._waiting.pop(0)
        return (CaseReport(path=(name,), outcome=outcome, raw=word),)

    def finish(self, rc: int | None) -> Sequence[CaseReport]:
        return ()


def scripted_hooks(snippets: Mapping[str, str]) -> SuiteHooks:
    """Hooks of a suite whose one program runs the snippets of its cases, one after the other.

    A snippet that ends with status 0 is `ok`.
    """

    def command(
        batch: Batch, remaining: Sequence[PlannedCase]
    ) -> tuple[str, tuple[PlannedCase, ...]]:
        names = [item.case.path[1] for item in remaining]
        parts = [
            f"if {{ {snippets[name]}; }}; then echo '{name}: ok'; else echo '{name}: bad'; fi"
            for name in names
        ]
        return "; ".join(parts), tuple(remaining)

    def reader(batch: Batch, cases: Sequence[PlannedCase]) -> Reader:
        return LastWord(cases)

    return SuiteHooks(command=command, reader=reader, cwd="/tmp")


def children() -> dict[int, str]:
    """Command lines of this process's living children, by their ids."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            text = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            found[int(folder.name)] = text.replace("\0", " ")
    return found
