"""What comes through the guest's output port: lines of programs, and frames of the agent. Pure.

The other side is `selftests/guest/agent`. A frame is a line of its own; the agent writes it in one
piece with an empty line before it, so that a program's last line need not be ended. Only who knows
the boot's nonce can make one, and programs do not learn it: a line with the nonce that is no whole
frame is therefore damage, never a result and never a program's word.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

LINE_LIMIT_B = 64 * 1024
"""A longer line comes in pieces of about this size."""

# @kh 0123456789abcdef begin 17 42.01
# @kh 0123456789abcdef end 17 139 44.50
_FRAME = re.compile(
    rb"@kh (?P<nonce>[0-9a-f]{16}) "
    rb"(?:begin (?P<begun>[A-Za-z0-9._-]+)|end (?P<ended>[A-Za-z0-9._-]+) (?P<status>[0-9]{1,3}))"
    rb" (?P<uptime>[0-9]+\.[0-9]+)"
)
_NONCE = re.compile(r"[0-9a-f]{16}")
_MAX_CHARACTER_B = 4  # in UTF-8


@dataclass(frozen=True, slots=True)
class Begin:
    """The agent starts a program; what follows is its output."""

    id: str
    uptime_s: float
    """The guest's own clock, seconds since its boot."""


@dataclass(frozen=True, slots=True)
class End:
    """A program has ended; what follows comes from what it left running."""

    id: str
    status: int
    """As in a shell: 128 + n after signal n, 126 and 127 when it could not be started."""
    uptime_s: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line that a program printed, without its end; bytes that are no UTF-8 read `\\xff`."""

    text: str
    begin_b: int
    """Where it begins in the port's stream, counted from its first byte."""
    end_b: int
    """Where the next one begins."""
    is_cut: bool = False
    """It was longer than LINE_LIMIT_B: the next Line goes on with it."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that can only come from a frame, and are none."""

    reason: str
    data: bytes


Item = Begin | End | Line | Damage


class Wire:
    """Decodes the stream of one boot, however it is cut into chunks, in bounded memory."""

    def __init__(self, nonce: str) -> None:
        if not _NONCE.fullmatch(nonce):
            raise ValueError(f"not a nonce: {nonce!r}")
        self._nonce = nonce.encode()
        self._rest = b""
        self._rest_begin_b = 0
        self._inside_line = False
        """What comes next goes on with a line that was cut."""
        self._empty: Line | None = None
        """An empty line that may be the agent's: it is, when a frame follows."""

    def feed(self, data: bytes) -> list[Item]:
        """Take a chunk; return what is complete now."""
        return list(self._items(data))

    def finish(self) -> list[Item]:
        """Return what is left when the stream has ended."""
        items: list[Item] = [self._empty] if self._empty else []
        rest, self._rest, self._empty = self._rest, b"", None
        if rest and not self._inside_line and b"@kh ".startswith(rest[:4]):
            start = b"@kh " + self._nonce
            if start.startswith(rest) or rest.startswith(start):
                return [*items, Damage("the stream ends inside a frame", rest)]
        if rest:
            begin_b = self._rest_begin_b
            items.extend(self._item(rest, begin_b, begin_b + len(rest)))
        return items

    def _items(self, data: bytes) -> Iterator[Item]:
        self._rest += data
        start = 0
        while True:
            end = self._rest.find(b"\n", start, start + LINE_LIMIT_B)
            if end >= 0:
                raw = self._rest[start:end]
                is_cut = False
            elif len(self._rest) - start >= LINE_LIMIT_B:
                raw = _whole_characters(self._rest[start : start + LINE_LIMIT_B])
                is_cut = True
            else:
                break
            begin_b = self._rest_begin_b + start
            start += len(raw) + (not is_cut)
            yield from self._item(raw, begin_b, self._rest_begin_b + start, is_cut=is_cut)
            self._inside_line = is_cut
        self._rest = self._rest[start:]
        self._rest_begin_b += start

    def _item(
        self, raw: bytes, begin_b: int, end_b: int, *, is_cut: bool = False
    ) -> Iterator[Item]:
        empty, self._empty = self._empty, None
        if self._nonce in raw:
            yield self._frame(raw)
            return
        if empty:
            yield empty
        line = Line(_text(raw), begin_b, end_b, is_cut)
        if raw or self._inside_line:
            yield line
        else:
            self._empty = line

    def _frame(self, raw: bytes) -> Item:
        match = _FRAME.fullmatch(raw)
        if match is None or match["nonce"] != self._nonce or self._inside_line:
            return Damage("not a whole frame", raw)
        uptime_s = float(match["uptime"])
        if match["begun"] is not None:
            return Begin(match["begun"].decode(), uptime_s)
        return End(match["ended"].decode(), int(match["status"]), uptime_s)


def _text(raw: bytes) -> str:
    return raw.removesuffix(b"\r").decode(errors="backslashreplace")


def _whole_characters(raw: bytes) -> bytes:
    """Leave off the bytes of a last character that goes on behind the end."""
    for length in range(1, _MAX_CHARACTER_B):
        byte = raw[-length]
        if byte >= 0xC0:  # the first of several
            wanted = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return raw[:-length] if wanted > length else raw
        if byte < 0x80:
            break
    return raw
