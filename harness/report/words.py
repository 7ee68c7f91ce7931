"""The words of the reports: what each standing, change and outcome is called in front of people."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from harness.model.arch import AccelKind, Arch
from harness.model.case import Outcome
from harness.model.change import ChangeKind, Side, Standing, Verdict

BASELINE_NAMES: Mapping[str, str] = MappingProxyType({"5.12": "5.12", "stream9": "Stream 9"})
"""Roles of baselines by the names that people know them by."""

STANDING_WORDS: Mapping[Standing, str] = MappingProxyType(
    {
        Standing.PASS: "pass",
        Standing.FAIL: "fail",
        Standing.CRASH: "crash",
        Standing.TIMEOUT: "timeout",
        Standing.FLAKY: "flaky",
        Standing.SKIP_ENV: "skip (guest lacks it)",
        Standing.SKIP: "skip",
        Standing.UNKNOWN_OK: "ok or skip",
        Standing.ERROR: "error",
        Standing.NO_DATA: "no data",
        Standing.DENIED: "denied",
        Standing.LOST: "lost",
        Standing.NOT_BUILT: "not built",
        Standing.ABSENT: "no such case",
    }
)

OUTCOME_WORDS: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.PASS: "pass",
        Outcome.FAIL: "fail",
        Outcome.CRASH: "crash",
        Outcome.TIMEOUT: "timeout",
        Outcome.LOST: "lost",
        Outcome.XFAIL: "xfail",
        Outcome.SKIP: "skip",
        Outcome.DENIED: "denied",
        Outcome.NOT_BUILT: "not built",
    }
)
"""Outcomes in the order of their columns."""

ACCEL_WORDS: Mapping[AccelKind, str] = MappingProxyType(
    {AccelKind.KVM: "KVM", AccelKind.TCG: "TCG (emulation)"}
)

BAD_OUTCOMES = frozenset({Outcome.FAIL, Outcome.CRASH, Outcome.TIMEOUT, Outcome.LOST})

KIND_WORDS: Mapping[ChangeKind, tuple[str, str]] = MappingProxyType(
    {
        ChangeKind.NO_DATA: ("no data", "the rig failed before it had an outcome"),
        ChangeKind.DENIED: ("denied", "left out by decision"),
        ChangeKind.LOST: ("lost", "was promised and never reported"),
        ChangeKind.TEST_REMOVED: ("test removed", "the candidate's own suite has it no more"),
        ChangeKind.NOT_A_TEST: ("not a test", "in no suite that was compared"),
        ChangeKind.XPASS: ("unexpected pass", "passes, and a known issue expects it to fail"),
        ChangeKind.PASS: ("pass", "passes, as in a baseline"),
        ChangeKind.FIXED: ("fixed", "passes now, and failed in the baselines"),
        ChangeKind.NEW_PASS: ("new pass", "passes, and no baseline ran it"),
        ChangeKind.ENV_SKIP: (
            "skipped for want",
            "the guest lacks what it needs; a baseline passes",
        ),
        ChangeKind.COVERAGE_LOST: ("coverage lost", "skipped here, passes in a baseline"),
        ChangeKind.COVERAGE_CHANGED: ("coverage changed", "skipped here, failed in the baselines"),
        ChangeKind.SKIP: ("skip", "skipped here and in the baselines"),
        ChangeKind.FLAKY_KNOWN: ("known flake", "passes and fails, as in a baseline"),
        ChangeKind.FLAKY_NEW: ("new flake", "passes and fails, and was steady in the baselines"),
        ChangeKind.REGRESSION: ("regression", "fails here, passes in both baselines"),
        ChangeKind.REGRESSION_VS_S9: (
            "regression vs Stream 9",
            "fails here, passes in Stream 9",
        ),
        ChangeKind.REGRESSION_VS_512: ("regression vs 5.12", "fails here, passes in 5.12"),
        ChangeKind.INHERITED_S9: ("inherited", "Stream 9 fails in the same way; 5.12 passes"),
        ChangeKind.WORSE_THAN_FLAKY: (
            "worse than flaky",
            "fails more often than a baseline that fails now and then",
        ),
        ChangeKind.KNOWN_BASELINE_FAILURE: ("known failure", "fails in the baselines alike"),
        ChangeKind.CHANGED_FAILURE: ("changed failure", "fails otherwise than in the baselines"),
        ChangeKind.NO_BASIS: ("no basis", "fails here, and no baseline has an outcome for it"),
        ChangeKind.EXPOSED_FAILURE: ("exposed failure", "fails here, the baselines skip it"),
        ChangeKind.NEW_TEST_FAILING: ("new test, failing", "fails here, no baseline has it"),
    }
)
"""For each row of the decision table its name, and what it says in half a sentence."""

TAG_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "crash": "crash",
        "timeout": "timeout",
        "crash_known": "a baseline crashes alike",
        "unconfirmed": "not yet tried again alone",
        "test_changed": "the test itself differs between the kernels",
        "arch_only": "on this architecture only",
        "accel_suspect": "the emulator is a suspect",
        "by_subtests": "through its subtests",
        "precluded": "it did not get its turn",
        "not_built": "it was not built",
        "ok_or_skip": "its OK may be a skip",
        "basis_unsure": "the baseline's OK may have been a skip",
    }
)
"""Tags that are worth a remark; the others are for machines."""

VERDICT_WORDS: Mapping[Verdict, tuple[str, int]] = MappingProxyType(
    {
        Verdict.ACCEPT: ("ACCEPT", 0),
        Verdict.REJECT: ("REJECT", 1),
        Verdict.INCONCLUSIVE: ("CANNOT TELL", 3),
    }
)
"""For each verdict its word, and the exit status that goes with it."""

FIELD_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "accel": "accelerator",
        "kernel_release": "kernel",
        "kernel_source": "kernel source",
        "kernel_sha256": "kernel image",
        "config_sha256": "kernel config",
        "build_id": "build id",
        "selftests_source": "selftests",
        "selftests_sha256": "selftests' sources",
        "qemu_version": "QEMU",
        "cpu_model": "CPU model",
        "cpus": "CPUs",
        "memory_mib": "memory (MiB)",
        "cmdline": "command line",
        "userland_sha256": "userland",
    }
)
EXPECTED_FIELDS = frozenset(
    {
        "kernel_release",
        "kernel_source",
        "kernel_sha256",
        "config_sha256",
        "build_id",
        "selftests_source",
        "selftests_sha256",
        "cmdline",
    }
)
"""Fields that differ between any two kernels: shown, but no reason to doubt a comparison."""


def field_word(field: str) -> str:
    """What people call a field of the world."""
    return FIELD_WORDS.get(field, field.replace("_", " "))


def side_words(side: Side) -> str:
    """One side's standing in words, with how many attempts bear it out: `pass 5/5`."""
    word = STANDING_WORDS[side.standing]
    total = len(side.marks)
    if total < 2:
        return word
    if side.standing is Standing.FLAKY:
        return f"{word}, {side.marks.count('P')} of {total} pass"
    same = max(side.marks.count(mark) for mark in set(side.marks))
    return f"{word} {same}/{total}"


