"""Which case a report tells where, and that nothing which the gate weighed is left out."""

from datetime import date

from harness.host.config import data_root
from harness.model.arch import Arch
from harness.model.case import Outcome
from harness.model.change import ChangeKind, Finding, Gate, Standing, Verdict, Weight
from harness.model.errors import KernelError, RigError
from harness.model.record import Ending, Incident
from harness.report.assemble import build_report
from harness.report.content import Report, Section, SectionName
from harness.report.terminal import report_text
from harness.report.words import rerun_command
from harness.triage.compare import compare_records
from harness.triage.gate import gate
from harness.triage.policy import load_policy
from tests.unit.report_fixtures import (
    ABSENT,
    REPORTS,
    TRAMPOLINE,
    accept,
    case_record,
    change,
    comparison,
    mixed_record,
    record,
    reject,
    side,
)


def section(report: Report, name: SectionName) -> Section:
    found = report.section(name)
    assert found is not None, f"no section {name}"
    return found


def gate_with(*findings: Finding, verdict: Verdict = Verdict.INCONCLUSIVE) -> Gate:
    return Gate(verdict=verdict, policy="p", findings=findings)


def test_each_case_is_told_in_one_section_only() -> None:
    entries = [
        (entry.arch, entry.case)
        for part in reject().sections
        for group in part.groups
        for entry in group.entries
    ]
    assert len(entries) == len(set(entries))


def test_cases_of_one_cause_are_one_group() -> None:
    groups = section(reject(), SectionName.BLOCKS).groups
    assert groups[0].title == "no BPF trampoline on this architecture"
    assert groups[0].arch_counts == ((Arch.AARCH64, 5),)


def test_a_waived_case_is_shown_with_its_waiver_and_blocks_nothing() -> None:
    known = section(reject(), SectionName.KNOWN)
    waived = [entry for group in known.groups for entry in group.entries if entry.waived_by]
    assert [entry.case for entry in waived] == ["bpf/test_progs/waived_one"]
    assert "HSW-3" in report_text(reject())


def test_a_test_that_fails_through_its_subtests_is_counted_and_told_once() -> None:
    failing = side(Standing.FAIL, "F", "expected 1", "k1:x")
    changes = (
        change("bpf/test_progs/a", ChangeKind.REGRESSION, failing, tags=("by_subtests",)),
        change("bpf/test_progs/a/one", ChangeKind.REGRESSION, failing),
        change("bpf/test_progs/a/two", ChangeKind.REGRESSION, failing),
    )
    report = build_report(None, (comparison(Arch.AARCH64, *changes),), ())
    blocks = section(report, SectionName.BLOCKS)
    assert blocks.case_count == 3
    (group,) = blocks.groups
    assert [row.entry.case for row in group.rows] == [
        "bpf/test_progs/a/one",
        "bpf/test_progs/a/two",
    ]
    assert "and with them 1 test that these are subtests of" in report_text(report)


def test_a_test_whose_subtests_are_told_elsewhere_is_told() -> None:
    failing = side(Standing.FAIL, "F", "expected 1", "k1:x")
    changes = (
        change("bpf/test_progs/a", ChangeKind.REGRESSION, failing, tags=("by_subtests",)),
        change("bpf/test_progs/a/one", ChangeKind.KNOWN_BASELINE_FAILURE, failing),
    )
    report = build_report(None, (comparison(Arch.AARCH64, *changes),), ())
    (row,) = section(report, SectionName.BLOCKS).groups[0].rows
    assert row.entry.case == "bpf/test_progs/a"


def test_what_is_so_for_both_cells_is_said_once() -> None:
    statements = section(REPORTS["no_basis"](), SectionName.UNKNOWN).statements
    assert [statement.text for statement in statements] == [
        "x86_64 bpf and aarch64 bpf: there is no 5.12 baseline",
        "x86_64 bpf and aarch64 bpf: there is no Stream 9 baseline",
    ]


def test_a_limit_is_told_and_leaves_its_cases_where_they_belong() -> None:
    gone = change("bpf/test_progs/gone", ChangeKind.TEST_REMOVED, ABSENT)
    limit = Finding(
        weight=Weight.INCONCLUSIVE,
        rule="too_many_removed",
        what="aarch64 bpf: 1 of 1 cases of the baselines are not there",
        cases=("aarch64 bpf/test_progs/gone",),
    )
    report = build_report(gate_with(limit), (comparison(Arch.AARCH64, gone),), ())
    assert "1 of 1 cases" in section(report, SectionName.UNKNOWN).statements[0].text
    assert section(report, SectionName.NEW).case_count == 1


