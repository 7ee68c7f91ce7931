"""Records: everything known about one run of one cell."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.model.arch import AccelKind, Arch
from harness.model.case import CaseRecord, LogSpan

SCHEMA = 1
"""Version of the record's file format; a reader knows this one."""


class Ending(StrEnum):
    """How a guest's life ended."""

    COMPLETED = "completed"
    PANICKED = "panicked"
    REBOOTED = "rebooted"
    POWERED_OFF = "powered_off"
    """The guest went away in good order, but before it was asked to."""
    HUNG = "hung"
    NEVER_BOOTED = "never_booted"
    """It printed something and never reached its agent."""
    NEVER_STARTED = "never_started"
    """Not one byte came from the guest."""
    QEMU_DIED = "qemu_died"
    KILLED = "killed"
    """The harness ended it: a case over its budget that could not be ended otherwise, or Ctrl-C."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a result depends on besides the case: named in full, compared before any verdict."""

    arch: Arch
    accel: AccelKind
    kernel_release: str
    kernel_source: str
    kernel_sha256: str
    config_sha256: str
    build_id: str
    selftests_source: str
    selftests_sha256: str
    compiler: str
    pahole: str
    qemu_version: str
    machine: str
    cpu_model: str
    cpus: int
    memory_mib: int
    cmdline: str
    userland_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A guest's death, or another thing that happened to the run and not to a case."""

    ending: Ending
    during: str
    """The case in flight, as text, or a phase: `boot`, `agent`."""
    what: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Splat:
    """A complaint of the kernel."""

    kind: str
    """`panic`, `oops`, `warn`, `bug`, `rcu_stall`, `soft_lockup`, `hung_task`, `lockdep`, …"""
    title: str
    signature: str
    during: str
    """The case in flight, as text, or a phase."""
    frames: tuple[str, ...] = ()
    is_whole: bool = True
    """False when the text was cut or interleaved."""
    log: LogSpan | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run of one cell, or several of the same cell merged attempt by attempt."""

    schema: int = SCHEMA
    role: str = "candidate"
    """What it was made as: `candidate`, or the role of a baseline (`5.12`, `stream9`)."""
    run_id: str
    suite: str
    profile: str
    selection: tuple[str, ...] = ()
    """Programs and cases that a person picked; empty when the whole profile was to run."""
    world: World
    started_utc: str
    """ISO 8601, seconds, with `Z`."""
    duration_s: float
    speed: float
    """Guest speed over the reference guest's: 0.5 is half as fast."""
    repetitions: int
    """How many runs are merged here; attempts of a complete case are at least as many."""
    complete: bool
    """False when the run was stopped before each planned case had had its turn."""
    capabilities: Mapping[str, str]
    incidents: tuple[Incident, ...]
    splats: tuple[Splat, ...]
    denied: Mapping[str, str]
    """Case as text to reason."""
    test_hashes: Mapping[str, str]
    """Case as text to the hash of its sources."""
    cases: tuple[CaseRecord, ...]
    """Sorted by case; each promised case exactly once."""
