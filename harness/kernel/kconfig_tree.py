"""A reader of Kconfig files, just good enough to say why an option was not granted. Pure.

What it cannot evaluate (macros that call the compiler) it calls unknown; it never guesses.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.kernel.kconfig import NO, NotGranted, Wish
from harness.kernel.kconfig_expr import (
    Compared,
    Expression,
    Macro,
    Symbol,
    both,
    hindrances,
    parse_expression,
    symbols_in,
    text_of,
    value_of,
)

ReadFile = Callable[[str], str | None]
"""Text of a file by its name in the tree; None when there is none."""

_TYPES = ("bool", "tristate", "string", "hex", "int")
_BLOCKS = {"menu": "endmenu", "choice": "endchoice", "if": "endif"}
# bool "BPF JIT" if EXPERT / prompt 'x' if Y
_PROMPT = re.compile(r"(?P<prompt>\"(?:\\.|[^\"\\])*\"|'[^']*')(?:\s+if\s+(?P<condition>.+))?")
_SELECT = re.compile(r"(?P<name>\w+)(?:\s+if\s+(?P<condition>.+))?")
_SOURCE = re.compile(r"o?r?source\s+\"?(?P<path>[^\"\s]+)\"?")
_MAX_SHOWN = 4
_YES = Symbol("y")


@dataclass(slots=True)
class Definition:
    """One `config X`; an option may have several."""

    depends: list[Expression]
    """What it depends on, its own lines and those of menus around it."""
    has_prompt: bool = False
    prompt_if: Expression = _YES
    in_choice: bool = False
    type: str = ""


@dataclass(slots=True)
class Options:
    """All options of a tree for one architecture."""

    definitions: dict[str, list[Definition]] = field(default_factory=dict)
    selected_by: dict[str, list[tuple[str, Expression]]] = field(default_factory=dict)


@dataclass(slots=True)
class _Block:
    closed_by: str
    depends: list[Expression]


def read_options(read: ReadFile, variables: Mapping[str, str], top: str = "Kconfig") -> Options:
    """Read a tree's Kconfig files. `variables` are those of `source` lines: SRCARCH."""
    options = Options()
    reader = _Reader(read, variables, options)
    reader.file(top)
    return options


def explain(
    wishes: Mapping[str, Wish], config: Mapping[str, str], options: Options
) -> tuple[NotGranted, ...]:
    """Say of each wish why a finished config does not grant it."""
    return tuple(
        NotGranted(
            option=name,
            wanted=wish.value,
            got=config.get(name, NO),
            origin=wish.origin,
            reason=_reason(name, wish.value, config, options),
        )
        for name, wish in wishes.items()
    )


def _reason(name: str, wanted: str, config: Mapping[str, str], options: Options) -> str:
    definitions = options.definitions.get(name, [])
    if not definitions:
        return "the tree has no such option"
    selectors = _selectors(name, config, options)
    if wanted == NO:
        if selectors:
            return f"selected by {_list(selectors)}"
        return "its default counts: nobody can be asked about it in this config"
    asked = [item for item in definitions if item.has_prompt]
    if not asked:
        by = [other for other, _ in options.selected_by.get(name, [])]
        who = f"{_list(by)} would select it" if by else "it follows from others"
        return f"not for choosing: {who}"
    level = 1 if wanted == "m" else 2
    per_definition = [
        (*hindrances(both(*item.depends, _YES), config, level), *_hidden(item, config))
        for item in asked
    ]
    best = min(per_definition, key=len)
    if best:
        return f"needs {_needs(best, config)}"
    if any(item.in_choice for item in asked):
        return "another member of its choice was chosen"
    if wanted == "m" and all(item.type == "bool" for item in asked):
        return "it cannot be a module"
    return f"not known: its dependencies are met, and it is {config.get(name, NO)}"


def _hidden(item: Definition, config: Mapping[str, str]) -> tuple[Expression, ...]:
    return hindrances(item.prompt_if, config, 1)


def _selectors(name: str, config: Mapping[str, str], options: Options) -> list[str]:
    return [
        other
        for other, condition in options.selected_by.get(name, [])
        if config.get(other, NO) != NO and value_of(condition, config) != 0
    ]


def _needs(parts: Sequence[Expression], config: Mapping[str, str]) -> str:
    return " && ".join(_need(part, config) for part in dict.fromkeys(parts))


