"""The index files that modprobe reads in the guest, written without depmod; pure.

libkmod reads only the `.bin` tries (busybox reads only the text), so both are written. The binary
format is that of libkmod/libkmod-index.c: big-endian, children before parents, the root's offset in
the header, flags in an offset's upper four bits.
"""

import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_MAGIC, _VERSION = 0xB007F457, 2 << 16 | 1
_PREFIX, _VALUES, _CHILDREN = 0x80000000, 0x40000000, 0x20000000
_KEY_LIMIT = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedModule:
    """One module as the index knows it. Names use underscores."""

    name: str
    path: str
    """Below `lib/modules/<release>`: `kernel/fs/btrfs/btrfs.ko`."""
    needs: tuple[str, ...]
    """Paths of all modules that must be loaded first, in the order in which to load them."""
    aliases: tuple[str, ...]
    soft_pre: tuple[str, ...] = ()
    soft_post: tuple[str, ...] = ()


Entry = tuple[str, str, int]
"""A key of the trie (a module's name or an alias, which may hold wildcards), its value, and the
value's priority among those of the same key: the lowest is taken first."""
_Value = tuple[int, bytes]


def index_files(
    modules: Sequence[IndexedModule], builtin: Iterable[str], builtin_modinfo: bytes = b""
) -> Mapping[str, bytes]:
    """Return the content of each index file by its name below `lib/modules/<release>`.

    Where several modules have the same alias, the earlier of `modules` is preferred.
    `builtin_modinfo` is what modules.builtin.modinfo holds: aliases of what is built in.
    """
    depends = [(each.name, dep_line(each), number) for number, each in enumerate(modules)]
    aliases = [
        (alias, each.name, number)
        for number, each in enumerate(modules)
        for alias in _usable(each.aliases)
    ]
    builtin_names = [(name, "", 0) for name in sorted(set(builtin)) if _is_key(name)]
    return {
        "modules.dep": "".join(f"{line}\n" for _, line, _ in depends).encode(),
        "modules.dep.bin": trie(depends),
        "modules.alias": "".join(f"alias {key} {value}\n" for key, value, _ in aliases).encode(),
        "modules.alias.bin": trie((normal_alias(key), name, order) for key, name, order in aliases),
        "modules.builtin.bin": trie(builtin_names),
        "modules.builtin.alias.bin": trie(builtin_aliases(builtin_modinfo)),
        "modules.symbols": b"",  # for `symbol:` aliases, which no kernel of today asks for
        "modules.symbols.bin": trie([]),
        "modules.softdep": "".join(softdep_lines(modules)).encode(),
    }


def dep_line(module: IndexedModule) -> str:
    """Return a line of modules.dep. libkmod loads what is named last first."""
    return " ".join((f"{module.path}:", *reversed(module.needs)))


def softdep_lines(modules: Iterable[IndexedModule]) -> Iterable[str]:
    """Yield lines of modules.softdep."""
    for module in modules:
        pre = ("pre:", *_usable(module.soft_pre)) if module.soft_pre else ()
        post = ("post:", *_usable(module.soft_post)) if module.soft_post else ()
        if pre or post:
            yield " ".join(("softdep", module.name, *pre, *post)) + "\n"


def builtin_aliases(modinfo: bytes) -> Iterable[Entry]:
    """Yield what modules.builtin.modinfo says of aliases: (alias as it is looked up, module)."""
    # kvm.license=GPL␀binfmt_elf.alias=…␀
    for text in modinfo.decode(errors="replace").split("\0"):
        key, mark, alias = text.partition(".alias=")
        if mark and _is_key(key) and _is_key(alias):
            yield normal_alias(alias), key.replace("-", "_"), 0


def normal_alias(alias: str) -> str:
    """Return an alias as modprobe looks it up: `-` becomes `_`, but not within brackets."""
    inside = False
    result = []
    for letter in alias:
        inside = (inside or letter == "[") and letter != "]"
        result.append("_" if letter == "-" and not inside else letter)
    return "".join(result)


def trie(entries: Iterable[Entry]) -> bytes:
    """Return a whole index file. Keys are ASCII."""
    values: dict[bytes, list[_Value]] = defaultdict(list)
    for key, value, priority in entries:
        values[key.encode("ascii")].append((priority, value.encode()))
    body = bytearray(struct.pack(">III", _MAGIC, _VERSION, 0))
    root = _write_node(body, sorted(values.items()), 0) if values else _write_empty(body)
    struct.pack_into(">I", body, 8, root)
    return bytes(body)


def _write_empty(body: bytearray) -> int:
    offset = len(body)
    body += b"\0\0"
    body += struct.pack(">I", 0)
    return offset | _CHILDREN


def _write_node(body: bytearray, items: list[tuple[bytes, list[_Value]]], depth: int) -> int:
    """Append the node of all keys that share their first `depth` bytes; return its offset."""
    first, last = items[0][0], items[-1][0]
    shared = depth
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    own = items[0][1] if len(first) == shared else []
    groups: dict[int, list[tuple[bytes, list[_Value]]]] = defaultdict(list)
    for key, value in items[1:] if own else items:
        groups[key[shared]].append((key, value))
    children = {letter: _write_node(body, group, shared + 1) for letter, group in groups.items()}
    offset = len(body)
    flags = 0
    if shared > depth:
        body += first[depth:shared] + b"\0"
        flags |= _PREFIX
    if children:
        low, high = min(children), max(children)
        body += bytes((low, high))
        for letter in range(low, high + 1):
            body += struct.pack(">I", children.get(letter, 0))
        flags |= _CHILDREN
    if own:
        body += struct.pack(">I", len(own))
        for priority, text in sorted(own, key=lambda each: each[0]):
            body += struct.pack(">I", priority) + text + b"\0"
        flags |= _VALUES
    return offset | flags


def _is_key(text: str) -> bool:
    return 0 < len(text) < _KEY_LIMIT and all("!" <= letter <= "~" for letter in text)


def _usable(aliases: Iterable[str]) -> tuple[str, ...]:
    """Aliases that a trie and a line of text can hold: a stranger wrote them."""
    return tuple(alias for alias in aliases if _is_key(alias))
