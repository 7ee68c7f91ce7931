"""A walker over BTF, the kernel's own type information: names, kinds, functions. Pure.

Format: Documentation/bpf/btf.rst. Only what is asked here is decoded; types are not resolved.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from harness.model.errors import KernelError

_MAGIC_AND_VERSION = b"\x9f\xeb\x01\x00"
_HEADER = struct.Struct("<HBBIIIII")
_RECORD = struct.Struct("<III")
_NEWEST_HEADER_B = 64
"""The header has had 24 bytes since Linux 4.18; one that grows stays readable up to here."""


class Kind(IntEnum):
    """Kinds of types, by number, as in include/uapi/linux/btf.h."""

    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_TAIL_B: dict[int, tuple[int, int]] = {
    **dict.fromkeys(map(int, Kind), (0, 0)),
    Kind.INT: (4, 0),
    Kind.ARRAY: (12, 0),
    Kind.STRUCT: (0, 12),
    Kind.UNION: (0, 12),
    Kind.ENUM: (0, 8),
    Kind.FUNC_PROTO: (0, 8),
    Kind.VAR: (4, 0),
    Kind.DATASEC: (0, 12),
    Kind.DECL_TAG: (4, 0),
    Kind.ENUM64: (0, 12),
}
"""Bytes that follow a type's record: once, and for each of its `vlen` members."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BtfType:
    """One type's record. In split BTF its number and names continue those of the kernel's blob."""

    kind: int
    """A Kind, or a number that is not known here: then it is the last type that was read."""
    name_offset: int
    members: int
    size_or_type: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Where types and strings lie, from the begin of the blob, in bytes."""

    types: tuple[int, int]
    strings: tuple[int, int]

    @property
    def end(self) -> int:
        return max(self.types[1], self.strings[1])


def read_header(data: bytes, at: int = 0) -> Header | None:
    """Return the header at `at`; None when it is none, or its parts do not lie inside the data."""
    if data[at : at + 4] != _MAGIC_AND_VERSION or at + _HEADER.size > len(data):
        return None
    _, _, _, header_b, type_at, type_b, string_at, string_b = _HEADER.unpack_from(data, at)
    if not _HEADER.size <= header_b <= _NEWEST_HEADER_B or type_at % 4 or not string_b:
        return None
    types = (header_b + type_at, header_b + type_at + type_b)
    strings = (header_b + string_at, header_b + string_at + string_b)
    header = Header(types=types, strings=strings)
    if at + header.end > len(data) or types[1] > strings[0] or data[at + strings[1] - 1]:
        return None
    return header


def find_btf(data: bytes) -> tuple[int, int] | None:
    """Return begin and end of the largest BTF blob in a kernel image's bytes; None without one."""
    best: tuple[int, int] | None = None
    at = data.find(_MAGIC_AND_VERSION)
    while at >= 0:
        header = read_header(data, at)
        if header is not None and data[at + header.strings[0]] == 0:  # the first name is ""
            begin, end = best or (0, 0)
            if header.end > end - begin:
                best = (at, at + header.end)
        at = data.find(_MAGIC_AND_VERSION, at + 1)
    return best


class Btf:
    """A whole blob, checked when made. Raises KernelError for what is not BTF."""

    def __init__(self, data: bytes, name: str = "BTF") -> None:
        header = read_header(data)
        if header is None:
            raise KernelError(f"{name}: not BTF, or cut short ({len(data)} bytes)")
        self._data = data
        self._name = name
        self._header = header

    def types(self) -> Iterator[BtfType]:
        """Yield all types in order. A kind that is not known here ends them, and is the last.

        Raises KernelError when a type reaches beyond the type section.
        """
        at, end = self._header.types
        while at < end:
            if at + _RECORD.size > end:
                raise KernelError(f"{self._name}: damaged BTF: a type is cut off at byte {at}")
            name_offset, info, size_or_type = _RECORD.unpack_from(self._data, at)
            kind, members = info >> 24 & 0x1F, info & 0xFFFF
            yield BtfType(
                kind=kind, name_offset=name_offset, members=members, size_or_type=size_or_type
            )
            if kind not in _TAIL_B:
                return
            once, each = _TAIL_B[kind]
            at += _RECORD.size + once + each * members
        if at != end:
            raise KernelError(f"{self._name}: damaged BTF: the last type ends at {at}, not {end}")

    def string(self, offset: int) -> str:
        """Return the name at an offset of the string section; "" when it lies outside."""
        begin, end = self._header.strings
        if not 0 <= offset < end - begin:
            return ""
        raw = self._data[begin + offset : self._data.index(b"\0", begin + offset, end)]
        return raw.decode("ascii", "replace")

    def kinds(self) -> frozenset[int]:
        """Return the numbers of all kinds in use."""
        return frozenset(item.kind for item in self.types())

    def names(self, kind: Kind) -> frozenset[str]:
        """Return the names of all types of one kind: functions, structs, …"""
        return frozenset(
            self.string(item.name_offset) for item in self.types() if item.kind == kind
        )
