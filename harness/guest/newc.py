"""The initramfs format ("newc" cpio), written so that the same input gives the same bytes.

No program of the host does this without root (device nodes), without times and owners of the
host's files, and in an order of our own.
"""

import hashlib
import io
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from harness.model.errors import RigError

SEGMENT_ALIGNMENT_B = 512
"""Segments are padded to this, so that they may be put one after the other."""

_MAGIC = b"070701"
_HEADER_B = 110
_TRAILER = "TRAILER!!!"
_ALIGNMENT_B = 4
_MAX_FILE_B = 0xFFFF_FFFF  # eight hex digits
_FIELDS = 13
_CHUNK_B = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One member of an archive; owner is root and time is 0, always."""

    name: str
    """Relative to the guest's root, without a leading slash: `usr/bin/true`."""
    mode: int
    """Type and permissions, as in `st_mode`."""
    data: bytes = b""
    """Content of a file, or the target of a symbolic link."""
    path: Path | None = None
    """A file on the host whose content is taken instead of `data`."""
    device: tuple[int, int] = (0, 0)
    """Major and minor of a device node."""

    def __post_init__(self) -> None:
        parts = self.name.split("/")
        if not all(parts) or "." in parts or ".." in parts or "\0" in self.name:
            raise ValueError(f"not a name inside the guest's root: {self.name!r}")
        if self.name == _TRAILER:
            raise ValueError(f"{self.name!r} ends an archive")


class Sink(Protocol):
    """What an archive is written to: a file, or anything else that takes bytes."""

    def write(self, data: bytes, /) -> object: ...


def directory(name: str, permissions: int = 0o755) -> Entry:
    return Entry(name=name, mode=stat.S_IFDIR | permissions)


def regular(name: str, data: bytes, permissions: int = 0o644) -> Entry:
    return Entry(name=name, mode=stat.S_IFREG | permissions, data=data)


def file_copy(name: str, path: Path, permissions: int = 0o644) -> Entry:
    return Entry(name=name, mode=stat.S_IFREG | permissions, path=path)


def symlink(name: str, target: str) -> Entry:
    return Entry(name=name, mode=stat.S_IFLNK | 0o777, data=target.encode())


def character_device(name: str, major: int, minor: int, permissions: int = 0o600) -> Entry:
    return Entry(name=name, mode=stat.S_IFCHR | permissions, device=(major, minor))


def tree_entries(root: Path, at: str = "") -> Iterator[Entry]:
    """Yield the content of a folder of the host, placed at `at` in the guest ("" is its root).

    Permissions are reduced to what a copy keeps on any host: read by all, write by the owner, and
    the executable bit. Hard links become files of their own. Raises RigError for a socket, a pipe
    or a device node.
    """
    for path in sorted(root.rglob("*")):
        name = "/".join((*([at] if at else []), *path.relative_to(root).parts))
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield symlink(name, str(path.readlink()))
        elif stat.S_ISDIR(mode):
            yield directory(name)
        elif stat.S_ISREG(mode):
            yield file_copy(name, path, 0o755 if mode & stat.S_IXUSR else 0o644)
        else:
            raise RigError(f"{path} is no file, folder or symbolic link")


def write_newc(entries: Iterable[Entry], file: Sink) -> None:
    """Write an archive: sorted by name, missing parent folders added, padded to a segment's end.

    Raises ValueError when two entries have one name, and RigError for a file that cannot be
    stored: over 4 GiB, or of another size at the end of its reading than at its start.
    """
    counter = _Counter(file)
    for number, entry in enumerate(_sorted_with_parents(entries), start=1):
        _write_entry(counter, entry, number)
    _write_header(counter, _TRAILER, ino=0, mode=0, size=0, links=1, device=(0, 0))
    counter.pad(SEGMENT_ALIGNMENT_B)


def digest_of_entries(entries: Iterable[Entry]) -> str:
    """Return the SHA-256 in hex of the archive that `write_newc` would write."""
    digest = _Digest()
    write_newc(entries, digest)
    return digest.total.hexdigest()


