"""Bytes that come in pieces become lines."""

_LIMIT = 64 * 1024


class LineSplitter:
    """Cuts a byte stream into lines with the offset of each, in linear time and bounded memory.

    A line of more than 64 KiB is given in pieces of that size, however the stream came in chunks.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._offset_b = 0

    def feed(self, data: bytes) -> list[tuple[str, int, int]]:
        """Return (text, first byte, byte after the newline) of each line that is now complete."""
        buffer = self._rest + data
        lines: list[tuple[str, int, int]] = []
        start = 0
        while True:
            end = buffer.find(b"\n", start, start + _LIMIT)
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
        lines = [self._line(rest, 0)] if rest else []
        self._offset_b += len(rest)
        return lines

    def _line(self, raw: bytes, start: int) -> tuple[str, int, int]:
        begin_b = self._offset_b + start
        text = raw.decode(errors="backslashreplace").rstrip("\r\n")
        return text, begin_b, begin_b + len(raw)
