"""What a source tree holds, file by file, so that a tree that did not change is known in a second.

A file whose size, times and inode are those of last time is not read again. Only what a kernel is
built from counts: neither documents, nor tests, nor other architectures.
"""

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.host.cache import Cache, digest_of, write_atomically
from harness.model.arch import ArchSpec
from harness.model.errors import UserError

_LAYOUT = 1
_LEFT_OUT = frozenset((".git", "Documentation", "tools/testing", "tools/perf", "LICENSES"))
_KEPT_OF_LEFT_OUT = ("Documentation/Kconfig",)
"""What Kconfig reads of the folders that are left out."""
_ARCH_FOLDERS: Mapping[str, frozenset[str]] = {
    "x86": frozenset(("x86",)),
    "arm64": frozenset(("arm64", "arm")),  # for its headers of Xen
}
_YOUNG_NS = 2_000_000_000
"""A file that changed so shortly before it was read may change again within the same tick."""


class _Mark(msgspec.Struct, array_like=True, frozen=True):
    """A file as it was when it was read."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    digest: bytes


class _Stored(msgspec.Struct):
    layout: int
    marks: dict[str, _Mark]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeIndex:
    """The files that a kernel for one architecture is built from."""

    sha256: str
    """Over names and contents."""
    marks: Mapping[str, _Mark]

    def digests(self) -> dict[str, bytes]:
        return {name: mark.digest for name, mark in self.marks.items()}


def index_tree(tree: Path, arch_spec: ArchSpec, cache: Cache) -> TreeIndex:
    """Read what changed since the last time; what is known of the tree is kept in the cache.

    Raises UserError for a tree that cannot be read, or changes while it is read.
    """
    path = cache.root / "tree-index" / f"{digest_of(str(tree.resolve()))[:40]}.msgpack"
    known = _load(path)
    try:
        marks = _marks(tree, known)
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror})",
            hint="does somebody write to the tree just now?",
        ) from error
    if marks != known:
        _store(path, marks)
    wanted = _ARCH_FOLDERS.get(arch_spec.kernel_arch, frozenset((arch_spec.kernel_arch,)))
    chosen = {name: mark for name, mark in sorted(marks.items()) if _is_wanted(name, wanted)}
    total = hashlib.sha256(f"{_LAYOUT}\n".encode())
    for name, mark in chosen.items():
        total.update(name.encode(errors="surrogateescape") + b"\0" + mark.digest)
    return TreeIndex(sha256=total.hexdigest(), marks=chosen)


def changed_since(
    before: Mapping[str, bytes], now: TreeIndex, built_ns: int
) -> tuple[tuple[str, ...], bool]:
    """The files that are not as they were, and whether make can see that by their times.

    A tree that was replaced by an older one has changed files older than what was built from it.
    """
    changed = tuple(name for name, mark in now.marks.items() if before.get(name) != mark.digest)
    return changed, all(now.marks[name].mtime_ns >= built_ns for name in changed)


def _marks(tree: Path, known: Mapping[str, _Mark]) -> dict[str, _Mark]:
    marks: dict[str, _Mark] = {}
    unread: list[tuple[str, os.stat_result]] = []
    for name, status in _files(str(tree)):
        mark = known.get(name)
        if mark is not None and _is_same(mark, status):
            marks[name] = mark
        else:
            unread.append((name, status))
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:
        read = pool.map(lambda item: _read(tree, *item), unread)
        marks.update({name: mark for (name, _), mark in zip(unread, read, strict=True)})
    return marks


def _store(path: Path, marks: Mapping[str, _Mark]) -> None:
    now_ns = time.time_ns()
    old = {
        name: mark
        for name, mark in marks.items()
        if now_ns - max(mark.mtime_ns, mark.ctime_ns) > _YOUNG_NS
    }
    write_atomically(path, msgspec.msgpack.encode(_Stored(layout=_LAYOUT, marks=old)))


def _load(path: Path) -> Mapping[str, _Mark]:
    try:
        stored = msgspec.msgpack.decode(path.read_bytes(), type=_Stored)
    except (OSError, msgspec.MsgspecError):
        return {}
    return stored.marks if stored.layout == _LAYOUT else {}


def _is_same(mark: _Mark, status: os.stat_result) -> bool:
    return (
        mark.mtime_ns == status.st_mtime_ns
        and mark.ctime_ns == status.st_ctime_ns
        and mark.size == status.st_size
        and mark.inode == status.st_ino
    )


def _read(tree: Path, name: str, status: os.stat_result) -> _Mark:
    path = tree / name
    if stat.S_ISLNK(status.st_mode):
        digest = hashlib.sha256(b"link\0" + os.fsencode(path.readlink())).digest()
    else:
        digest = hashlib.sha256(path.read_bytes()).digest()
    return _Mark(
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
        digest=digest,
    )


def _files(root: str) -> Iterator[tuple[str, os.stat_result]]:
    """Files and links with their status, names relative to the tree."""
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                name = folder + entry.name
                if entry.is_dir(follow_symlinks=False):
                    if name not in _LEFT_OUT:
                        folders.append(f"{name}/")
                elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                    yield name, entry.stat(follow_symlinks=False)
    for name in _KEPT_OF_LEFT_OUT:
        if os.path.isfile(f"{root}/{name}"):  # noqa: PTH113
            yield name, os.stat(f"{root}/{name}")  # noqa: PTH116


def _is_wanted(name: str, arch_folders: frozenset[str]) -> bool:
    if not name.startswith("arch/") or name.count("/") == 1:
        return True
    return name.split("/", 2)[1] in arch_folders
