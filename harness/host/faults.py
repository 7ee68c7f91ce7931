"""What nobody foresaw, and what the host refuses: told in words, with the details in a file."""

import errno
import platform
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from harness.host.paths import cache_root
from harness.model.errors import HarnessError, RigError

_REFUSALS = {
    errno.ENOSPC: "free some space, or name another folder",
    errno.EDQUOT: "free some of your quota, or name another folder",
    errno.EFBIG: "raise the limit on a file's size (`ulimit -f`)",
    errno.EROFS: "name a folder that can be written",
    errno.EACCES: "name a file or folder that this user may use",
    errno.EPERM: "name a file or folder that this user may use",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENFILE: "close some programs: the host has no open file left",
    errno.EIO: "look after the disk: the host's kernel log says more",
}
"""What a host may refuse at any time, and what helps; other errors of it are mistakes of ours."""


def hint_of(error: Exception) -> str:
    """What helps against a refusal of the host; "" for any other error."""
    return _REFUSALS.get(error.errno or 0, "") if isinstance(error, OSError) else ""


def as_known(error: Exception, argv: Sequence[str], folder: Path | None = None) -> HarnessError:
    """Return what a person is told of an error that nothing else has put into words.

    A refusal of the host is told as such. Anything else is a mistake of the harness: its traceback
    goes to a file in `folder` (default: in the cache), and the error names it.
    """
    if isinstance(error, OSError) and (hint := hint_of(error)):
        where = f"{error.filename}: " if error.filename else ""
        return RigError(f"{where}{error.strerror}", hint=hint)
    what = f"a mistake in the harness: {type(error).__name__}: {error}"
    text = _fault_text(error, argv)
    try:
        path = _written(text, folder or cache_root() / "faults")
    except OSError as problem:
        where = f"its traceback could not be kept ({problem})"
        return RigError(what, hint=f"{where}: set HARNESS_DEBUG=1 to see it")
    return RigError(what, hint=f"report it with {path}, which says where it happened")


def _written(text: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}.txt"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def _fault_text(error: Exception, argv: Sequence[str]) -> str:
    told = "".join(traceback.format_exception(error))
    host = f"Python {platform.python_version()} at {sys.executable}, {platform.platform()}"
    return f"harness {list(argv)}\n{host}\n\n{told}"
