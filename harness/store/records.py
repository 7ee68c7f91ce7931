"""Records as files: canonical JSON, one case a line, made to be read as a git diff.

A record carries a checksum of its own content: a line that was lost, edited or left by a torn merge
is damage, never a test that was removed. Keys that this version does not know are ignored.
"""

import dataclasses
import errno
import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from harness.host.cache import write_atomically
from harness.model.case import Attempt, CaseId, CaseRecord
from harness.model.errors import RigError, UserError
from harness.model.record import SCHEMA, RunRecord
from harness.store.merging import merge_records as merge_records

RECORD_NAME = "record.json"
"""A record's file in the folder of its cell."""
_DIGEST = "content_sha256"
_DIGITS = 3  # of seconds: finer is noise in a diff
_DISK = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
)  # fmt: skip


def write_record(
    path: Path, record: RunRecord, *, planned: Collection[CaseId] | None = None
) -> None:
    """Write a record so that a reader sees the old file or the whole new one.

    With `planned`, each promised case must be in it. Raises RigError for a record that breaks a
    contract (a case twice, a promised case missing, a name that cannot be read back) and for a disk
    that does not take it.
    """
    check_record(record, planned=planned)
    try:
        write_atomically(path, record_text(record).encode("ascii"))
    except OSError as error:
        raise disk_error(path, error) from error


def disk_error(path: Path, error: OSError) -> Exception:
    """Say what a failed write means: the rig's fault when the disk refused it."""
    if error.errno not in _DISK:
        return error
    return RigError(
        f"cannot write {path}: {error.strerror}",
        hint="free some space or name another folder; what was stored before is whole",
    )


def read_record(path: Path) -> RunRecord:
    """Read a record. Raises UserError, with the line, for a file that is missing or damaged."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"no such record: {path}", hint="`harness run` writes records") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error})", hint="restore it from git, or run again"
        ) from error
    return parse_record(text, str(path))


def check_record(record: RunRecord, *, planned: Collection[CaseId] | None = None) -> None:
    """Raise RigError when a case is there twice, is missing, or has a name that cannot be kept."""
    seen: set[str] = set()
    for entry in record.cases:
        text = str(entry.case)
        if text in seen:
            raise RigError(f"a case is twice in the record: {text!r}")
        if not _is_readable_back(entry.case):
            raise RigError(
                f"the case {text!r} cannot be told apart by its name",
                hint="only the last part of a case may hold slashes, and no part may be empty",
            )
        if not entry.attempts:
            raise RigError(f"a case without an outcome: {text!r}")
        seen.add(text)
    missing = sorted({str(case) for case in planned or ()} - seen)
    if missing:
        raise RigError(
            f"{len(missing)} promised case(s) have no outcome, the first is {missing[0]!r}"
        )


def _is_readable_back(case: CaseId) -> bool:
    try:
        return CaseId.parse(str(case)) == case
    except ValueError:
        return False


def record_text(record: RunRecord) -> str:
    """Encode as ASCII JSON: keys sorted, one entry of each collection a line.

    Raises RigError as `check_record` does: a case that is there twice would swallow the other.
    """
    check_record(record)
    raw = _plain(dataclasses.replace(record, cases=()))
    raw["schema"] = record.schema
    ordered = sorted(record.cases, key=lambda entry: entry.case)
    raw["cases"] = {
        str(entry.case): [_plain(attempt) for attempt in entry.attempts] for entry in ordered
    }
    raw[_DIGEST] = _digest(raw)
    return "{\n" + ",\n".join(_member(key, raw[key]) for key in sorted(raw)) + "\n}\n"


def _member(key: str, value: Any) -> str:
    match value:
        case dict() if value:
            lines = [f"  {_json(name)}: {_json(item)}" for name, item in _ordered(key, value)]
            return f" {_json(key)}: {{\n" + ",\n".join(lines) + "\n }"
        case list() if value:
            return f" {_json(key)}: [\n" + ",\n".join(f"  {_json(item)}" for item in value) + "\n ]"
        case _:
            return f" {_json(key)}: {_json(value)}"


def _ordered(key: str, value: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    # Cases come in the order of cases, not of their texts: a subtest stands below its test.
    return value.items() if key == "cases" else sorted(value.items())


def _json(value: Any) -> str:
    # ASCII only: a name with a bidirectional override or a line separator cannot play with a diff.
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _digest(raw: Mapping[str, Any]) -> str:
    content = {key: value for key, value in raw.items() if key != _DIGEST}
    return hashlib.sha256(_json(content).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Make values JSON can hold; a field that equals its type's default is left out."""
    match value:
        case Enum():
            return value.value
        case float():
            if not math.isfinite(value):
                raise RigError(f"a duration that is not a number: {value}")
            return round(value, _DIGITS)
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case tuple() | list():
            return [_plain(item) for item in value]
        case _ if dataclasses.is_dataclass(value):
            return {
                field.name: _plain(getattr(value, field.name))
                for field in dataclasses.fields(value)
                if getattr(value, field.name) != field.default
            }
        case _:
            return value


