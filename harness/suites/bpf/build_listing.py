"""The tests that test_verifier holds, read out of its sources: it cannot list them itself. Pure.

Its tests are the initialisers of one array, and its numbers are that array's indexes. After the
preprocessor has put the array together, each element begins with its descriptor.
"""

import re
import shlex
from collections.abc import Iterable, Iterator

# `static struct bpf_test tests[] = {`, after the preprocessor
_ARRAY = re.compile(r"\bstruct bpf_test tests\[\w*\]\s*=\s*(?=\{)")
_TOKEN = re.compile(
    r'"(?P<string>(?:[^"\\\n]|\\.)*)"'
    r"|'(?:[^'\\\n]|\\.)*'"
    r"|^\#[^\n]*$"
    r"|(?P<brace>[{}])"
    r"|(?P<name>\.\w+)"
    r"|(?P<other>[^\s{}\"'.\#]+|[.#])",
    re.MULTILINE,
)
_ESCAPE = re.compile(r"\\(?:x(?P<hex>[0-9a-fA-F]+)|(?P<octal>[0-7]{1,3})|(?P<char>.))", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}
_ELEMENT = 2  # depth of an element's own tokens: array, element


def preprocessor_argv(commands: Iterable[str], source: str) -> tuple[str, ...] | None:
    """Turn the command that compiles `source` into one that prints the preprocessed text.

    None when none of the commands compiles it.
    """
    for command in commands:
        try:
            words = shlex.split(command)
        except ValueError:
            continue
        if source in words and "-o" in words:
            at = words.index("-o")
            kept = [
                word
                for word in (*words[:at], *words[at + 2 :])
                if not word.startswith(("-l", "-Wl,")) and not word.endswith((".a", ".o"))
            ]
            return (*kept, "-E", "-P")
    return None


def verifier_descriptors(preprocessed: str) -> tuple[str, ...]:
    """Return the descriptor of each element of `tests[]`, in order; () when there is no array."""
    match = _ARRAY.search(preprocessed)
    if match is None:
        return ()
    return tuple(_descriptors(_TOKEN.finditer(preprocessed, match.end())))


def _descriptors(tokens: Iterator[re.Match[str]]) -> Iterator[str]:
    depth = 0
    texts: list[str] = []
    is_first = False  # still in the element's first field
    for token in tokens:
        brace = token["brace"]
        if brace == "{":
            depth += 1
            if depth == _ELEMENT:
                texts, is_first = [], True
            continue
        if brace == "}":
            if depth == _ELEMENT:
                yield "".join(texts)
            depth -= 1
            if depth == 0:
                return
            continue
        if depth != _ELEMENT or not is_first:
            continue
        if token["string"] is not None:
            texts.append(_unescaped(token["string"]))
        elif texts:
            is_first = False  # the comma behind the descriptor


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_character, text)


def _character(match: re.Match[str]) -> str:
    if match["hex"]:
        return chr(int(match["hex"], 16) & 0xFF)
    if match["octal"]:
        return chr(int(match["octal"], 8) & 0xFF)
    return _ESCAPES.get(match["char"], match["char"])
