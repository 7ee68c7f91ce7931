"""Values as a real run makes them, for the tests of the reports; hostile texts among them."""

from harness.model.arch import AccelKind, Arch
from harness.model.case import Attempt, CaseId, CaseRecord, LogSpan, Outcome
from harness.model.change import (
    Change,
    ChangeKind,
    Comparison,
    Finding,
    Gate,
    Side,
    Standing,
    Verdict,
    Weight,
)
from harness.model.errors import KernelError
from harness.model.record import Ending, Incident, RunRecord, World
from harness.report.assemble import build_report
from harness.report.content import CauseText, Report

RUN_ID = "20261122-153012-4f1a"
HOSTILE = "\x1b]0;owned\x07[bold]<script>alert(1)</script>[/x] \u202eexe\x9b31m & \"q\" 'a' ]]>"
CAUSES = {
    "tramp_unsupported": CauseText(
        title="no BPF trampoline on this architecture",
        advice="Backport direct calls for arm64, or list the cases as known issues.",
    )
}


def side(standing: Standing, marks: str = "", detail: str = "", signature: str = "") -> Side:
    return Side(
        standing=standing,
        marks=marks or ("" if standing is Standing.ABSENT else str(standing)),
        detail=detail,
        signature=signature,
    )


PASS = side(Standing.PASS, "PPPPP")
ABSENT = side(Standing.ABSENT)


def change(
    case: str,
    kind: ChangeKind,
    ours: Side,
    base_512: Side = PASS,
    base_s9: Side = PASS,
    *,
    arch: Arch = Arch.AARCH64,
    cause: str = "unexplained",
    tags: tuple[str, ...] = (),
) -> Change:
    return Change(
        case=CaseId.parse(case),
        arch=arch,
        kind=kind,
        candidate=ours,
        base_512=base_512,
        base_s9=base_s9,
        cause="" if kind is ChangeKind.PASS else cause,
        tags=tags,
    )


def world(arch: Arch) -> World:
    return World(
        arch=arch,
        accel=AccelKind.TCG,
        kernel_release="5.14.0-600.hs1.el9",
        kernel_source="kernel 5.14.0-600.hs1.el9",
        kernel_sha256="ab" * 32,
        config_sha256="cd" * 32,
        build_id="ef" * 20,
        selftests_source="kernel-5.14.0-600.hs1.el9",
        selftests_sha256="12" * 32,
        compiler="clang version 16.0.6",
        pahole="v1.24",
        qemu_version="7.2.17",
        machine="q35" if arch is Arch.X86_64 else "virt,gic-version=3",
        cpu_model="max",
        cpus=2,
        memory_mib=3072,
        cmdline="console=ttyS0 panic=-1",
        userland_sha256="34" * 32,
    )


def case_record(case: str, outcome: Outcome, detail: str = "", begin_b: int = -1) -> CaseRecord:
    log = LogSpan(log="vm1/output.log", begin_b=begin_b, end_b=begin_b + 400)
    attempt = Attempt(
        outcome=outcome, detail=detail, duration_s=1.25, log=log if begin_b >= 0 else None
    )
    return CaseRecord(case=CaseId.parse(case), attempts=(attempt,))


def record(arch: Arch, cases: tuple[CaseRecord, ...], *incidents: Incident) -> RunRecord:
    return RunRecord(
        run_id=RUN_ID,
        suite="bpf",
        profile="quick",
        world=world(arch),
        started_utc="2026-11-22T15:30:12Z",
        duration_s=125.4 if arch is Arch.X86_64 else 72.0,
        speed=1.0,
        repetitions=1,
        complete=True,
        capabilities={},
        incidents=incidents,
        splats=(),
        denied={"bpf/test_progs/verif_scale": "out of its budget under emulation"},
        test_hashes={},
        cases=cases,
    )


