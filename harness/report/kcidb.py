"""Records as KCIDB v5.3 JSON: checkout, build and tests. Nothing is sent from here."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from harness.model.case import CaseId, CaseRecord, Outcome
from harness.model.record import RunRecord
from harness.model.text import inert, inert_line

_ROOT = "kselftest"
_STATUSES: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.PASS: "PASS",
        Outcome.FAIL: "FAIL",
        Outcome.CRASH: "FAIL",
        Outcome.TIMEOUT: "ERROR",
        Outcome.LOST: "MISS",
        Outcome.SKIP: "SKIP",
        Outcome.XFAIL: "SKIP",
        Outcome.DENIED: "SKIP",
        Outcome.NOT_BUILT: "MISS",
    }
)
_ORIGIN = re.compile(r"[a-z0-9_]+")
_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")
_EXCERPT_CHARACTERS = 16_384


def kcidb_text(records: Sequence[RunRecord], *, origin: str, tree: str = "") -> str:
    """Return the report of candidate records; the same records give the same ids.

    Raises ValueError for an origin that KCIDB does not take.
    """
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(f"not an origin: {origin!r} (wanted a-z, 0-9 and _)")
    checkouts: dict[str, dict[str, Any]] = {}
    builds: dict[str, dict[str, Any]] = {}
    tests: list[dict[str, Any]] = []
    for record in records:
        checkout = _checkout(record, origin, tree)
        build = _build(record, origin, checkout["id"])
        checkouts[checkout["id"]] = checkout
        builds[build["id"]] = build
        tests += _tests(record, origin, build["id"])
    value = {
        "version": {"major": 5, "minor": 3},
        "checkouts": list(checkouts.values()),
        "builds": list(builds.values()),
        "tests": tests,
    }
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def _checkout(record: RunRecord, origin: str, tree: str) -> dict[str, Any]:
    world = record.world
    checkout = {
        "id": _identity(origin, "checkout", world.kernel_source),
        "origin": origin,
        "comment": inert_line(world.kernel_source),
        "valid": True,
    }
    return checkout | ({"tree_name": tree} if tree else {})


def _build(record: RunRecord, origin: str, checkout_id: str) -> dict[str, Any]:
    world = record.world
    return {
        "id": _identity(origin, "build", checkout_id, world.arch, world.kernel_sha256),
        "origin": origin,
        "checkout_id": checkout_id,
        "architecture": str(world.arch),
        "compiler": inert_line(world.compiler),
        "comment": inert_line(world.kernel_release),
        "status": "PASS",
        "misc": {"config_sha256": world.config_sha256, "build_id": world.build_id},
    }


def _tests(record: RunRecord, origin: str, build_id: str) -> list[dict[str, Any]]:
    taken: dict[str, str] = {}
    return [
        _test(record, case, number, origin, build_id, _path(case.case, taken))
        for case in record.cases
        for number in range(len(case.attempts))
    ]


def _test(
    record: RunRecord, case: CaseRecord, number: int, origin: str, build_id: str, path: str
) -> dict[str, Any]:
    attempt = case.attempts[number]
    world = record.world
    test: dict[str, Any] = {
        # The run and the attempt are in the id: a second value under one id would be lost.
        "id": _identity(origin, "test", build_id, record.run_id, case.case, number),
        "origin": origin,
        "build_id": build_id,
        "path": path,
        "status": _STATUSES[attempt.outcome],
        "start_time": record.started_utc.replace("Z", "+00:00"),
        "environment": {"misc": {"platform": f"qemu-virt-{world.accel}-{world.arch}"}},
        "misc": {
            "raw_name": inert_line(str(case.case)),
            "outcome": str(attempt.outcome),
            "attempt": number + 1,
        },
    }
    if attempt.duration_s is not None:
        test["duration"] = attempt.duration_s
    if attempt.detail:
        test["log_excerpt"] = inert(attempt.detail)[:_EXCERPT_CHARACTERS]
    return test


def _path(case: CaseId, taken: dict[str, str]) -> str:
    """A dotted path of the few characters that KCIDB takes; a name that clashes gets a hash."""
    parts = (_UNFIT.sub("_", part).strip("_") or "_" for part in (case.suite, *case.path))
    path = ".".join((_ROOT, *parts))
    owner = taken.setdefault(path, str(case))
    if owner != str(case):
        path += f"-{hashlib.sha256(str(case).encode()).hexdigest()[:4]}"
    return path


def _identity(origin: str, *parts: object) -> str:
    text = "\0".join(map(str, parts))
    return f"{origin}:{hashlib.sha256(text.encode()).hexdigest()[:32]}"
