"""Where a run's files lie, and the log of what happened, written line by line as it happens.

    results/runs/<run id>/<arch>-<suite>/record.json  events.jsonl  vm1/…  vm2/…

A run's folder is made by exactly one process: two runs at once never share one.
"""

import contextlib
import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.model.arch import Arch
from harness.model.errors import HarnessError, RigError, UserError
from harness.store.records import RECORD_NAME, disk_error

EVENTS_NAME = "events.jsonl"
# What becomes a part of a path: a run's id, a suite, a profile. "20261122-153012-4f1a"
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")
_RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4,}(?:-\d+)?")
_TRIES = 100


def new_run_id(now: datetime, salt: str) -> str:
    """Name a run: its start in UTC, so that names sort by time, and a salt of a few hex digits.

    Raises ValueError for a time without a zone and for a salt that is not hex.
    """
    if now.tzinfo is None:
        raise ValueError("a run's time needs a zone")
    run_id = f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{salt}"
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(f"not a salt of four hex digits or more: {salt!r}")
    return run_id


def create_run(runs: Path, run_id: str) -> Path:
    """Make the folder of a run, one that nobody else has: a taken name gets a number.

    Returns `<runs>/<run_id>` or `<runs>/<run_id>-2`, …; the folder's name is the run's id. Raises
    RigError when the disk refuses.
    """
    for number in range(1, _TRIES):
        folder = runs / (run_id if number == 1 else f"{run_id}-{number}")
        try:
            runs.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError as error:
            if not runs.is_dir():
                raise _no_folder(runs, error) from error
            continue
        except OSError as error:
            raise _no_folder(runs, disk_error(folder, error)) from error
        return folder
    raise RigError(f"{runs}: {_TRIES} runs are called {run_id}")


def _no_folder(runs: Path, error: Exception) -> HarnessError:
    if isinstance(error, HarnessError):
        return error
    return UserError(
        f"{runs}: runs cannot be kept there ({error})", hint="name a folder with --results"
    )


def create_cell(run: Path, arch: Arch, suite: str) -> Path:
    """Make and return the folder of one cell. Raises UserError for a suite that is no name."""
    folder = run / cell_name(arch, suite)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from error
    return folder


def cell_name(arch: Arch, suite: str) -> str:
    return f"{arch}-{safe_name(suite)}"


def safe_name(text: str) -> str:
    """Return the text when it can be one part of a path. Raises UserError otherwise."""
    if not _SAFE.fullmatch(text):
        raise UserError(
            f"not a name: {text!r}", hint="letters, digits, dot, dash and underscore, no slash"
        )
    return text


def list_runs(runs: Path) -> tuple[Path, ...]:
    """Folders of runs, the newest first; empty where there are none."""
    if not runs.is_dir():
        return ()
    found = [path for path in runs.iterdir() if path.is_dir() and _RUN_ID.fullmatch(path.name)]
    return tuple(sorted(found, key=lambda path: path.name, reverse=True))


def record_paths(run: Path) -> tuple[Path, ...]:
    """The records in a run's folder, by cell."""
    return tuple(sorted(run.glob(f"*/{RECORD_NAME}")))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One line of an event log."""

    kind: str
    facts: Mapping[str, Any]


class EventLog:
    """Append-only JSON lines; what `append` returned for is with the kernel, whatever comes after.

    Safe to use from several threads. Each process opens its own file: nothing here is shared.
    """

    def __init__(self, path: Path) -> None:
        """Open for appending. A line that an earlier writer left torn is closed first."""
        self.path = path
        self._lock = threading.Lock()
        try:
            is_torn = path.exists() and not _ends_with_newline(path)
            self._file = path.open("ab", buffering=0)
            if is_torn:
                self._file.write(b"\n")
        except OSError as error:
            raise disk_error(path, error) from error

    def append(self, kind: str, **facts: object) -> None:
        """Write one line. Raises RigError on a full disk; lines already written stay whole."""
        line = json.dumps({"kind": kind, **facts}, default=str) + "\n"
        with self._lock:
            try:
                self._write_all(line.encode("ascii"))
            except OSError as error:
                raise disk_error(self.path, error) from error

    def _write_all(self, data: bytes) -> None:
        begin = os.fstat(self._file.fileno()).st_size
        try:
            while data:
                written = self._file.write(data)
                data = data[written or 0 :]
        except OSError:
            # Take the torn piece back, so that the next reader finds whole lines only.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), begin)
            raise

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventReading:
    """What an event log holds: its whole lines, and the numbers of the lines that are not."""

    events: tuple[StoredEvent, ...]
    damaged_lines: tuple[int, ...]


def read_events(path: Path) -> EventReading:
    """Read an event log of a run that may still be going on or was killed in the middle of a line.

    Raises UserError for a file that is not there.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    events: list[StoredEvent] = []
    damaged: list[int] = []
    for number, line in enumerate(lines, start=1):
        event = _event_of(line)
        if event is not None:
            events.append(event)
        elif line:
            damaged.append(number)
    return EventReading(events=tuple(events), damaged_lines=tuple(damaged))


def _event_of(line: bytes) -> StoredEvent | None:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(raw, dict) or not isinstance(raw.get("kind"), str):
        return None
    return StoredEvent(kind=raw.pop("kind"), facts=raw)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