def comparison(
    arch: Arch, *changes: Change, missing: tuple[str, ...] = (), refused: str = ""
) -> Comparison:
    return Comparison(
        arch=arch,
        suite="bpf",
        candidate_run=RUN_ID,
        missing_baselines=missing,
        world_differences=(
            ("kernel_release", "5.14.0-600.hs1.el9", "5.12.9", "5.14.0-70.el9"),
            ("qemu_version", "7.2.17", "7.2.17", "8.2.0"),
        ),
        refused=refused,
        changes=changes,
    )


def mixed_record(arch: Arch) -> RunRecord:
    """One record with every outcome in it, subtests, and names that no format likes."""
    return record(
        arch,
        tuple(
            case_record(f"bpf/{name}", outcome, detail)
            for name, outcome, detail in (
                ("test_maps/all", Outcome.PASS, ""),
                ("test_progs/a_test", Outcome.FAIL, ""),
                ("test_progs/a_test/sub one: <1> #2", Outcome.FAIL, HOSTILE),
                ("test_progs/a_test/sub/two", Outcome.PASS, ""),
                ("test_progs/crash", Outcome.CRASH, "Kernel panic - not syncing"),
                ("test_progs/denied", Outcome.DENIED, "hurts the guest"),
                ("test_progs/lost", Outcome.LOST, "the run ended before its turn"),
                ("test_progs/not_built", Outcome.NOT_BUILT, "error: no member named 'x'"),
                ("test_progs/skip", Outcome.SKIP, "no CONFIG_BPF_LSM"),
                ("test_progs/timeout", Outcome.TIMEOUT, "over 20 s"),
                ("test_progs/xfail", Outcome.XFAIL, ""),
                ("test_verifier/a b c", Outcome.PASS, ""),
                ("test_verifier/a-b/c", Outcome.PASS, ""),
                ("test_verifier/a:b:c", Outcome.PASS, ""),
            )
        ),
    )


TRAMPOLINE = "libbpf: prog 'test1': failed to attach: ERROR: strerror_r(-524)=22"
X86_PASSES = tuple(case_record(f"bpf/test_progs/good_{n}", Outcome.PASS) for n in range(40))
PANIC = Incident(
    ending=Ending.PANICKED,
    during="bpf/test_progs/ringbuf",
    what="Kernel panic - not syncing: Oops: Fatal exception",
    evidence=("Internal error: Oops: 96000004 [#1] SMP", "pc : ringbuf_map_alloc+0x40/0x1c0"),
)


def reject() -> Report:
    """A rejected kernel: one cause with many cases, a crash, things new, fixed and known."""
    lost = side(Standing.FAIL, "FFF", TRAMPOLINE, "k1:attach-524")
    arm = [
        change(f"bpf/test_progs/{name}", ChangeKind.REGRESSION, lost, cause="tramp_unsupported")
        for name in ("fentry_fexit", "fentry_test", "fexit_sleep", "lsm_cgroup", "modify_return")
    ]
    crash = side(Standing.CRASH, "KK", "Internal error: Oops: 96000004 [#1] SMP", "k1:oops-ringbuf")
    inherited = side(Standing.FAIL, "FFFFF")
    flaky = side(Standing.FLAKY, "PFP", "expected 1, got 0")
    arm += [
        change("bpf/test_progs/ringbuf", ChangeKind.REGRESSION, crash, tags=("crash",)),
        change("bpf/test_verifier/hostile", ChangeKind.NEW_TEST_FAILING,
               side(Standing.FAIL, "F", HOSTILE, "k1:h"), ABSENT, ABSENT),
        change("bpf/test_progs/sk_assign", ChangeKind.INHERITED_S9, lost, PASS, inherited),
        change("bpf/test_progs/timer", ChangeKind.FLAKY_NEW, flaky),
        change("bpf/test_progs/xdp_bonding", ChangeKind.FIXED, PASS, inherited, inherited),
        change("bpf/test_progs/waived_one", ChangeKind.REGRESSION, lost),
    ]  # fmt: skip
    findings = (
        Finding(weight=Weight.BLOCKS, rule="regression", what="6 cases fail that passed",
                cases=tuple(f"aarch64 {item.case}" for item in arm[:6])),
        Finding(weight=Weight.WARNS, rule="inherited", what="1 case fails in Stream 9 as well",
                cases=("aarch64 bpf/test_progs/sk_assign",)),
        Finding(weight=Weight.BLOCKS, rule="regression", what="1 case fails that passed",
                cases=("aarch64 bpf/test_progs/waived_one",), waived_by="HSW-3 until 2027-03-31"),
    )  # fmt: skip
    cases = tuple(case_record(str(item.case), Outcome.FAIL, begin_b=1200) for item in arm)
    return build_report(
        Gate(verdict=Verdict.REJECT, policy="release", findings=findings),
        (comparison(Arch.X86_64), comparison(Arch.AARCH64, *arm)),
        (record(Arch.X86_64, X86_PASSES), record(Arch.AARCH64, X86_PASSES + cases, PANIC)),
        causes=CAUSES,
        run_folder=f"results/runs/{RUN_ID}",
    )