def read_newc(file: BinaryIO) -> Iterator[Entry]:
    """Yield the entries of one archive or of several in a row; contents are held in memory.

    Raises ValueError for anything that is not a whole archive.
    """
    while _skip_padding(file):
        yield from _read_archive(file)


class _Digest:
    """A sink that only hashes."""

    def __init__(self) -> None:
        self.total = hashlib.sha256()

    def write(self, data: bytes, /) -> None:
        self.total.update(data)


class _Counter:
    """A file that knows how much was written to it: the target need not be able to tell."""

    def __init__(self, file: Sink) -> None:
        self.file = file
        self.written_b = 0

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.written_b += len(data)

    def pad(self, alignment_b: int) -> None:
        self.write(bytes(-self.written_b % alignment_b))


def _sorted_with_parents(entries: Iterable[Entry]) -> list[Entry]:
    by_name: dict[str, Entry] = {}
    for entry in entries:
        if entry.name in by_name:
            raise ValueError(f"twice in one archive: {entry.name}")
        by_name[entry.name] = entry
    for parent in {str(up) for name in by_name for up in Path(name).parents} - {"."}:
        if not stat.S_ISDIR(by_name.setdefault(parent, directory(parent)).mode):
            raise ValueError(f"below something that is no folder: {parent}/…")
    return [by_name[name] for name in sorted(by_name)]


def _write_entry(counter: _Counter, entry: Entry, number: int) -> None:
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    size = len(entry.data) if entry.path is None else entry.path.stat().st_size
    if size > _MAX_FILE_B:
        raise RigError(f"{entry.name}: {size} bytes are too many for an initramfs")
    _write_header(
        counter,
        entry.name,
        ino=number,
        mode=entry.mode,
        size=size,
        links=links,
        device=entry.device,
    )
    if entry.path is None:
        counter.write(entry.data)
    else:
        _write_content(counter, entry.path, size)
    counter.pad(_ALIGNMENT_B)


def _write_header(
    counter: _Counter,
    name: str,
    *,
    ino: int,
    mode: int,
    size: int,
    links: int,
    device: tuple[int, int],
) -> None:
    encoded = name.encode() + b"\0"
    # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    fields = (ino, mode, 0, 0, links, 0, size, 0, 0, *device, len(encoded), 0)
    counter.write(_MAGIC + b"".join(b"%08X" % field for field in fields) + encoded)
    counter.pad(_ALIGNMENT_B)


def _write_content(counter: _Counter, path: Path, size: int) -> None:
    left = size
    with path.open("rb") as source:
        while left and (chunk := source.read(min(left, _CHUNK_B))):
            counter.write(chunk)
            left -= len(chunk)
        if left or source.read(1):
            raise RigError(f"{path} changed while it was read")


def _skip_padding(file: BinaryIO) -> bool:
    """Stop before the next byte that is not 0; False at the end of the file."""
    while byte := file.read(1):
        if byte != b"\0":
            file.seek(-1, io.SEEK_CUR)
            return True
    return False


def _read_archive(file: BinaryIO) -> Iterator[Entry]:
    start = file.tell()
    while True:
        fields = _read_header(file)
        mode, size, device, name_size = fields[1], fields[6], fields[9:11], fields[11]
        name = _read_exactly(file, name_size)[:-1].decode()
        _skip_to_alignment(file, start)
        data = _read_exactly(file, size)
        _skip_to_alignment(file, start)
        if name == _TRAILER:
            return
        yield Entry(name=name, mode=mode, data=data, device=(device[0], device[1]))


def _read_header(file: BinaryIO) -> tuple[int, ...]:
    header = _read_exactly(file, _HEADER_B)
    if not header.startswith(_MAGIC):
        raise ValueError(f"no newc header at byte {file.tell() - _HEADER_B}")
    digits = header[len(_MAGIC) :]
    return tuple(int(digits[8 * i : 8 * i + 8], 16) for i in range(_FIELDS))


def _skip_to_alignment(file: BinaryIO, start: int) -> None:
    _read_exactly(file, (start - file.tell()) % _ALIGNMENT_B)


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise ValueError("the archive ends in the middle of an entry")
    return data
