"""Tar archives as streams of members, strictly: damage and truncation are errors.

The standard library's reader takes a damaged header in the middle for the archive's end, so only
its decoding of one header is used. Formats: ustar, GNU long names, pax.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import BinaryIO

from harness.model.errors import UserError

_BLOCK_B = 512
_CHUNK_B = 1 << 18
_NAME_LIMIT_B = 1 << 16  # of a GNU long name or a pax header
_MEMBER_LIMIT = 1_000_000


class Kind(Enum):
    FILE = auto()
    FOLDER = auto()
    SYMLINK = auto()
    HARD_LINK = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member. Its name is relative, has no `.`, `..` or empty part, and is "" for the root."""

    name: str
    kind: Kind
    mode: int
    size_b: int
    mtime_s: int
    link: str
    """A symlink's target as it is written; a hard link's as a name like `name`; else ""."""


_KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.FOLDER,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.LNKTYPE: Kind.HARD_LINK,
}
_REFUSED = {
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


class TarReader:
    """Iterate over the members of an archive; `chunks()` gives the present one's bytes.

    Everything raises UserError, naming the archive, for what is damaged, truncated or refused.
    """

    def __init__(self, stream: BinaryIO, *, name: str) -> None:
        self._stream = stream
        self._name = name
        self._left_b = 0
        self._padding_b = 0

    def __iter__(self) -> Iterator[Member]:
        pax: dict[str, str] = {}
        for _ in range(_MEMBER_LIMIT):
            header = self._header()
            if header is None:
                return
            if header.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
                key = "path" if header.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
                pax[key] = self._small_body(header.size).rstrip(b"\0").decode(*_NAME_CODEC)
            elif header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                pax |= self._pax(self._small_body(header.size))
            elif header.type == tarfile.XGLTYPE:
                self._small_body(header.size)  # git and others put comments there
            else:
                yield self._member(header, pax)
                pax = {}
                for _chunk in self.chunks():
                    pass
        raise UserError(f"{self._name}: more than {_MEMBER_LIMIT} members")

    def chunks(self) -> Iterator[bytes]:
        """Yield the rest of the present member's bytes."""
        while self._left_b:
            data = self._read(min(self._left_b, _CHUNK_B))
            self._left_b -= len(data)
            yield data
        if self._padding_b:
            self._read(self._padding_b)
            self._padding_b = 0

    def _header(self) -> tarfile.TarInfo | None:
        """Read one header block; None at the archive's end mark."""
        block = self._read(_BLOCK_B)
        if not block.strip(b"\0"):
            while self._stream.read(_CHUNK_B):  # to the end, where the checksums are
                pass
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, *_NAME_CODEC)
        except tarfile.TarError as error:
            raise self._damage(f"a member's header: {error}") from error
        if header.size < 0:
            raise self._damage(f"a member of {header.size} bytes")
        return header

    def _member(self, header: tarfile.TarInfo, pax: dict[str, str]) -> Member:
        if any(key.startswith("GNU.sparse.") for key in pax):
            raise self._refuse(header.name, _REFUSED[tarfile.GNUTYPE_SPARSE])
        raw_name, raw_link = pax.get("path", header.name), pax.get("linkpath", header.linkname)
        kind = _KINDS.get(header.type)
        if kind is None:
            raise self._refuse(raw_name, _REFUSED.get(header.type, f"of type {header.type!r}"))
        size_b = self._size_b(pax.get("size"), header.size) if kind is Kind.FILE else 0
        self._left_b, self._padding_b = size_b, -size_b % _BLOCK_B
        link = ""
        if kind is Kind.SYMLINK:
            link = self._checked(raw_link)
        elif kind is Kind.HARD_LINK:
            link = self._relative(raw_link)
        return Member(
            name=self._relative(raw_name),
            kind=kind,
            mode=header.mode & 0o777,  # neither set-user-id nor sticky
            size_b=size_b,
            mtime_s=min(max(int(header.mtime), 0), 1 << 40),
            link=link,
        )

    def _size_b(self, pax_size: str | None, header_size: int) -> int:
        if pax_size is None:
            return header_size
        if not (pax_size.isascii() and pax_size.isdigit() and len(pax_size) < 20):
            raise self._damage(f"a member's size is {pax_size[:40]!r}")
        return int(pax_size)

    def _relative(self, text: str) -> str:
        parts = [part for part in self._checked(text).split("/") if part not in ("", ".")]
        if text.startswith("/"):
            raise self._refuse(text, "outside of its folder: an absolute name")
        if ".." in parts:
            raise self._refuse(text, "outside of its folder: it has `..`")
        return "/".join(parts)

    def _checked(self, text: str) -> str:
        if not text or "\0" in text:
            raise self._damage(f"a name that cannot be one: {text[:80]!r}")
        return text

    def _pax(self, raw: bytes) -> dict[str, str]:
        # 30 mtime=1687000000.123456789␊18 path=a/long/n␊
        found: dict[str, str] = {}
        while raw.strip(b"\0"):
            digits, _, _ = raw.partition(b" ")
            length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
            record, raw = raw[:length], raw[length:]
            key, mark, value = record[len(digits) + 1 : -1].partition(b"=")
            if not mark or not record.endswith(b"\n") or len(record) != length:
                raise self._damage("a pax header")
            found[key.decode(*_NAME_CODEC)] = value.decode(*_NAME_CODEC)
        return found

    def _small_body(self, size_b: int) -> bytes:
        if size_b > _NAME_LIMIT_B:
            raise self._damage(f"a name of {size_b} bytes")
        body = self._read(size_b)
        self._read(-size_b % _BLOCK_B)
        return body

    def _read(self, size_b: int) -> bytes:
        data = self._stream.read(size_b)
        if len(data) != size_b:
            raise UserError(f"{self._name}: truncated: the archive ends before its end mark")
        return data

    def _damage(self, what: str) -> UserError:
        return UserError(f"{self._name}: damaged archive ({what})")

    def _refuse(self, member: str, why: str) -> UserError:
        return UserError(
            f"{self._name}: refused: its member {member[:200]!r} is {why}",
            hint="leave it alone: it is damaged, or made to write where it should not",
        )


_NAME_CODEC = ("utf-8", "surrogateescape")  # so that any name comes out as the bytes that came in