def no_basis() -> Report:
    """The first run on a new machine: no baseline yet, some cases fail."""
    fails = [
        change(f"bpf/test_progs/test_{n}", ChangeKind.NO_BASIS,
               side(Standing.FAIL, "F", f"unexpected value: {n}", f"k1:{n}"), ABSENT, ABSENT,
               arch=arch)
        for n in range(6)
        for arch in Arch
    ]  # fmt: skip
    missing = ("5.12", "stream9")
    findings = tuple(
        Finding(weight=Weight.INCONCLUSIVE, rule="basis",
                what=f"{arch} bpf: there is no {role} baseline")
        for role in ("5.12", "Stream 9")
        for arch in Arch
    )  # fmt: skip
    cases = tuple(case_record(f"bpf/test_progs/test_{n}", Outcome.FAIL) for n in range(6))
    return build_report(
        Gate(verdict=Verdict.INCONCLUSIVE, policy="release", findings=findings),
        tuple(
            comparison(arch, *(item for item in fails if item.arch is arch), missing=missing)
            for arch in Arch
        ),
        tuple(record(arch, X86_PASSES + cases) for arch in Arch),
        run_folder=f"results/runs/{RUN_ID}",
    )


def accept() -> Report:
    passes = tuple(
        change(str(item.case), ChangeKind.PASS, side(Standing.PASS, "P")) for item in X86_PASSES
    )
    return build_report(
        Gate(verdict=Verdict.ACCEPT, policy="release", findings=()),
        tuple(comparison(arch, *passes) for arch in Arch),
        tuple(record(arch, X86_PASSES) for arch in Arch),
        run_folder=f"results/runs/{RUN_ID}",
    )


def never_booted() -> Report:
    """One architecture does not boot: nothing is compared there."""
    error = KernelError(
        "QEMU ended before the guest said hello (41 s of 240 s)",
        hint="the config was not granted BLK_DEV_INITRD",
        evidence=("[    0.912] VFS: Unable to mount root fs on unknown-block(0,0)",),
    )
    finding = Finding(weight=Weight.BLOCKS, rule="boot", what="aarch64: the kernel does not boot")
    return build_report(
        Gate(verdict=Verdict.REJECT, policy="release", findings=(finding,)),
        (comparison(Arch.X86_64),),
        (record(Arch.X86_64, X86_PASSES),),
        errors=((Arch.AARCH64, error),),
        run_folder=f"results/runs/{RUN_ID}",
        kernel_args=("--kernel", "/srv/builds/kernel with spaces/vmlinuz-5.14.0-600.hs1.el9"),
    )


REPORTS = {
    "accept": accept,
    "never_booted": never_booted,
    "no_basis": no_basis,
    "reject": reject,
}
