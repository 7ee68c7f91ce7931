"""A folder that nothing written through it can leave.

Names are followed as in a `chroot` to the folder: a symlink in the way, an absolute one too, leads
to where it would lead were the folder the root. Symlinks are written so that whoever follows them
later, by ordinary means, stays inside as well.

Nobody else may write to the folder meanwhile: between a look and a deed there is no lock.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import overload

from harness.model.errors import UserError

_LINK_LIMIT = 40  # as Linux has it
# What a name alone can bring about. A full disk is not among them, and comes out as it is.
_NAME_ERRORS = frozenset(
    {
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.EINVAL,
        errno.EEXIST,
        errno.EMLINK,
        errno.EILSEQ,
    }
)


class ConfinedFolder:
    """Writes members of an archive below `root`; `source` names the archive in messages.

    Names are relative, without `.` and `..`. What exists is replaced, but a folder never gives way,
    and a folder's member leaves a symlink to a folder as it is (as in dpkg). Raises UserError for
    what cannot be.
    """

    def __init__(self, root: Path, source: str) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve(strict=True)
        self._source = source
        self._parents: dict[str, Path] = {}

    def folder(self, name: str, mode: int) -> None:
        with self._errors(name):
            place = self._place(name)
            if place.is_symlink():
                self._real_folder(name)  # makes what it leads to
                return
            if not _exists(place):
                place.mkdir(0o755)
            elif not place.is_dir():
                raise self._refusal(name, "a folder where there is a file")
            place.chmod(mode | 0o700)

    def file(self, name: str, chunks: Iterable[bytes], *, mode: int, mtime_s: int) -> None:
        with self._errors(name):
            place = self._cleared(name)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(place, flags, 0o600), "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fchmod(file.fileno(), mode | 0o400)
                os.utime(file.fileno(), (mtime_s, mtime_s))

    def symlink(self, name: str, target: str) -> None:
        with self._errors(name):
            if not _is_folder(self._place(name)):
                place = self._cleared(name)
                place.symlink_to(self._inside(target, place.parent))

    def hard_link(self, name: str, target: str) -> bool:
        """Link to a file of the folder; False when that is not there."""
        with self._errors(name):
            head, _, last = target.rpartition("/")
            parent = self._find_folder(head)
            source = parent / last if parent else None
            if source is None or not _exists(source):
                return False
            if not stat.S_ISREG(source.lstat().st_mode):
                raise self._refusal(name, f"a hard link to {target!r}, which is not a file")
            place = self._place(name)
            if place == source:
                raise self._refusal(name, "a hard link to itself")
            os.link(source, self._cleared(name), follow_symlinks=False)
            return True

    def _cleared(self, name: str) -> Path:
        """Return the place of a member that is to be made, with nothing there."""
        place = self._place(name)
        if _is_folder(place):
            raise self._refusal(name, "a file where there is a folder")
        if place.is_symlink():
            self._parents.clear()  # it may have been on the way to some of them
        place.unlink(missing_ok=True)
        return place

    def _place(self, name: str) -> Path:
        """Return the path of a member, its parent free of symlinks and made when missing."""
        head, _, last = name.rpartition("/")
        parent = self._parents.get(head)
        if parent is None:
            parent = self._real_folder(head)
            self._parents[head] = parent
        return parent / last

    def _find_folder(self, name: str) -> Path | None:
        return self._parents.get(name) or self._real_folder(name, make=False)

    @overload
    def _real_folder(self, name: str) -> Path: ...
    @overload
    def _real_folder(self, name: str, *, make: bool) -> Path | None: ...
    def _real_folder(self, name: str, *, make: bool = True) -> Path | None:
        """Follow a name to a folder without symlinks; None when missing and not to be made."""
        here = self.root
        waiting = name.split("/")[::-1]
        links = 0
        while waiting:
            part = waiting.pop()
            step = here / part
            if part in ("", "."):
                continue
            if part == "..":
                here = here if here == self.root else here.parent
            elif step.is_symlink():
                links += 1
                if links > _LINK_LIMIT:
                    raise self._refusal(name, "behind a loop of symlinks")
                target = str(step.readlink())
                here = self.root if target.startswith("/") else here
                waiting.extend(target.split("/")[::-1])
            elif step.is_dir():
                here = step
            elif _exists(step):
                raise self._refusal(name, "below a file")
            elif not make:
                return None
            else:
                step.mkdir(0o755)
                here = step
        return here

    def _inside(self, target: str, parent: Path) -> str:
        """Return a symlink's target that stays inside for whoever follows it.

        Only leading `..` are left, no more than the folder is deep. By induction no chain of such
        links leads out. Absolute targets become relative.
        """
        depth = len(parent.relative_to(self.root).parts)
        parts = [part for part in target.split("/") if part not in ("", ".")]
        ups = next((i for i, part in enumerate(parts) if part != ".."), len(parts))
        if not target.startswith("/") and ups <= depth and ".." not in parts[ups:]:
            return target
        end = [] if target.startswith("/") else list(parent.relative_to(self.root).parts)
        for part in parts:
            if part != "..":
                end.append(part)
            elif end:
                end.pop()
        return os.path.relpath(self.root.joinpath(*end), parent)

    @contextlib.contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _NAME_ERRORS:
                raise
            raise self._refusal(name, f"not possible here ({error.strerror})") from error

    def _refusal(self, name: str, why: str) -> UserError:
        return UserError(
            f"{self._source}: refused: its member {name[:200]!r} is {why}",
            hint="leave it alone: it is damaged, or made to write where it should not",
        )


def _exists(place: Path) -> bool:
    return os.path.lexists(place)


def _is_folder(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink()
