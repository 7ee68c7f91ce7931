"""Standard streams whose far end may be gone: a closed pipe, a full disk."""

import os
from typing import IO, Any, TextIO


def settle(stream: TextIO) -> None:
    """Flush; what cannot go to its place goes nowhere from now on.

    Python flushes once more at its very end, where a failure can be told to nobody.
    """
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Lasting:
    """A stream for words that may be lost: progress that nobody reads must not cost a result."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            settle(self._stream)
            return len(text)

    def flush(self) -> None:
        settle(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def lasting(stream: TextIO) -> IO[str]:
    """The same stream, with writes that never fail."""
    wrapped: Any = Lasting(stream)
    found: IO[str] = wrapped
    return found