def _need(part: Expression, config: Mapping[str, str]) -> str:
    text = text_of(part)
    if isinstance(part, Macro) or value_of(part, config) is None:
        return f"{text} (not known here)"
    if text == "m":
        return "to be a module"
    names = sorted(symbols_in(part))
    states = [f"{name}={config.get(name, NO)}" for name in names[:_MAX_SHOWN]]
    if isinstance(part, Compared) or len(names) > 1 or text != "".join(names):
        return f"({text}) [{', '.join(states)}]"
    return f"{text} (is {config.get(text, NO)})"


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MAX_SHOWN])
    return shown if len(names) <= _MAX_SHOWN else f"{shown}, … ({len(names)} options)"


class _Reader:
    """Walks lines with a stack of blocks; `source` is followed with the stack as it is."""

    def __init__(self, read: ReadFile, variables: Mapping[str, str], options: Options) -> None:
        self._read = read
        self._variables = variables
        self._options = options
        self._stack: list[_Block] = []
        self._current: Definition | None = None
        self._name = ""
        self._seen: set[str] = set()

    def file(self, path: str) -> None:
        text = self._read(path)
        if text is None or path in self._seen:
            return
        self._seen.add(path)
        for line in _statements(text):
            self._line(line)
        self._seen.discard(path)

    def _line(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word in ("config", "menuconfig"):
            self._open(rest.partition(" ")[0])
        elif word in _BLOCKS:
            condition = [parse_expression(rest)] if word == "if" else []
            self._stack.append(_Block(_BLOCKS[word], condition))
            self._current, self._name = None, ""
        elif self._stack and word == self._stack[-1].closed_by:
            self._stack.pop()
            self._current, self._name = None, ""
        elif match := _SOURCE.fullmatch(line):
            self._current, self._name = None, ""
            self.file(self._expanded(match["path"]))
        elif word == "comment":
            # What follows, up to the next entry, belongs to the comment.
            self._current, self._name = Definition(depends=[]), ""
        else:
            self._attribute(word, rest)

    def _open(self, name: str) -> None:
        around = [expression for block in self._stack for expression in block.depends]
        in_choice = bool(self._stack) and self._stack[-1].closed_by == "endchoice"
        self._current, self._name = Definition(depends=around, in_choice=in_choice), name
        self._options.definitions.setdefault(name, []).append(self._current)

    def _attribute(self, word: str, rest: str) -> None:
        current = self._current
        if word == "depends" and rest.startswith("on"):
            expression = parse_expression(rest.removeprefix("on"))
            if current is not None:
                current.depends.append(expression)
            elif self._stack:
                self._stack[-1].depends.append(expression)
        elif current is None or not self._name:
            return
        elif word in _TYPES or word == "prompt":
            if word in _TYPES:
                current.type = word
            if match := _PROMPT.fullmatch(rest):
                current.has_prompt = True
                if match["condition"]:
                    current.prompt_if = parse_expression(match["condition"])
        elif word in ("def_bool", "def_tristate"):
            current.type = word.removeprefix("def_")
        elif word == "select" and (match := _SELECT.fullmatch(rest)):
            condition = parse_expression(match["condition"]) if match["condition"] else _YES
            self._options.selected_by.setdefault(match["name"], []).append((self._name, condition))

    def _expanded(self, path: str) -> str:
        for name, value in self._variables.items():
            path = path.replace(f"$({name})", value).replace(f"${name}", value)
        return path


def _statements(text: str) -> list[str]:
    """Lines without comments and help texts, continued ones joined, white space folded."""
    statements: list[str] = []
    help_indent: int | None = None  # -1: the help text has not begun yet
    for line in text.replace("\\\n", " ").expandtabs().splitlines():
        stripped = line.strip()
        if help_indent is not None:
            indent = len(line) - len(line.lstrip())
            if not stripped:
                continue
            if help_indent == -1 and indent > 0:
                help_indent = indent
            if help_indent > 0 and indent >= help_indent:
                continue
            help_indent = None
        if stripped in ("help", "---help---"):
            help_indent = -1
            continue
        bare = _without_comment(stripped)
        if bare:
            statements.append(" ".join(bare.split()) if '"' not in bare else _folded(bare))
    return statements


def _folded(line: str) -> str:
    word, _, rest = line.partition(" ")
    return f"{word} {rest.strip()}"


def _without_comment(line: str) -> str:
    if "#" not in line:
        return line
    quote = ""
    for at, sign in enumerate(line):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign == "#":
            return line[:at].rstrip()
    return line
