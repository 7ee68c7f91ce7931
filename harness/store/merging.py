"""Repetitions: several runs of the same cell in the same world become one record."""

import dataclasses
from collections.abc import Mapping, Sequence

from harness.model.case import Attempt, CaseId, CaseRecord
from harness.model.errors import UserError
from harness.model.record import RunRecord


def merge_records(records: Sequence[RunRecord]) -> RunRecord:
    """Put the attempts of several runs of one cell side by side, run after run.

    Repetitions may share a run's id: they then differ in their start. The result is as complete as
    its least complete part and carries the first one's identity.
    Raises UserError when there is nothing to merge, a run is there twice, or the runs are not of
    one world: the message names each field that differs.
    """
    if not records:
        raise UserError("no records to merge")
    first = records[0]
    if len(records) == 1:
        return first
    differences = _differences(records)
    if differences:
        raise UserError(
            f"these runs are not repetitions of each other: {'; '.join(differences)}",
            hint="merge only runs of the same kernel, selftests, machine and accelerator",
        )
    for index, record in enumerate(records):
        if record in records[:index]:
            raise UserError(f"a run is given twice: {record.run_id} of {record.started_utc}")
    return dataclasses.replace(
        first,
        duration_s=sum(record.duration_s for record in records),
        speed=sum(record.speed for record in records) / len(records),
        repetitions=sum(record.repetitions for record in records),
        complete=all(record.complete for record in records),
        capabilities=_joined([record.capabilities for record in records]),
        incidents=tuple(item for record in records for item in record.incidents),
        splats=tuple(item for record in records for item in record.splats),
        denied={key: why for record in reversed(records) for key, why in record.denied.items()},
        test_hashes={
            key: value for record in reversed(records) for key, value in record.test_hashes.items()
        },
        cases=_merged_cases(records),
    )


def _differences(records: Sequence[RunRecord]) -> list[str]:
    found = []
    for name in ("suite", "profile", "selection", "role"):
        found += _differing(name, [getattr(record, name) for record in records])
    for field in dataclasses.fields(records[0].world):
        found += _differing(field.name, [getattr(record.world, field.name) for record in records])
    return found


def _differing(name: str, values: Sequence[object]) -> list[str]:
    distinct = list(dict.fromkeys(str(value) for value in values))
    return [f"{name}: {' | '.join(distinct)}"] if len(distinct) > 1 else []


def _merged_cases(records: Sequence[RunRecord]) -> tuple[CaseRecord, ...]:
    attempts: dict[CaseId, list[Attempt]] = {}
    for record in records:
        for entry in record.cases:
            attempts.setdefault(entry.case, []).extend(entry.attempts)
    return tuple(CaseRecord(case=case, attempts=tuple(attempts[case])) for case in sorted(attempts))


def _joined(all_of: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What the runs agree on; a capability that came out differently is `unsure`."""
    joined: dict[str, str] = {}
    for capabilities in all_of:
        for key, value in capabilities.items():
            joined[key] = value if joined.get(key, value) == value else "unsure"
    return joined
