"""Names of cases as the programs print them, made fit for an address and unique."""

import re
from collections import Counter
from collections.abc import Iterable

from harness.model.text import inert_line

MAX_NAME = 300
"""Longer ones are no names: a line of noise that happens to end like a result."""

_OCCURRENCE = re.compile(r" #\d+$")


def case_name(printed: str) -> str:
    """The name of a test: one line, no slash, since a slash parts test and subtest.

    test_verifier's descriptors hold slashes (`jeq32/jne32: bounds checking`); they become `|`.
    """
    return inert_line(printed).replace("/", "|")


def numbered(names: Iterable[str]) -> tuple[str, ...]:
    """Make names unique: the second `x` becomes `x #2`, in the order in which they come."""
    counter = Occurrences()
    return tuple(counter.name(name) for name in names)


def without_occurrence(name: str) -> str:
    """Take back what `numbered` added, where it added something."""
    return _OCCURRENCE.sub("", name)


class Occurrences:
    """Numbers repeated names as they come; never gives a name twice."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._given: set[str] = set()

    def name(self, name: str) -> str:
        given = name
        self._counts[name] += 1
        while given in self._given:
            given = f"{name} #{max(self._counts[name], 2)}"
            self._counts[name] += given in self._given
        self._given.add(given)
        return given
