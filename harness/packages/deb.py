"""Debian packages: an ar archive that holds two compressed tar archives.

Needs no dpkg, so that it works on any host.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from harness.model.errors import UserError
from harness.packages.compression import GIB, decompressed_stream
from harness.packages.tar import Kind, TarReader
from harness.packages.unpack import Predicate, unpack_stream

_AR_MAGIC = b"!<arch>\n"
_HEADER_B = 60
_HEADER_END = b"`\n"
_MEMBER_LIMIT = 64  # a .deb has three
_CONTROL_LIMIT_B = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class ArMember:
    name: str
    offset: int
    size_b: int


def read_control(deb: Path) -> Mapping[str, str]:
    """Return the fields of the package's control file; a folded field keeps its lines.

    Raises UserError, naming the file, when it is not a Debian package, is damaged or truncated.
    """
    with _open_part(deb, "control", limit_b=_CONTROL_LIMIT_B) as stream:
        reader = TarReader(stream, name=str(deb))
        found: Mapping[str, str] | None = None
        for member in reader:
            if member.name == "control" and member.kind is Kind.FILE:
                found = parse_control(b"".join(reader.chunks()).decode(errors="backslashreplace"))
    if not found:
        raise UserError(f"{deb}: damaged package (it has no control file)")
    return found


def parse_control(text: str) -> Mapping[str, str]:
    """Read one paragraph of `Field: value` lines; lines that are neither are left out."""
    fields: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        if line[:1] in (" ", "\t") and last:
            fields[last] += "\n" + line.strip()
        elif ":" in line:
            last, _, value = line.partition(":")
            fields[last] = value.strip()
    return fields


def unpack_deb(deb: Path, into: Path, *, only: Predicate | None = None) -> None:
    """Unpack the package's files into a folder, safely: see `unpack.unpack_stream`.

    `only` gets names like `usr/bin/awk`. Raises UserError, naming the file.
    """

    def stream() -> BinaryIO:
        return _open_part(deb, "data", limit_b=8 * GIB)

    unpack_stream(stream, into, name=str(deb), only=only)


def read_ar(file: BinaryIO, *, name: str) -> tuple[ArMember, ...]:
    """Return the members of an ar archive; each lies wholly within the file. Raises UserError."""
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise UserError(f"{name}: not a Debian package", hint="is it the file that you meant?")
    members: list[ArMember] = []
    position = len(_AR_MAGIC)
    while position < end:
        if len(members) == _MEMBER_LIMIT:
            raise UserError(f"{name}: damaged package (more than {_MEMBER_LIMIT} parts)")
        file.seek(position)
        member = _ar_member(file.read(_HEADER_B), position, name)
        if member.offset + member.size_b > end:
            raise UserError(
                f"{name}: truncated: its part {member.name} should end at byte "
                f"{member.offset + member.size_b}, the file ends at {end}",
                hint="fetch it again",
            )
        members.append(member)
        position = member.offset + member.size_b + member.size_b % 2
    return tuple(members)


def _ar_member(header: bytes, position: int, name: str) -> ArMember:
    # debian-binary   1410122664  0     0     100644  4         `␊
    if len(header) < _HEADER_B:
        raise UserError(f"{name}: truncated after {position + len(header)} bytes, in a header")
    size = header[48:58].strip(b" ")
    if header[58:] != _HEADER_END or not size.isdigit():
        raise UserError(f"{name}: damaged package (no header at byte {position})")
    text = header[:16].decode("ascii", "backslashreplace")
    return ArMember(
        name=text.strip().removesuffix("/"), offset=position + _HEADER_B, size_b=int(size)
    )


def _open_part(deb: Path, part: str, *, limit_b: int) -> BinaryIO:
    """Open `control.tar*` or `data.tar*`, decompressed."""
    try:
        file = deb.open("rb")
    except OSError as error:
        raise UserError(f"{deb}: cannot be read ({error.strerror})") from error
    try:
        member = _part(file, read_ar(file, name=str(deb)), part, str(deb))
        stream = io.BufferedReader(_Slice(file, member))
        return decompressed_stream(stream, name=f"{deb}: {member.name}", limit_b=limit_b)
    except BaseException:
        file.close()
        raise


def _part(file: BinaryIO, members: tuple[ArMember, ...], part: str, name: str) -> ArMember:
    if not members or members[0].name != "debian-binary":
        raise UserError(f"{name}: not a Debian package (an ar archive of another kind)")
    file.seek(members[0].offset)
    version = file.read(min(members[0].size_b, 16))
    if not version.startswith(b"2."):
        raise UserError(f"{name}: a Debian package of unknown format {version!r}")
    for member in members:
        if member.name == f"{part}.tar" or member.name.startswith(f"{part}.tar."):
            return member
    names = ", ".join(member.name for member in members)
    raise UserError(f"{name}: truncated or damaged: no {part}.tar in it, only {names}")


class _Slice(io.RawIOBase):
    """One part of a file as a stream. Closing it closes the file."""

    def __init__(self, file: BinaryIO, member: ArMember) -> None:
        self._file = file
        self._left_b = member.size_b
        file.seek(member.offset)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(min(len(buffer), self._left_b))
        self._left_b -= len(data)
        buffer[: len(data)] = data
        return len(data)
