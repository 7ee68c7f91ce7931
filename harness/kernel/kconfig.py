"""Options of a kernel: lists of wishes, and what became of them. Pure.

A wish is a line of a fragment (`CONFIG_X=y`, `# CONFIG_X is not set`); Kconfig drops silently what
it cannot grant, so each wish is compared with the config that came out.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# CONFIG_LSM="lockdown,bpf" / # CONFIG_KASAN is not set
_LINE = re.compile(
    r"^(?:CONFIG_(?P<name>\w+)=(?P<value>.*)|# CONFIG_(?P<unset>\w+) is not set)[ \t]*$", re.M
)
NO = "n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An option that somebody asked for."""

    value: str
    """As in a config: `y`, `m`, `12`, `"text"`; `n` for one that is not to be set."""
    origin: str
    """The list that it is from, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotGranted:
    """An option whose value is not what was asked for."""

    option: str
    """Without CONFIG_."""
    wanted: str
    got: str
    """`n` for one that is not set, or that the tree does not have."""
    origin: str
    reason: str
    """The unmet dependency, or why it cannot be told."""


def parse_wishes(text: str, origin: str) -> dict[str, Wish]:
    """Read a fragment or a config, options without CONFIG_; the last line on an option counts."""
    wishes: dict[str, Wish] = {}
    for match in _LINE.finditer(text):
        name = match["name"] or match["unset"]
        wishes[name] = Wish(value=match["value"].strip() if match["name"] else NO, origin=origin)
    return wishes


def merged(lists: Iterable[Mapping[str, Wish]]) -> dict[str, Wish]:
    """Join lists of wishes; on one option the later list counts."""
    joined: dict[str, Wish] = {}
    for wishes in lists:
        joined.update(wishes)
    return joined


def config_text(wishes: Mapping[str, Wish]) -> str:
    """Write wishes as Kconfig reads them, in the order of their names."""
    lines = []
    for name, wish in sorted(wishes.items()):
        unset = wish.value == NO
        lines.append(f"# CONFIG_{name} is not set\n" if unset else f"CONFIG_{name}={wish.value}\n")
    return "".join(lines)


def values_of(text: str) -> dict[str, str]:
    """Options of a finished config by name, without those that are not set."""
    wishes = parse_wishes(text, "")
    return {name: wish.value for name, wish in wishes.items() if wish.value != NO}


def unmet(wishes: Mapping[str, Wish], config: Mapping[str, str]) -> dict[str, Wish]:
    """The wishes that a config does not grant. Built in is good enough for a module."""
    return {
        name: wish
        for name, wish in sorted(wishes.items())
        if not _is_granted(wish.value, config.get(name, NO))
    }


def _is_granted(wanted: str, got: str) -> bool:
    if wanted == '""' and got == NO:
        return True  # an empty text and no text at all are the same to a build
    return got == wanted or (wanted == "m" and got == "y")
