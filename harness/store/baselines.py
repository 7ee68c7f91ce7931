"""Baselines: records that people promoted, kept in git.

    results/baselines/<role's folder>/<arch>/<suite>-<accel>.json            profile `full`
    results/baselines/<role's folder>/<arch>/<suite>-<profile>-<accel>.json  any other

A role without a record is normal: comparing says that the basis is missing, nothing fails here.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.model.arch import AccelKind, Arch
from harness.model.case import Outcome
from harness.model.errors import UserError
from harness.model.record import RunRecord
from harness.store.merging import merge_records
from harness.store.records import check_record, read_record, write_record
from harness.store.runs import safe_name

ROLE_512 = "5.12"
ROLE_S9 = "stream9"
ROLE_FOLDERS = {ROLE_512: "5.12", ROLE_S9: "stream9"}
"""Each role and the folder of its records."""
DEFAULT_REPETITIONS = 5
"""With five baseline runs two attempts of the candidate tell a regression (Fisher, p < 0.05)."""
_FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineEntry:
    """One promoted record, for a list."""

    role: str
    path: Path
    record: RunRecord | None
    """None when the file is damaged; then `problem` says how."""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """What a promotion wrote, and what was there before."""

    path: Path
    record: RunRecord
    replaced: RunRecord | None


def baseline_path(
    role: str, arch: Arch, suite: str, profile: str, accel: AccelKind, root: Path
) -> Path:
    """The file of a baseline below `root`. Raises UserError for a role or a name that is none."""
    middle = "" if profile == _FULL else f"-{safe_name(profile)}"
    return root / _folder(role) / str(arch) / f"{safe_name(suite)}{middle}-{accel}.json"


def load_baseline(
    role: str, arch: Arch, suite: str, profile: str, accel: AccelKind, root: Path
) -> RunRecord | None:
    """The baseline of this profile, or the full one, which holds each profile's cases; or None.

    Raises UserError for a damaged file: a basis that cannot be read is not a missing one.
    """
    for name in dict.fromkeys((profile, _FULL)):
        path = baseline_path(role, arch, suite, name, accel, root)
        if path.exists():
            record = read_record(path)
            _check_place(path, record, (role, arch, suite, accel))
            return record
    return None


def promote(
    paths: Sequence[Path],
    role: str,
    root: Path,
    *,
    min_repetitions: int = DEFAULT_REPETITIONS,
    allow_candidate: bool = False,
) -> Promotion:
    """Make the record (or the repetitions of one run, merged) the baseline of a role.

    Raises UserError, and changes nothing, for a record that is damaged, incomplete or empty, has
    fewer than `min_repetitions` repetitions, or was run as a candidate (unless allowed).
    """
    merged = merge_records([read_record(path) for path in paths])
    problems = _problems(merged, role, min_repetitions, allow_candidate)
    if problems:
        name = str(paths[0]) + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
        raise UserError(f"{name} cannot be the {role} baseline: {'; '.join(problems)}")
    record = dataclasses.replace(merged, role=role)
    check_record(record)
    world = record.world
    target = baseline_path(role, world.arch, record.suite, record.profile, world.accel, root)
    replaced = read_record(target) if target.exists() else None
    write_record(target, record)
    return Promotion(path=target, record=record, replaced=replaced)


def _problems(
    record: RunRecord, role: str, min_repetitions: int, allow_candidate: bool
) -> list[str]:
    found = []
    if not record.complete:
        found.append("the run is not complete")
    if record.selection:
        found.append(f"only a part of the profile was run: {', '.join(record.selection)}")
    if not any(
        attempt.outcome is Outcome.PASS for case in record.cases for attempt in case.attempts
    ):
        found.append("not one case passed")
    if record.repetitions < min_repetitions:
        found.append(f"{record.repetitions} repetition(s), {min_repetitions} are wanted")
    if record.role == "candidate" and not allow_candidate:
        found.append("it was run as a candidate")
    if record.role not in ("candidate", role):
        found.append(f"it was run as the {record.role} baseline")
    return found


def list_baselines(root: Path) -> tuple[BaselineEntry, ...]:
    """Each stored baseline, damaged ones included, by role and path."""
    found = []
    for role, folder in ROLE_FOLDERS.items():
        for path in sorted((root / folder).glob("*/*.json")):
            try:
                found.append(BaselineEntry(role=role, path=path, record=read_record(path)))
            except UserError as error:
                found.append(BaselineEntry(role=role, path=path, record=None, problem=str(error)))
    return tuple(found)


def _folder(role: str) -> str:
    if role not in ROLE_FOLDERS:
        raise UserError(f"no such role: {role!r}", hint=f"roles: {', '.join(ROLE_FOLDERS)}")
    return ROLE_FOLDERS[role]


def _check_place(path: Path, record: RunRecord, wanted: tuple[str, ...]) -> None:
    found = (record.role, record.world.arch, record.suite, record.world.accel)
    if found != wanted:
        raise UserError(f"{path}: holds a record of {' '.join(found)}, not of {' '.join(wanted)}")