def parse_record(text: str, name: str) -> RunRecord:
    """Read a record's text; `name` stands for the file in messages. Raises UserError."""
    try:
        raw = json.loads(text, object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError as error:
        raise _damaged(name, error.lineno, error.msg) from error
    except _Duplicate as error:
        raise _damaged(name, _line_of(text, error.key), f"{error.key!r} is there twice") from error
    except RecursionError as error:
        raise _damaged(name, 1, "nested too deeply") from error
    if not isinstance(raw, dict) or "cases" not in raw:
        raise _damaged(name, 1, "not a record")
    _check_schema(raw.get("schema"), name)
    if raw.get(_DIGEST) != _digest(raw):
        raise _damaged(name, _line_of(text, _DIGEST), "the content does not fit its checksum")
    return _typed(raw, text, name)


def _check_schema(found: object, name: str) -> None:
    if found == SCHEMA:
        return
    hint = "a newer harness wrote it: use that one" if _is_newer(found) else ""
    raise UserError(f"{name}: record schema {found!r} is not {SCHEMA}", hint=hint)


def _is_newer(found: object) -> bool:
    return isinstance(found, int) and found > SCHEMA


def _typed(raw: dict[str, Any], text: str, name: str) -> RunRecord:
    cases = raw["cases"]
    if not isinstance(cases, dict):
        raise _damaged(name, _line_of(text, "cases"), "`cases` is not an object")
    entries = [_case(key, value, text, name) for key, value in cases.items()]
    entries.sort(key=lambda entry: entry.case)
    try:
        record = msgspec.convert({**raw, "cases": []}, RunRecord)
    except msgspec.ValidationError as error:
        key = str(error).rpartition("$.")[2].partition("`")[0].partition(".")[0].partition("[")[0]
        raise _damaged(name, _line_of(text, key), str(error)) from error
    return dataclasses.replace(record, cases=tuple(entries))


def _case(key: str, value: object, text: str, name: str) -> CaseRecord:
    try:
        attempts = msgspec.convert(value, tuple[Attempt, ...])
        if not attempts:
            raise ValueError("a case without an outcome")
        return CaseRecord(case=CaseId.parse(key), attempts=attempts)
    except (msgspec.ValidationError, ValueError) as error:
        raise _damaged(name, _line_of(text, key), f"{key!r}: {error}") from error


class _Duplicate(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Duplicate(key)
            seen.add(key)
    return result


def _line_of(text: str, key: str) -> int:
    """The last line that holds the key (the second of two, where it is there twice), or 1."""
    name = _json(key)
    position = text.rfind(f"{name}: [")  # a case, before its hash or its denial
    if position < 0:
        position = text.rfind(f"{name}:")
    return text.count("\n", 0, position) + 1 if position >= 0 else 1


def _damaged(name: str, line: int, what: str) -> UserError:
    return UserError(
        f"{name}:{line}: damaged record: {what}",
        hint="restore it from git, or run again: a record is never edited by hand",
    )
