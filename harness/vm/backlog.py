"""Bytes on their way from the thread that drains a channel to the one that reads it."""

import threading


class Backlog:
    """A queue of bytes with a limit.

    When it is full, a lossless one makes the writer wait; the other kind forgets its oldest bytes,
    so that the writer never waits.
    """

    def __init__(self, limit_b: int, *, lossless: bool) -> None:
        self.limit_b = limit_b
        self.lossless = lossless
        self.dropped_b = 0
        """How much was forgotten."""
        self._bytes = bytearray()
        self._ended = False
        self._released = False
        self._changed = threading.Condition()

    def put(self, data: bytes) -> None:
        """Add bytes; waits for room in a lossless backlog."""
        with self._changed:
            if self.lossless:
                self._changed.wait_for(lambda: self._released or len(self._bytes) < self.limit_b)
            if self._released:
                return
            self._bytes += data
            if not self.lossless and len(self._bytes) > self.limit_b:
                excess_b = len(self._bytes) - self.limit_b
                del self._bytes[:excess_b]
                self.dropped_b += excess_b
            self._changed.notify_all()

    def end(self) -> None:
        """Say that no more will come; what is there can still be taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def release(self) -> None:
        """Say that nobody reads any more: nothing is kept, and no writer waits."""
        with self._changed:
            self._released = True
            self._bytes.clear()
            self._changed.notify_all()

    def take(self, size_b: int, timeout_s: float | None) -> bytes:
        """Return up to `size_b` bytes, b"" when none came in time (None: waits for ever).

        Raises EOFError when there are none and none will come.
        """
        with self._changed:
            if not self._changed.wait_for(self._is_decided, timeout_s):
                return b""
            if not self._bytes:
                raise EOFError
            taken = bytes(self._bytes[:size_b])
            del self._bytes[:size_b]
            self._changed.notify_all()
            return taken

    def _is_decided(self) -> bool:
        return bool(self._bytes) or self._ended or self._released
