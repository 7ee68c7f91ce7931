"""When which byte of which log came: lets a kernel log and a test's output be laid side by side."""

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

_INTERVAL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """At `t_s` after the start of the machine the byte at `offset_b` of that channel's log came.

    All bytes before it had come by then.
    """

    t_s: float
    channel: str
    offset_b: int


class Timeline:
    """Appends moments to a file, for each channel at most one every 50 ms. Safe for threads."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.start = clock()
        """The clock's time of t_s = 0."""
        self._next: dict[str, float] = {}
        self._lock = threading.Lock()
        self._file: FileIO | None = FileIO(path, "a")

    def now_s(self) -> float:
        """Seconds since the timeline began."""
        return self._clock() - self.start

    def note(self, channel: str, offset_b: int) -> None:
        """Say that the byte at this offset came now. Does nothing after `close`."""
        now_s = self.now_s()
        with self._lock:
            if self._file is None or now_s < self._next.get(channel, 0.0):
                return
            self._next[channel] = now_s + _INTERVAL_S
            entry = {"t_s": round(now_s, 4), "channel": channel, "offset_b": offset_b}
            self._file.write(json.dumps(entry).encode() + b"\n")

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def read_timeline(path: Path) -> tuple[Moment, ...]:
    """Read what a Timeline wrote; a torn last line (the writer was killed) is left out."""
    moments = []
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            moments.append(Moment(**json.loads(line)))
    return tuple(moments)


def time_of(moments: Iterable[Moment], channel: str, offset_b: int) -> float | None:
    """The latest moment known to be no later than the coming of that byte; None before any."""
    known = [m.t_s for m in moments if m.channel == channel and m.offset_b <= offset_b]
    return max(known, default=None)


def offset_at(moments: Iterable[Moment], channel: str, t_s: float) -> int:
    """How many bytes of the channel's log had surely come by then."""
    return max((m.offset_b for m in moments if m.channel == channel and m.t_s <= t_s), default=0)
