"""Small records for the tests of what reads records."""

import dataclasses
from collections.abc import Mapping, Sequence

from harness.model.arch import AccelKind, Arch
from harness.model.case import Attempt, CaseId, CaseRecord, Outcome
from harness.model.record import Incident, RunRecord, Splat, World

WORLD = World(
    arch=Arch.AARCH64,
    accel=AccelKind.TCG,
    kernel_release="5.14.0-600.hs1.aarch64",
    kernel_source="kernel-5.14.0-600.hs1",
    kernel_sha256="k" * 64,
    config_sha256="c" * 64,
    build_id="b" * 40,
    selftests_source="kernel-5.14.0-600.hs1",
    selftests_sha256="s" * 64,
    compiler="clang version 16.0.6",
    pahole="v1.24",
    qemu_version="7.2.22",
    machine="virt,gic-version=3",
    cpu_model="max,pauth-impdef=on",
    cpus=2,
    memory_mib=2048,
    cmdline="console=ttyAMA0 panic=-1",
    userland_sha256="u" * 64,
)
MARKS = {
    "P": Outcome.PASS,
    "F": Outcome.FAIL,
    "S": Outcome.SKIP,
    "x": Outcome.XFAIL,
    "T": Outcome.TIMEOUT,
    "K": Outcome.CRASH,
    "L": Outcome.LOST,
    "D": Outcome.DENIED,
    "N": Outcome.NOT_BUILT,
}


def attempts(marks: str, **facts: object) -> tuple[Attempt, ...]:
    """One attempt a mark, each with the same facts."""
    plain = (Attempt(outcome=MARKS[mark]) for mark in marks)
    return tuple(dataclasses.replace(attempt, **facts) for attempt in plain)  # type: ignore[arg-type]


def record(
    cases: Mapping[str, str | Sequence[Attempt]],
    *,
    run_id: str = "20261122-150000-aaaa",
    role: str = "candidate",
    profile: str = "full",
    selection: tuple[str, ...] = (),
    repetitions: int = 1,
    complete: bool = True,
    world: World = WORLD,
    suite: str = "bpf",
    incidents: tuple[Incident, ...] = (),
    splats: tuple[Splat, ...] = (),
    test_hashes: Mapping[str, str] | None = None,
    denied: Mapping[str, str] | None = None,
) -> RunRecord:
    """A record of cases by text, each as marks (`FFP`) or as attempts."""
    entries = [
        CaseRecord(
            case=CaseId.parse(text),
            attempts=attempts(tried) if isinstance(tried, str) else tuple(tried),
        )
        for text, tried in cases.items()
    ]
    return RunRecord(
        role=role,
        run_id=run_id,
        suite=suite,
        profile=profile,
        selection=selection,
        world=world,
        started_utc="2026-11-22T15:00:00Z",
        duration_s=12.5,
        speed=1.0,
        repetitions=repetitions,
        complete=complete,
        capabilities={"jit.on": "yes"},
        incidents=incidents,
        splats=splats,
        denied=denied or {},
        test_hashes=test_hashes or {},
        cases=tuple(sorted(entries, key=lambda entry: entry.case)),
    )


def world(**changes: object) -> World:
    return dataclasses.replace(WORLD, **changes)  # type: ignore[arg-type]
