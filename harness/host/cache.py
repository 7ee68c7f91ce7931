"""A cache by content: whole folders that appear at once, or not at all.

Two harnesses may share it: who makes an entry holds the entry's lock, the other waits and then
finds it made. An interrupted maker leaves a `.partial` folder that the next maker removes.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Container, Iterator
from pathlib import Path

from harness.model.errors import RigError


def digest_of(*parts: str | bytes | Path) -> str:
    """SHA-256 in hex over all parts, each with its length; a Path stands for its file's bytes."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as file:
                inner = hashlib.file_digest(file, "sha256").hexdigest().encode()
        else:
            inner = part.encode() if isinstance(part, str) else part
        total.update(f"{len(inner)}:".encode())
        total.update(inner)
    return total.hexdigest()


def key_of(**facts: object) -> str:
    """A key over named facts that JSON can write; the order of names does not matter."""
    return digest_of(json.dumps(facts, sort_keys=True, default=str))


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` (made when missing); waits as long as another holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class Cache:
    """Entries are folders `<root>/<kind>/<key>`, each made whole by a function that fills it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, kind: str, key: str) -> Path:
        return self.root / kind / key[:40]

    def has(self, kind: str, key: str) -> bool:
        return self.path(kind, key).is_dir()

    def entry(self, kind: str, key: str, make: Callable[[Path], None]) -> Path:
        """Return the entry's folder, made by `make(empty_folder)` when it is not there yet.

        The folder appears under its name only after `make` returned; when it raises, nothing stays.
        Raises RigError for a full or unwritable disk.
        """
        final = self.path(kind, key)
        if final.is_dir():
            os.utime(final)  # so that a clean-up by age keeps what is in use
            return final
        partial = final.with_name(final.name + ".partial")
        with _disk_errors(self.root, (*_REFUSALS, *_NO_PLACE)):
            final.parent.mkdir(parents=True, exist_ok=True)
        with _disk_errors(self.root), file_lock(final.with_name(final.name + ".lock")):
            if final.is_dir():
                return final
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            try:
                make(partial)
                partial.rename(final)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        return final


_REFUSALS = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM,
)  # fmt: skip
_NO_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)


@contextlib.contextmanager
def _disk_errors(root: Path, errors: Container[int | None] = _REFUSALS) -> Iterator[None]:
    """What the disk refuses the cache is told as such; other files' errors stay what they are."""
    try:
        yield
    except OSError as error:
        is_ours = not isinstance(error.filename, str) or Path(error.filename).is_relative_to(root)
        if error.errno not in errors or not is_ours:
            raise
        raise RigError(
            f"cannot write to the cache {root}: {error.strerror}",
            hint="free some space, or name another place with HARNESS_CACHE",
        ) from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old bytes or the new ones, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name is one writer's own: two threads of one process may write the same file at once.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