def test_every_finding_without_cases_is_told_whatever_its_weight() -> None:
    for weight in Weight:
        finding = Finding(weight=weight, rule="any", what=f"this {weight} matters")
        report = build_report(gate_with(finding), (), ())
        assert f"this {weight} matters" in report_text(report)


def test_errors_stand_where_their_blame_puts_them() -> None:
    errors = (
        (Arch.X86_64, RigError("QEMU is gone", hint="install it")),
        (Arch.AARCH64, KernelError("no root file system")),
    )
    report = build_report(None, (), (), errors=errors)
    assert section(report, SectionName.UNKNOWN).statements[0].text == "x86_64: QEMU is gone"
    assert section(report, SectionName.BLOCKS).statements[0].text == "aarch64: no root file system"
    assert "try: install it" in report_text(report)


def test_nothing_to_say_is_no_section() -> None:
    assert accept().sections == ()


def test_totals_count_each_case_by_its_last_attempt() -> None:
    (totals,) = build_report(None, (), (mixed_record(Arch.X86_64),)).totals
    assert totals.cases == len(mixed_record(Arch.X86_64).cases)
    assert totals.outcomes[Outcome.CRASH] == 1


def test_a_real_gate_without_baselines_tells_what_is_missing_and_what_fails() -> None:
    policy = load_policy(data_root() / "configs" / "gate", "release")
    records = tuple(
        record(arch, (case_record("bpf/test_progs/x", Outcome.FAIL, TRAMPOLINE),)) for arch in Arch
    )
    compared = tuple(compare_records(item, None, None) for item in records)
    report = build_report(gate(compared, policy, (), (), date(2026, 11, 22)), compared, records)
    assert report.verdict is Verdict.INCONCLUSIVE
    text = report_text(report)
    assert "there is no 5.12 baseline" in text
    assert "both  bpf/test_progs/x" in text
    assert "candidate fail | 5.12 no baseline | Stream 9 no baseline" in text


def test_a_real_gate_with_a_regression_tells_it_under_what_blocks() -> None:
    policy = load_policy(data_root() / "configs" / "gate", "release")
    good = record(Arch.AARCH64, (case_record("bpf/test_progs/x", Outcome.PASS),))
    bad = record(Arch.AARCH64, (case_record("bpf/test_progs/x", Outcome.FAIL, TRAMPOLINE),))
    compared = (compare_records(bad, good, good),)
    report = build_report(gate(compared, policy, (), (), date(2026, 11, 22)), compared, (bad,))
    assert report.verdict is Verdict.REJECT
    assert section(report, SectionName.BLOCKS).case_count == 1


def test_a_boot_that_failed_is_told_once_with_its_evidence() -> None:
    error = KernelError("no console", hint="add one", evidence=("the last line",))
    what = f"aarch64 bpf: the guest never booted during boot: {error}"
    finding = Finding(weight=Weight.BLOCKS, rule="boot", what=what)
    incident = Incident(ending=Ending.NEVER_BOOTED, during="boot", what=str(error))
    report = build_report(
        gate_with(finding, verdict=Verdict.REJECT),
        (comparison(Arch.AARCH64),),
        (record(Arch.AARCH64, (), incident),),
        errors=((Arch.AARCH64, error),),
    )
    (statement,) = section(report, SectionName.BLOCKS).statements
    assert (statement.hint, statement.evidence) == ("add one", ("the last line",))
    assert report.incidents == ()
    assert report_text(report).count("no console") == 1


def test_a_command_names_no_kernel_of_another_architecture() -> None:
    named = ("--kernel", "x86_64=a.deb", "--kernel", "aarch64=b.deb", "--source", "tree")
    command = rerun_command((Arch.AARCH64,), "bpf/test_progs/x/sub", named)
    assert command == (
        "harness", "run", "--kernel", "aarch64=b.deb", "--source", "tree",
        "--arch", "aarch64", "--only", "bpf/test_progs/x",
    )  # fmt: skip
    both = rerun_command(tuple(Arch), "bpf/test_progs/x", named)
    assert both[2:8] == named
