"""What the comparison of a candidate with its baselines says, case by case and as a whole."""

from dataclasses import dataclass
from enum import StrEnum

from harness.model.arch import AccelKind, Arch
from harness.model.case import CaseId
from harness.model.record import Incident, Splat


class Standing(StrEnum):
    """What one side says of a case over all its attempts. The value is the mark in reports."""

    PASS = "P"
    FAIL = "F"
    CRASH = "K"
    TIMEOUT = "T"
    FLAKY = "~"
    SKIP_ENV = "s"
    """Skipped for something the guest or the rig lacks."""
    SKIP = "S"
    """Skipped for something the kernel or its configuration lacks, or for no known reason."""
    UNKNOWN_OK = "?"
    """An old dialect's OK that may have been a skip."""
    ERROR = "E"
    NO_DATA = "X"
    DENIED = "D"
    LOST = "L"
    NOT_BUILT = "N"
    ABSENT = "-"


class ChangeKind(StrEnum):
    """The rows of the decision table."""

    NO_DATA = "no_data"
    DENIED = "denied"
    LOST = "lost"
    TEST_REMOVED = "test_removed"
    NOT_A_TEST = "not_a_test"
    XPASS = "xpass"
    PASS = "pass"
    FIXED = "fixed"
    NEW_PASS = "new_pass"
    ENV_SKIP = "env_skip"
    COVERAGE_LOST = "coverage_lost"
    COVERAGE_CHANGED = "coverage_changed"
    SKIP = "skip"
    FLAKY_KNOWN = "flaky_known"
    FLAKY_NEW = "flaky_new"
    REGRESSION = "regression"
    REGRESSION_VS_S9 = "regression_vs_s9"
    REGRESSION_VS_512 = "regression_vs_512"
    INHERITED_S9 = "inherited_s9"
    WORSE_THAN_FLAKY = "worse_than_flaky"
    KNOWN_BASELINE_FAILURE = "known_baseline_failure"
    CHANGED_FAILURE = "changed_failure"
    NO_BASIS = "no_basis"
    EXPOSED_FAILURE = "exposed_failure"
    NEW_TEST_FAILING = "new_test_failing"


class Weight(StrEnum):
    """What a gate makes of a finding."""

    BLOCKS = "blocks"
    INCONCLUSIVE = "inconclusive"
    WARNS = "warns"
    INFO = "info"
    OK = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One case on one side of a comparison."""

    standing: Standing
    marks: str
    """One mark an attempt: `PPPPP`, `FFP`; "" where the case is absent."""
    signature: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What changed for one case on one architecture."""

    case: CaseId
    arch: Arch
    kind: ChangeKind
    candidate: Side
    base_512: Side
    base_s9: Side
    cause: str = ""
    """Id of a cause in `configs/causes`, "" for a pass, `unexplained` where nothing matched."""
    tags: tuple[str, ...] = ()
    """`crash`, `timeout`, `test_changed`, `arch_only`, `accel_suspect`, `single_basis`, …"""
    explanation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplatChange:
    """One complaint of the candidate's kernel, beside what the baselines' kernels complained of."""

    splat: Splat
    in_512: bool
    """The 5.12 baseline has one of the same signature."""
    in_s9: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One candidate record against the two baselines of its architecture and suite."""

    arch: Arch
    suite: str
    candidate_run: str
    missing_baselines: tuple[str, ...]
    """Roles for which there is no record: `5.12`, `stream9`."""
    world_differences: tuple[tuple[str, str, str, str], ...]
    """(field, candidate, 5.12, Stream 9) for each that differs; "" where a side is missing."""
    refused: str
    """Why the records may not be compared at all (other accelerator, …); "" when they may."""
    changes: tuple[Change, ...]
    accel: AccelKind | None = None
    profile: str = ""
    """Of the candidate's record."""
    kernel: str = ""
    """The candidate: its release and where it came from."""
    is_complete: bool = False
    """Each case that the candidate promised had its turn."""
    baseline_repetitions: tuple[tuple[str, int], ...] = ()
    """(role, runs merged) for each baseline that there is."""
    incidents: tuple[Incident, ...] = ()
    """The candidate's."""
    splats: tuple[SplatChange, ...] = ()
    lost_capabilities: tuple[tuple[str, str], ...] = ()
    """(capability, role) that a baseline's kernel was seen to have and the candidate's not."""


class Verdict(StrEnum):
    ACCEPT = "accept"
    REJECT = "reject"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One reason that the gate weighed."""

    weight: Weight
    rule: str
    """Name of the policy's rule."""
    what: str
    cases: tuple[str, ...] = ()
    """`arch case` for each case it rests on."""
    waived_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The decision, with its reasons in order of importance."""

    verdict: Verdict
    policy: str
    findings: tuple[Finding, ...]
