"""The folder that a kernel is built in, kept between builds so that make has little to do.

One folder for each tree, architecture and recipe. make goes by times; where times cannot be
trusted (a killed build, a tree replaced by an older one) what is in doubt is removed here.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from harness.host.cache import write_atomically
from harness.kernel.tree_index import TreeIndex, changed_since

_STATE = "state.msgpack"
_UNFINISHED = "unfinished"
_LAST_WORDS_NS = 5_000_000_000
"""What was written in the last seconds before a build was killed may be cut off."""
_ORPHANS_LIMIT_S = 120.0
_PAUSE_S = 0.2
_KEPT = frozenset((".config", "source", "Makefile"))


class _State(msgspec.Struct):
    built_ns: int
    """When the last build began."""
    digests: dict[str, bytes]
    """The tree as that build found it."""
    steps: int


class WorkFolder:
    """Holds O= and what is known of it; the caller holds the lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self._begun_ns = 0

    @property
    def lock(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.lock")

    @property
    def configured(self) -> Path:
        """What Kconfig was asked last, and what it did not grant."""
        return self.folder / "configured.json"

    def open(self, index: TreeIndex) -> str:
        """Make the folder fit for a build of that tree; say what was done with an old one."""
        state = self._state()
        said = ""
        if state is not None and self.out.is_dir():
            changed, is_seen = changed_since(state.digests, index, state.built_ns)
            if not is_seen:
                said = (
                    f"{len(changed)} files changed without a newer time: built from the beginning"
                )
                shutil.rmtree(self.out)
            elif (self.folder / _UNFINISHED).exists():
                said = "goes on where a build was interrupted"
                _wait_for_orphans(self.out)
                _remove_last_words(self.out)
                self.configured.unlink(missing_ok=True)
        elif self.out.exists():
            shutil.rmtree(self.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self._begun_ns = time.time_ns()
        (self.folder / _UNFINISHED).touch()
        self._save(_State(built_ns=self._begun_ns, digests=index.digests(), steps=self.steps()))
        return said

    def close(self, index: TreeIndex, steps: int) -> None:
        """The build came to its end by itself, good or bad. `steps`: 0 when it was not a whole."""
        known = max(steps, self.steps())
        self._save(_State(built_ns=self._begun_ns, digests=index.digests(), steps=known))
        (self.folder / _UNFINISHED).unlink(missing_ok=True)

    def steps(self) -> int:
        """Files that were made in the longest build here; 0 when there was none."""
        state = self._state()
        return state.steps if state else 0

    def _state(self) -> _State | None:
        try:
            return msgspec.msgpack.decode((self.folder / _STATE).read_bytes(), type=_State)
        except (OSError, msgspec.MsgspecError):
            return None

    def _save(self, state: _State) -> None:
        write_atomically(self.folder / _STATE, msgspec.msgpack.encode(state))


def _wait_for_orphans(out: Path) -> None:
    """Wait until nothing works in a folder any more.

    A make whose caller was killed ends by itself: nobody reads its output. Its compilers end their
    files first. After a while they are left to themselves.
    """
    limit_s = time.monotonic() + _ORPHANS_LIMIT_S
    while _has_inhabitants(str(out)) and time.monotonic() < limit_s:
        time.sleep(_PAUSE_S)


def _has_inhabitants(folder: str) -> bool:
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with contextlib.suppress(OSError):  # it ended, or is another user's
                cwd = os.readlink(f"/proc/{name}/cwd")  # noqa: PTH115
                if cwd == folder or cwd.startswith(f"{folder}/"):
                    return True
    return False


def _remove_last_words(out: Path) -> None:
    """Remove what was written last: make builds again whatever is missing."""
    files = [(path, path.lstat().st_mtime_ns) for path in _regular_files(out)]
    newest_ns = max((mtime_ns for _, mtime_ns in files), default=0)
    for path, mtime_ns in files:
        if mtime_ns >= newest_ns - _LAST_WORDS_NS and path.name not in _KEPT:
            path.unlink(missing_ok=True)


def _regular_files(folder: Path) -> Iterator[Path]:
    for name, _, files in os.walk(folder):
        for file in files:
            path = Path(name, file)
            if not path.is_symlink():
                yield path
