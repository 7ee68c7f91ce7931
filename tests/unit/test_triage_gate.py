"""The gate: what blocks rejects, what cannot be told is said, and what is waived stays in sight."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import msgspec
import pytest

from harness.host.config import data_root
from harness.model.arch import AccelKind, Arch
from harness.model.case import Attempt, CaseId
from harness.model.change import ChangeKind, Comparison, Gate, Verdict, Weight
from harness.model.errors import UserError
from harness.model.record import Ending, Incident, Splat
from harness.triage.compare import compare_records
from harness.triage.exceptions import (
    KnownIssue,
    Waiver,
    expectation,
    load_known_issues,
    load_waivers,
)
from harness.triage.families import default_families
from harness.triage.gate import gate
from harness.triage.patterns import matches_case
from harness.triage.policy import load_policy
from tests.unit.store_samples import attempts, record, world

_POLICIES = data_root() / "configs" / "gate"
_POLICY = load_policy(_POLICIES, "release", default_families())
_TODAY = date(2026, 11, 22)
_A = "bpf/test_progs/a"
Cases = Mapping[str, str | Sequence[Attempt]]
_GOOD: Cases = {_A: "P", "bpf/test_progs/b": "P", "bpf/test_maps": "P"}
_BASE: Cases = dict.fromkeys(_GOOD, "PPPPP")


def both(
    ours: Cases, base: Cases = _BASE, s9: Cases | None = None, **facts: object
) -> list[Comparison]:
    """The same comparison on each architecture."""
    found = []
    for arch in Arch:
        old = world(arch=arch, selftests_sha256="o" * 64)
        candidate = record(ours, **{"world": world(arch=arch), **facts})  # type: ignore[arg-type]
        first, second = (
            record(cases, world=old, repetitions=5) for cases in (base, base if s9 is None else s9)
        )
        found.append(compare_records(candidate, first, second))
    return found


def judged(
    comparisons: Sequence[Comparison],
    waivers: Sequence[Waiver] = (),
    known: Sequence[KnownIssue] = (),
    today: date = _TODAY,
) -> Gate:
    return gate(comparisons, _POLICY, waivers, known, today)


def rules_of(found: Gate, weight: Weight) -> set[str]:
    return {item.rule for item in found.findings if item.weight is weight and not item.waived_by}


def test_a_candidate_without_a_fault_is_accepted() -> None:
    found = judged(both(_GOOD))
    assert found.verdict is Verdict.ACCEPT
    assert found.findings == ()


def test_a_regression_rejects_and_is_told_first() -> None:
    found = judged(both({**_GOOD, _A: "F", "bpf/test_progs/new": "F"}))
    assert found.verdict is Verdict.REJECT
    assert found.findings[0].rule == "regression"
    assert found.findings[0].cases == (f"x86_64 {_A}", f"aarch64 {_A}")


def test_a_failure_of_both_kernels_in_the_same_way_does_not_block() -> None:
    ours = {**_GOOD, _A: attempts("F", signature="c1:a")}
    base = {**_BASE, _A: attempts("FFFFF", signature="c1:a")}
    assert judged(both(ours, base)).verdict is Verdict.ACCEPT


def test_a_crash_blocks_even_when_the_case_failed_before() -> None:
    ours = {**_GOOD, _A: attempts("K", signature="k1:a")}
    base = {**_BASE, _A: attempts("FFFFF", signature="c1:a")}
    assert rules_of(judged(both(ours, base)), Weight.BLOCKS) == {"crash"}
    known = {**_BASE, _A: attempts("KKKKK", signature="k1:a")}
    assert judged(both(ours, known)).verdict is Verdict.ACCEPT


def test_a_timeout_that_was_not_tried_again_cannot_be_told() -> None:
    once = judged(both({**_GOOD, _A: "T"}))
    assert once.verdict is Verdict.INCONCLUSIVE
    again = attempts("T") + attempts("T", fresh_vm=True)
    assert judged(both({**_GOOD, _A: again})).verdict is Verdict.REJECT


def test_findings_are_told_by_weight_and_waived_ones_last() -> None:
    waived = [_waiver(case="bpf/test_progs/b")]
    found = judged(
        both({**_GOOD, _A: "F", "bpf/test_progs/b": "F", "bpf/test_progs/n": "F"}), waived
    )
    weights = [(bool(item.waived_by), item.weight) for item in found.findings]
    assert weights == sorted(weights, key=lambda pair: (pair[0], list(Weight).index(pair[1])))
    assert found.findings[-1].waived_by


# -- waivers and known issues --------------------------------------------------------------------


def _waiver(**facts: object) -> Waiver:
    plain = {
        "case": _A,
        "arch": tuple(Arch),
        "reason": "slow",
        "link": "https://example.org/1",
        "owner": "@me",
        "until": date(2027, 3, 31),
    }
    return Waiver(**{**plain, **facts})  # type: ignore[arg-type]


def _issue(**facts: object) -> KnownIssue:
    plain = {
        "id": "HSK-1",
        "title": "it fails",
        "effect": "expected_fail",
        "culprit": "code",
        "reason": "because",
        "link": "https://example.org/1",
        "owner": "@me",
        "until": date(2027, 3, 31),
        "case": _A,
        "text": "strange",
    }
    return msgspec.convert({**plain, **facts}, KnownIssue)


_FAILING = {**_GOOD, _A: attempts("F", detail="a strange failure", signature="c1:a")}


def test_a_waived_failure_is_shown_and_not_counted() -> None:
    found = judged(both(_FAILING), [_waiver()])
    assert found.verdict is Verdict.ACCEPT
    (finding,) = found.findings
    assert (finding.weight, finding.rule) == (Weight.BLOCKS, "regression")
    assert "@me" in finding.waived_by


def test_a_waiver_of_one_architecture_is_not_for_the_other() -> None:
    found = judged(both(_FAILING), [_waiver(arch=(Arch.AARCH64,))])
    assert found.verdict is Verdict.REJECT
    assert found.findings[0].cases == (f"x86_64 {_A}",)


def test_a_waiver_holds_on_its_last_day_and_lapses_after_it() -> None:
    waiver = _waiver(until=_TODAY)
    assert judged(both(_FAILING), [waiver]).verdict is Verdict.ACCEPT
    later = judged(both(_FAILING), [waiver], today=date(2026, 11, 23))
    assert later.verdict is Verdict.REJECT
    assert "lapsed" in rules_of(later, Weight.WARNS)


def test_a_lapsed_waiver_that_nobody_needs_does_not_turn_anything_red() -> None:
    found = judged(both(_GOOD), [_waiver(until=date(2026, 1, 1))])
    assert found.verdict is Verdict.ACCEPT
    assert rules_of(found, Weight.INFO) == {"lapsed"}


def test_a_waiver_that_lapses_soon_is_announced() -> None:
    found = judged(both(_FAILING), [_waiver(until=date(2026, 12, 1))])
    assert "lapses_soon" in rules_of(found, Weight.INFO)


def test_a_waiver_for_nothing_is_told() -> None:
    assert rules_of(judged(both(_GOOD), [_waiver()]), Weight.INFO) == {"unused"}


def test_a_crash_is_never_waived_unless_the_waiver_says_so() -> None:
    crash = both({**_GOOD, _A: attempts("K", signature="k1:a")})
    assert judged(crash, [_waiver()]).verdict is Verdict.REJECT
    assert judged(crash, [_waiver(allow_crash=True)]).verdict is Verdict.ACCEPT


@pytest.mark.parametrize("marks", ["L", "N"])
def test_a_case_that_did_not_run_cannot_be_waived(marks: str) -> None:
    found = judged(both({**_GOOD, _A: marks}), [_waiver()])
    assert (found.verdict is Verdict.ACCEPT) is (marks == "N")


def test_a_waiver_of_one_kernel_is_for_no_other() -> None:
    assert judged(both(_FAILING), [_waiver(kernel="600.hs1")]).verdict is Verdict.ACCEPT
    assert judged(both(_FAILING), [_waiver(kernel="601.hs1")]).verdict is Verdict.REJECT


def test_a_known_issue_hides_only_the_failure_that_it_describes() -> None:
    assert judged(both(_FAILING), known=[_issue()]).verdict is Verdict.ACCEPT
    assert judged(both(_FAILING), known=[_issue(text="another")]).verdict is Verdict.REJECT
    other = judged(both(_FAILING), known=[_issue(signature=["c1:b"])])
    assert other.verdict is Verdict.REJECT


def test_a_known_issue_covers_crashes_and_timeouts_only_when_it_says_so() -> None:
    for mark, key in (("K", "allow_crash"), ("T", "allow_timeout")):
        bad = both({**_GOOD, _A: attempts(mark, detail="strange", signature="k1:a")})
        assert judged(bad, known=[_issue()]).verdict is not Verdict.ACCEPT
        assert judged(bad, known=[_issue(**{key: True})]).verdict is Verdict.ACCEPT


def test_a_known_flake_is_covered_up_to_its_rate() -> None:
    flake = {"effect": "flake", "max_rate": 0.5}
    half = both({**_GOOD, _A: attempts("F", detail="strange") + attempts("P")})
    assert judged(half, known=[_issue(**flake)]).verdict is Verdict.ACCEPT
    solid = both(_FAILING)
    assert judged(solid, known=[_issue(**flake)]).verdict is Verdict.REJECT


def test_expectations_end_with_their_issue() -> None:
    expects = expectation([_issue()], _TODAY)
    assert expects(CaseId.parse(_A), Arch.X86_64)
    assert not expects(CaseId.parse("bpf/test_progs/b"), Arch.X86_64)
    assert not expectation([_issue(until=date(2026, 1, 1))], _TODAY)(CaseId.parse(_A), Arch.X86_64)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("bpf/test_progs/a", "bpf/test_progs/a/sub", "bpf/test_progs/a_two"),
        ("bpf/test_progs/a*", "bpf/test_progs/abc", "bpf/test_progs/b/a"),
        ("bpf/test_progs/a/x*", "bpf/test_progs/a/xy/z", "bpf/test_progs/a"),
        ("bpf/*/a", "bpf/test_progs/a", "bpf/x/y/a"),
        ("bpf/test_progs/[a]", "bpf/test_progs/[a]", "bpf/test_progs/a"),
        ("bpf/test_progs/a.c", "bpf/test_progs/a.c", "bpf/test_progs/abc"),
    ],
)
def test_a_pattern_is_for_a_case_and_its_subtests(pattern: str, yes: str, no: str) -> None:
    assert matches_case(pattern, CaseId.parse(yes))
    assert not matches_case(pattern, CaseId.parse(no))


_WAIVER_TEXT = """[[waiver]]
case = "bpf/test_progs/a"
arch = ["aarch64"]
reason = "slow"
link = "https://example.org/1"
owner = "@me"
until = 2027-03-31
"""
_ISSUE_TEXT = """[[issue]]
id = "HSK-1"
title = "it fails"
effect = "expected_fail"
culprit = "code"
reason = "because"
link = "https://example.org/1"
owner = "@me"
until = 2027-03-31
case = "bpf/test_progs/a"
cause = ["timing"]
"""


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("owner", "ower", "ower"),
        ("until = 2027-03-31", "", "until"),
        ('reason = "slow"', 'reason = " "', "reason"),
        ('link = "https://example.org/1"', 'link = "later"', "link"),
        ("2027-03-31", '"soon"', "until"),
        ('["aarch64"]', "[]", "architecture"),
        ('["aarch64"]', '["arm"]', "arm"),
        ("bpf/test_progs/a", "*", "suite and a program"),
        ("bpf/test_progs/a", "bpf/test_progs/*", "every test"),
        ("bpf/test_progs/a", "bpf/test_progs", "every test"),
    ],
)
def test_a_waiver_that_could_hide_more_than_it_says_is_refused(
    tmp_path: Path, old: str, new: str, why: str
) -> None:
    (tmp_path / "a.toml").write_text(_WAIVER_TEXT)
    assert len(load_waivers(tmp_path)) == 1
    assert old in _WAIVER_TEXT
    (tmp_path / "a.toml").write_text(_WAIVER_TEXT.replace(old, new))
    with pytest.raises(UserError, match=why):
        load_waivers(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('cause = ["timing"]', "", "how it fails"),
        ('cause = ["timing"]', 'text = "("', "no regular expression"),
        ("expected_fail", "ignore_splat", "splat"),
        ("expected_fail", "hide", "hide"),
        ("bpf/test_progs/a", "bpf/**", "every test|suite and a program"),
        ("until = 2027-03-31", "", "until"),
        ('title = "it fails"', 'title = ""', "title"),
        (_ISSUE_TEXT, _ISSUE_TEXT * 2, "twice"),
    ],
)
def test_a_known_issue_that_could_hide_more_than_it_says_is_refused(
    tmp_path: Path, old: str, new: str, why: str
) -> None:
    (tmp_path / "a.toml").write_text(_ISSUE_TEXT)
    assert len(load_known_issues(tmp_path)) == 1
    assert old in _ISSUE_TEXT
    (tmp_path / "a.toml").write_text(_ISSUE_TEXT.replace(old, new))
    with pytest.raises(UserError, match=why):
        load_known_issues(tmp_path)


def test_the_waivers_and_issues_that_come_with_the_harness_are_sound() -> None:
    load_waivers(data_root() / "configs" / "waivers")
    load_known_issues(data_root() / "configs" / "known")


# -- what happened to the run --------------------------------------------------------------------


def _with(comparisons: list[Comparison], **facts: object) -> list[Comparison]:
    return [dataclasses.replace(item, **facts) for item in comparisons]  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", list(Ending))
def test_a_death_that_no_case_answers_for_is_never_accepted(ending: Ending) -> None:
    dead = (Incident(ending=ending, during="poweroff", what="x"),)
    verdict = judged(both(_GOOD, incidents=dead)).verdict
    assert (verdict is Verdict.ACCEPT) is (ending is Ending.COMPLETED)


def test_a_death_that_a_case_answers_for_is_told_once() -> None:
    dead = (Incident(ending=Ending.PANICKED, during=_A, what="x"),)
    found = judged(both({**_GOOD, _A: attempts("K", signature="k1:a")}, incidents=dead))
    assert rules_of(found, Weight.BLOCKS) == {"crash"}


def test_a_panic_during_a_case_that_says_it_passed_blocks() -> None:
    dead = (Incident(ending=Ending.PANICKED, during=_A, what="x"),)
    assert rules_of(judged(both(_GOOD, incidents=dead)), Weight.BLOCKS) == {"guest_death"}


def test_a_kernel_that_does_not_boot_is_rejected() -> None:
    dead = (Incident(ending=Ending.NEVER_BOOTED, during="boot", what="no root"),)
    lost = dict.fromkeys(_GOOD, "L")
    found = judged(both(lost, incidents=dead, complete=False))
    assert found.verdict is Verdict.REJECT
    assert found.findings[0].rule == "boot"


def test_a_guest_that_never_started_says_nothing_of_the_kernel() -> None:
    dead = (Incident(ending=Ending.NEVER_STARTED, during="boot", what="no QEMU"),)
    lost = dict.fromkeys(_GOOD, "L")
    assert judged(both(lost, incidents=dead, complete=False)).verdict is Verdict.INCONCLUSIVE


def _splat(kind: str, signature: str = "k1:a", during: str = _A) -> Splat:
    return Splat(kind=kind, title=f"{kind} in f", signature=signature, during=during)


def test_a_new_complaint_of_the_kernel_blocks_although_each_case_passes() -> None:
    found = judged(both(_GOOD, splats=(_splat("warn"),)))
    assert rules_of(found, Weight.BLOCKS) == {"new_splat"}


def test_a_stall_under_emulation_cannot_be_told() -> None:
    assert judged(both(_GOOD, splats=(_splat("rcu_stall"),))).verdict is Verdict.INCONCLUSIVE
    kvm = [
        dataclasses.replace(item, accel=AccelKind.KVM)
        for item in both(_GOOD, splats=(_splat("rcu_stall"),))
    ]
    assert judged(kvm).verdict is Verdict.REJECT


def test_a_complaint_may_be_a_known_issue() -> None:
    issue = _issue(effect="ignore_splat", case="", text="warn in f")
    assert judged(both(_GOOD, splats=(_splat("warn"),)), known=[issue]).verdict is Verdict.ACCEPT
    assert judged(both(_GOOD, splats=(_splat("oops"),)), known=[issue]).verdict is Verdict.REJECT


def test_a_capability_that_a_baseline_has_and_the_candidate_not_blocks_once() -> None:
    lost = (("tramp.kernel", "5.12"), ("tramp.kernel", "stream9"))
    found = judged(_with(both(_GOOD), lost_capabilities=lost))
    blocking = [item for item in found.findings if item.rule == "capability_lost"]
    assert len(blocking) == 2  # one an architecture
    assert "5.12 and stream9" in blocking[0].what


def test_many_removed_tests_cannot_be_told() -> None:
    many = {f"bpf/test_progs/t{n}": "PPPPP" for n in range(10)}
    assert judged(both(_GOOD, {**_BASE, **many})).verdict is Verdict.INCONCLUSIVE


# -- policies ------------------------------------------------------------------------------------


def test_each_policy_weighs_each_kind_of_change() -> None:
    for path in _POLICIES.glob("*.toml"):
        policy = load_policy(_POLICIES, path.stem, default_families())
        assert policy.name == path.stem


def _policy_text() -> str:
    return (_POLICIES / "release.toml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('kinds = ["lost"]', 'kinds = ["no_data"]', "no rule for every change of kind lost"),
        ('kinds = ["lost"]', 'kinds = ["lost"]\narches = ["x86_64"]', "kind lost"),
        ('arches = ["x86_64", "aarch64"]', "arches = []", "must not be empty"),
        ('role = "5.12"', 'role = "5.13"', "no such role"),
        ('name = "release"', 'nam = "release"', "nam"),
        ('weight = "blocks"', 'weight = "maybe"', "maybe"),
        ('name = "new_splat"', 'name = "slow_emulation"', "of one name"),
        ('"rcu_stall"', '"rcu_stahl"', "no such kind of complaint"),
        ('name = "new_splat"\nweight = "blocks"',
         'name = "new_splat"\nweight = "blocks"\naccels = ["kvm"]', "every kind of complaint"),
    ],
)  # fmt: skip
def test_a_policy_that_leaves_something_unweighed_is_refused(
    tmp_path: Path, old: str, new: str, why: str
) -> None:
    assert old in _policy_text()
    (tmp_path / "p.toml").write_text(_policy_text().replace(old, new))
    with pytest.raises(UserError, match=why):
        load_policy(tmp_path, "p", default_families())


def test_a_policy_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(UserError, match="no such policy") as caught:
        load_policy(_POLICIES, "relase")
    assert "release" in caught.value.hint


def test_every_kind_is_weighed_by_some_rule_of_the_release_policy() -> None:
    assert {kind for rule in _POLICY.rule for kind in rule.kinds} == set(ChangeKind)


def test_findings_say_what_they_rest_on() -> None:
    found = judged(both({**_GOOD, _A: "F"}))
    assert all(item.what and item.rule for item in found.findings)
    assert found.findings[0].what.startswith("2 cases fail that pass")
