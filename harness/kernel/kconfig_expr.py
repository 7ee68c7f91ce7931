"""Kconfig's expressions: reading them, their value in a finished config, and what keeps one false.

Values are Kconfig's three: n, m, y as 0, 1, 2; None where it cannot be told (a macro that asks the
compiler).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_TOKEN = re.compile(
    r'\s*(?P<token>\|\||&&|!=|<=|>=|[()!=<>]|"(?:\\.|[^"\\])*"|\'[^\']*\'|[\w./-]+|\$\()'
)
_VALUES = {"n": 0, "m": 1, "y": 2}
_TRUE = 2
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}


@dataclass(frozen=True, slots=True)
class Symbol:
    name: str


@dataclass(frozen=True, slots=True)
class Macro:
    """`$(cc-option,-mfoo)`: what it says is known to Kconfig alone."""

    text: str


@dataclass(frozen=True, slots=True)
class Compared:
    left: str
    operator: str
    right: str


@dataclass(frozen=True, slots=True)
class Not:
    inner: "Expression"


@dataclass(frozen=True, slots=True)
class Both:
    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Either:
    parts: tuple["Expression", ...]


Expression = Symbol | Macro | Compared | Not | Both | Either


def parse_expression(text: str) -> Expression:
    """Read one expression. What cannot be read becomes a Macro: its value is not known."""
    try:
        tokens = _tokens(text)
        parser = _Parser(tokens)
        expression = parser.either()
    except (ValueError, IndexError):
        return Macro(text.strip())
    return expression if parser.at == len(tokens) else Macro(text.strip())


def value_of(expression: Expression, config: Mapping[str, str]) -> int | None:
    """Its value in a finished config; None where that cannot be told."""
    match expression:
        case Symbol(name):
            return _VALUES.get(name, _VALUES.get(config.get(name, "n"), _TRUE))
        case Macro():
            return None
        case Compared(left, operator, right):
            return _TRUE if _compare(_text(left, config), operator, _text(right, config)) else 0
        case Not(inner):
            value = value_of(inner, config)
            return None if value is None else _TRUE - value
        case Both(parts):
            return _least([value_of(part, config) for part in parts])
        case Either(parts):
            return _greatest([value_of(part, config) for part in parts])


def hindrances(
    expression: Expression, config: Mapping[str, str], wanted: int = _TRUE
) -> tuple[Expression, ...]:
    """The parts that keep an expression below `wanted`; () when it is not below.

    Of an `A && B` each that is not met; an `A || B` of which none is met, and a part whose value
    cannot be told, as a whole.
    """
    value = value_of(expression, config)
    if value is not None and value >= wanted:
        return ()
    if isinstance(expression, Both):
        return tuple(
            found for part in expression.parts for found in hindrances(part, config, wanted)
        )
    return (expression,)


def symbols_in(expression: Expression) -> frozenset[str]:
    """Names of the options that an expression speaks of."""
    match expression:
        case Symbol(name):
            return frozenset(() if name in _VALUES else (name,))
        case Macro():
            return frozenset()
        case Compared(left, _, right):
            return frozenset(
                side for side in (left, right) if side[:1] not in "\"'" and side not in _VALUES
            )
        case Not(inner):
            return symbols_in(inner)
        case Both(parts) | Either(parts):
            return frozenset(name for part in parts for name in symbols_in(part))


def text_of(expression: Expression) -> str:
    """The expression as Kconfig writes it."""
    match expression:
        case Symbol(name):
            return name
        case Macro(text):
            return text
        case Compared(left, operator, right):
            return f"{left}{operator}{right}"
        case Not(inner):
            return f"!{_nested(inner)}"
        case Both(parts):
            return " && ".join(_nested(part) for part in parts)
        case Either(parts):
            return " || ".join(_nested(part) for part in parts)


def both(*expressions: Expression) -> Expression:
    """All of them at once, flat."""
    parts: list[Expression] = []
    for expression in expressions:
        parts += expression.parts if isinstance(expression, Both) else (expression,)
    return parts[0] if len(parts) == 1 else Both(tuple(parts))


def _nested(expression: Expression) -> str:
    text = text_of(expression)
    return f"({text})" if isinstance(expression, Both | Either) else text


def _least(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    if 0 in known:
        return 0
    return None if len(known) < len(values) else min(known, default=_TRUE)


def _greatest(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    if _TRUE in known:
        return _TRUE
    return None if len(known) < len(values) else max(known, default=0)


def _text(side: str, config: Mapping[str, str]) -> str:
    if side[:1] in "\"'":
        return side[1:-1]
    if side in _VALUES:
        return side
    if re.fullmatch(r"-?[0-9]+|0x[0-9a-fA-F]+", side):
        return side
    return config.get(side, "n").strip('"')


def _compare(left: str, operator: str, right: str) -> bool:
    if operator in ("=", "!="):
        # A text option that is not set reads as "", any other as n.
        is_equal = left == right or {left, right} == {"", "n"}
        return is_equal is (operator == "=")
    try:
        return _COMPARE[operator](int(left, 0), int(right, 0))
    except ValueError:
        return False


def _tokens(text: str) -> list[str]:
    """Split a text; a macro is one token. Raises ValueError for what is not Kconfig's."""
    tokens: list[str] = []
    at = 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(text[at:])
        at = match.end()
        token = match["token"]
        if token == "$(":
            end = _end_of_macro(text, at)
            token, at = text[match.start("token") : end], end
        tokens.append(token)
    return tokens


def _end_of_macro(text: str, at: int) -> int:
    depth = 1
    while depth:
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        at += 1
    return at


class _Parser:
    """Recursive descent; raises IndexError or ValueError for what is not an expression."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self.at = 0

    def either(self) -> Expression:
        parts = [self._both()]
        while self._peek() == "||":
            self.at += 1
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _both(self) -> Expression:
        parts = [self._one()]
        while self._peek() == "&&":
            self.at += 1
            parts.append(self._one())
        return both(*parts)

    def _one(self) -> Expression:
        token = self._next()
        if token == "!":
            return Not(self._one())
        if token == "(":
            inner = self.either()
            if self._next() != ")":
                raise ValueError("no closing parenthesis")
            return inner
        if token in (")", "&&", "||"):
            raise ValueError(token)
        operator = self._peek()
        if operator in ("=", "!=", "<", ">", "<=", ">="):
            self.at += 1
            right = self._next()
            if "$(" in (token[:2], right[:2]):
                return Macro(f"{token}{operator}{right}")
            return Compared(token, operator, right)
        if token.startswith("$("):
            return Macro(token)
        # The lexer of Kconfig takes "y" and y for the same.
        return Symbol(token.strip("\"'"))

    def _peek(self) -> str:
        return self._tokens[self.at] if self.at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._tokens[self.at]
        self.at += 1
        return token
