"""Which case the kernel complained in: kernel log and program output laid side by side.

A complaint and a result come on different channels, and whoever reads the results may be late. So a
complaint is noted with the place that the output log had reached when its first line came, and what
was in flight at that place is looked up when somebody asks.
"""

import dataclasses
import threading
from bisect import bisect_right
from collections.abc import Mapping
from operator import itemgetter

from harness.model.record import Splat

_BOOT = ("boot", 0)

Stage = tuple[str, int]
"""The case in flight as text and the number of its attempt, or a phase and 0."""


class Complaints:
    """Complaints of all guests of one cell, from their consoles' threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, list[tuple[int, Stage]]] = {}
        self._splats: list[tuple[Splat, str, int]] = []

    def enter(self, guest: str, output_b: int, what: str, attempt: int = 0) -> None:
        """From this place of the guest's output log on, `what` is in flight."""
        with self._lock:
            stages = self._stages.setdefault(guest, [])
            while stages and stages[-1][0] >= output_b:
                stages.pop()
            stages.append((output_b, (what, attempt)))

    def add(self, splat: Splat, guest: str, output_b: int) -> None:
        with self._lock:
            self._splats.append((splat, guest, output_b))

    def blame_last(self, guest: str, output_b: int) -> None:
        """The guest died of its last complaint, in what was in flight at this place."""
        with self._lock:
            own = [index for index, each in enumerate(self._splats) if each[1] == guest]
            if own:
                splat, _, at = self._splats[own[-1]]
                self._splats[own[-1]] = (splat, guest, max(at, output_b))

    def all(self) -> tuple[Splat, ...]:
        """All complaints in the order in which they ended, each with what was in flight."""
        return tuple(splat for splat, _ in self._placed())

    def during(self, what: str, attempt: int) -> tuple[Splat, ...]:
        """Complaints in one attempt of a case."""
        return tuple(
            splat for splat, number in self._placed() if (splat.during, number) == (what, attempt)
        )

    def signatures(self) -> Mapping[Stage, tuple[str, ...]]:
        found: dict[Stage, tuple[str, ...]] = {}
        for splat, attempt in self._placed():
            key = (splat.during, attempt)
            found[key] = (*found.get(key, ()), splat.signature)
        return found

    def _placed(self) -> list[tuple[Splat, int]]:
        with self._lock:
            placed = [(splat, self._stage(guest, at)) for splat, guest, at in self._splats]
        return [(dataclasses.replace(splat, during=what), n) for splat, (what, n) in placed]

    def _stage(self, guest: str, output_b: int) -> Stage:
        stages = self._stages.get(guest, [])
        index = bisect_right(stages, output_b, key=itemgetter(0))
        return stages[index - 1][1] if index else _BOOT
