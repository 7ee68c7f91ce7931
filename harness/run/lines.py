"""Bytes that come in pieces become lines."""

import codecs

_LIMIT = 64 * 1024


class LineSplitter:
    """Cuts a byte stream into lines with the offset of each; memory stays bounded.

    A line of more than 64 KiB is given in pieces of that size.
    """

    def __init__(self) -> None:
        self._decode = codecs.getdecoder("utf-8")
        self._rest = b""
        self._offset_b = 0

    def feed(self, data: bytes) -> list[tuple[str, int, int]]:
        """Return (text, first byte, byte after the newline) of each line that is now complete."""
        buffer = self._rest + data
        lines: list[tuple[str, int, int]] = []
        start = 0
        while True:
            end = buffer.find(b"\n", start)
            if end < 0:
                if len(buffer) - start < _LIMIT:
                    break
                end = start + _LIMIT - 1
            lines.append(self._line(buffer[start : end + 1], start))
            start = end + 1
        self._rest = buffer[start:]
        self._offset_b += start
        return lines

    def finish(self) -> list[tuple[str, int, int]]:
        """Return the last line when it had no newline."""
        rest, self._rest = self._rest, b""
        line = [self._line(rest, 0)] if rest else []
        self._offset_b += len(rest)
        return line

    def _line(self, raw: bytes, start: int) -> tuple[str, int, int]:
        text, _ = self._decode(raw, "backslashreplace")
        begin_b = self._offset_b + start
        return text.rstrip("\r\n"), begin_b, begin_b + len(raw)