def kind_words(kind: ChangeKind, tags: Iterable[str]) -> str:
    """A change in half a sentence, with what its tags add."""
    word, meaning = KIND_WORDS[kind]
    remarks = [TAG_WORDS[tag] for tag in tags if tag in TAG_WORDS]
    return f"{word}: {meaning}" + (f" ({', '.join(remarks)})" if remarks else "")


def counted(number: int, one: str, many: str = "") -> str:
    """`1 case`, `2 cases`, `no cases`; `many` for a plural that is not made with an s."""
    return f"{number or 'no'} {one if number == 1 else many or one + 's'}"


def joined(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""


def duration_text(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def rerun_command(
    arches: Sequence[Arch],
    case: str,
    kernel_args: Sequence[str] = (),
    program: str = "harness",
) -> tuple[str, ...]:
    """The command that runs one case again, alone; a subtest is run with its test.

    `program` is the harness as a person calls it, `.venv/bin/harness`. Of `kernel_args`, kernels
    that are named for other architectures (`aarch64=…`) are left out.
    """
    others = tuple(f"{arch}=" for arch in Arch if arch not in arches)
    kept: list[str] = []
    for word in kernel_args:
        if others and word.startswith(others):
            kept.pop()  # the `--kernel` before it
        else:
            kept.append(word)
    test = "/".join(case.split("/", 3)[:3])
    # All architectures are what `run` does when none is named.
    named = tuple(word for arch in arches for word in ("--arch", str(arch))) if others else ()
    return (program, "run", *kept, *named, "--only", test)
