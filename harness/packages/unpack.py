"""Tar archives of strangers unpacked into a folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from harness.model.errors import UserError
from harness.packages.compression import open_decompressed
from harness.packages.confined import ConfinedFolder
from harness.packages.tar import Kind, Member, TarReader

Predicate = Callable[[str], bool]


def unpack_tar(archive: Path, into: Path, *, only: Predicate | None = None, strip: int = 0) -> None:
    """Unpack a tar file, compressed or not: see `unpack_stream`. Raises UserError."""

    def stream() -> BinaryIO:
        return open_decompressed(archive)

    unpack_stream(stream, into, name=str(archive), only=only, strip=strip)


def unpack_stream(
    open_stream: Callable[[], BinaryIO],
    into: Path,
    *,
    name: str,
    only: Predicate | None = None,
    strip: int = 0,
) -> None:
    """Unpack the tar archive that `open_stream()` gives into a folder, made when missing.

    `only` is asked with each member's name (`usr/bin/awk`, after `strip` leading parts are gone)
    and leaves out what it says False to; folders in the way are made. A hard link gets its data
    even where its target is left out; only then is the stream opened a second time. Owners,
    set-user-id bits and the like are dropped. See ConfinedFolder for what stays inside, and how.

    Raises UserError naming the archive for one that is damaged, truncated, holds a device, or
    wants out of the folder; what was written until then stays.
    """
    folder = ConfinedFolder(into, name)
    orphans: dict[str, list[str]] = {}
    with open_stream() as stream:
        reader = TarReader(stream, name=name)
        for member, place in _chosen(reader, only, strip):
            target = _write(member, place, reader, folder, strip)
            if target is not None:
                orphans.setdefault(target, []).append(place)
    if orphans:
        with open_stream() as stream:
            _adopt(orphans, TarReader(stream, name=name), folder, strip)
    for target, places in orphans.items():
        raise UserError(
            f"{name}: damaged archive ({places[0]!r} is a hard link to {target!r}, which it lacks)"
        )


def _chosen(reader: TarReader, only: Predicate | None, strip: int) -> Iterator[tuple[Member, str]]:
    for member in reader:
        place = _stripped(member.name, strip)
        if place and (only is None or only(place)):
            yield member, place


def _stripped(name: str, strip: int) -> str:
    return "/".join(name.split("/")[strip:]) if strip else name


def _write(
    member: Member, place: str, reader: TarReader, folder: ConfinedFolder, strip: int
) -> str | None:
    """Write one member; return the target of a hard link that is not there yet."""
    match member.kind:
        case Kind.FOLDER:
            folder.folder(place, member.mode)
        case Kind.SYMLINK:
            folder.symlink(place, member.link)
        case Kind.FILE:
            folder.file(place, reader.chunks(), mode=member.mode, mtime_s=member.mtime_s)
        case Kind.HARD_LINK:
            target = _stripped(member.link, strip)
            if not target or not folder.hard_link(place, target):
                return target
    return None


def _adopt(
    orphans: dict[str, list[str]], reader: TarReader, folder: ConfinedFolder, strip: int
) -> None:
    """Give hard links the data of targets that were left out, and forget those orphans."""
    for member, target in _chosen(reader, None, strip):
        if member.kind is not Kind.FILE or target not in orphans:
            continue
        first, *others = orphans.pop(target)
        folder.file(first, reader.chunks(), mode=member.mode, mtime_s=member.mtime_s)
        for other in others:
            folder.hard_link(other, first)
