"""Text of strangers made inert: what a guest or a package says may hold anything."""

import re

# C0 except newline and tab, DEL, C1, bidirectional overrides, and lone surrogates: what can move a
# cursor, reorder a line, or break an XML file.
_HOSTILE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def inert(text: str) -> str:
    """Return text that a terminal, an XML and an HTML file can hold: no control characters.

    Whole ANSI sequences vanish; other control characters become U+FFFD: their place is seen.
    """
    return _HOSTILE.sub("\ufffd", _ANSI.sub("", text.replace("\r\n", "\n")))


def inert_line(text: str, limit: int = 0) -> str:
    """The same as one line, white space folded; cut to `limit` characters when it is > 0."""
    line = " ".join(inert(text).split())
    return line if not limit or len(line) <= limit else line[: limit - 1] + "…"
