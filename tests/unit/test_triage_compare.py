"""Two records beside a candidate: each case gets its row, and what is missing is never a basis."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.host.config import data_root
from harness.model.arch import AccelKind, Arch
from harness.model.case import Attempt, CaseId
from harness.model.change import Change, ChangeKind, Comparison, Standing
from harness.model.errors import UserError
from harness.model.record import Ending, Incident, RunRecord, Splat
from harness.suites.base import UNSURE_OK
from harness.triage.across import tag_across
from harness.triage.cause import NO_CAUSES, load_causes
from harness.triage.compare import Rules, compare_records
from harness.triage.renames import Renames, load_renames
from tests.unit.store_samples import attempts, record, world

_A = "bpf/test_progs/a"
_S1, _S2 = f"{_A}/one", f"{_A}/two"
_OLD = world(selftests_sha256="o" * 64, kernel_sha256="o" * 64)


def _base(cases: dict[str, str | tuple[Attempt, ...]], **facts: object) -> RunRecord:
    return record(cases, **{"world": _OLD, "repetitions": 5, "role": "5.12", **facts})  # type: ignore[arg-type]


def _one(comparison: Comparison, case: str = _A) -> Change:
    (found,) = [change for change in comparison.changes if str(change.case) == case]
    return found


def test_each_case_of_all_three_has_exactly_one_change() -> None:
    candidate = record({_A: "P", "bpf/test_progs/new": "F"})
    comparison = compare_records(
        candidate, _base({_A: "PPPPP", "bpf/test_progs/x": "P"}), _base({"bpf/test_progs/y": "F"})
    )
    names = [str(change.case) for change in comparison.changes]
    assert names == sorted({_A, *(f"bpf/test_progs/{n}" for n in ("new", "x", "y"))})


def test_a_regression_is_told_with_all_marks() -> None:
    change = _one(compare_records(record({_A: "FF"}), _base({_A: "PPPPP"}), _base({_A: "PPPPF"})))
    assert change.kind is ChangeKind.REGRESSION
    assert (change.candidate.marks, change.base_512.marks, change.base_s9.marks) == (
        "FF",
        "PPPPP",
        "PPPPF",
    )
    assert "5.12 passes (PPPPP)" in change.explanation


def test_without_any_baseline_no_failure_is_known_and_no_pass_is_fixed() -> None:
    cases = {f"bpf/test_progs/{mark}": mark for mark in "PFKTSLDN"}
    comparison = compare_records(record(cases), None, None)
    assert comparison.missing_baselines == ("5.12", "stream9")
    kinds = {change.case.path[1]: change.kind for change in comparison.changes}
    assert kinds == {
        "P": ChangeKind.NEW_PASS,
        "F": ChangeKind.NO_BASIS,
        "K": ChangeKind.NO_BASIS,
        "T": ChangeKind.NO_BASIS,
        "N": ChangeKind.NO_BASIS,
        "S": ChangeKind.SKIP,
        "L": ChangeKind.NO_DATA,
        "D": ChangeKind.DENIED,
    }
    assert all("no_baseline" in change.tags for change in comparison.changes)


def test_one_missing_baseline_is_no_data_and_not_a_missing_test() -> None:
    comparison = compare_records(record({_A: "F"}), _base({}), None)
    assert _one(comparison).kind is ChangeKind.NO_BASIS
    assert comparison.missing_baselines == ("stream9",)
    assert comparison.baseline_repetitions == (("5.12", 5),)


@pytest.mark.parametrize(
    ("base", "why"),
    [
        (_base({}, world=world(accel=AccelKind.KVM)), "accelerator: tcg here, kvm in the 5.12"),
        (_base({}, world=world(arch=Arch.X86_64)), "architecture"),
        (_base({}, suite="btrfs"), "suite"),
        (_base({_A: "P"}, complete=False), "not complete"),
    ],
)
def test_records_of_another_kind_are_refused(base: RunRecord, why: str) -> None:
    comparison = compare_records(record({_A: "P"}), base, None)
    assert why in comparison.refused
    assert comparison.changes == ()


def test_a_record_with_a_case_twice_is_refused() -> None:
    twice = record({_A: "F"})
    forged = dataclasses.replace(twice, cases=twice.cases + record({_A: "P"}).cases)
    assert "twice in the candidate" in compare_records(forged, None, None).refused


def test_differences_of_the_world_are_named() -> None:
    base = _base({}, world=world(qemu_version="9.1", cpus=4))
    comparison = compare_records(record({}), base, None)
    assert comparison.world_differences == (
        ("qemu_version", "7.2.22", "9.1", ""),
        ("cpus", "2", "4", ""),
    )


def test_the_same_failure_of_stream_9_is_inherited_and_another_is_ours() -> None:
    ours = record({_A: attempts("F", signature="c1:a")})
    good = _base({_A: "PPPPP"})
    same = _base({_A: attempts("FFFFF", signature="c1:a")})
    other = _base({_A: attempts("FFFFF", signature="c1:b")})
    assert _one(compare_records(ours, good, same)).kind is ChangeKind.INHERITED_S9
    assert _one(compare_records(ours, good, other)).kind is ChangeKind.REGRESSION_VS_512


def test_a_crash_carries_its_tag_and_is_known_only_by_its_splat() -> None:
    ours = record({_A: attempts("K", signature="k1:a")})
    change = _one(compare_records(ours, _base({_A: attempts("KKKKK", signature="k1:a")}), None))
    assert set(change.tags) >= {"crash", "crash_known"}
    change = _one(compare_records(ours, _base({_A: attempts("KKKKK", signature="k1:b")}), None))
    assert "crash" in change.tags
    assert "crash_known" not in change.tags
    damaged = record({_A: attempts("K", signature="kx:a")})
    change = _one(compare_records(damaged, _base({_A: attempts("KKKKK", signature="kx:a")}), None))
    assert "crash_known" not in change.tags


def test_a_timeout_is_unconfirmed_until_it_repeats_in_a_fresh_guest() -> None:
    base = _base({_A: "PPPPP"})
    once = _one(compare_records(record({_A: "T"}), base, None))
    assert set(once.tags) >= {"timeout", "unconfirmed"}
    again = record({_A: attempts("T") + attempts("T", fresh_vm=True)})
    twice = _one(compare_records(again, base, None))
    assert "timeout" in twice.tags
    assert "unconfirmed" not in twice.tags


def test_what_was_not_built_is_a_regression_when_a_baseline_passes() -> None:
    ours = record({_A: attempts("N", signature="c1:x")})
    change = _one(compare_records(ours, _base({_A: "PPPPP"}), _base({_A: "NNNNN"})))
    assert change.kind is ChangeKind.INHERITED_S9
    change = _one(compare_records(ours, _base({_A: "PPPPP"}), _base({_A: "PPPPP"})))
    assert change.kind is ChangeKind.REGRESSION
    assert "not_built" in change.tags
    change = _one(compare_records(ours, None, _base({_A: "NNNNN"})))
    assert change.kind is ChangeKind.KNOWN_BASELINE_FAILURE


def test_a_failure_of_what_no_baseline_could_build_is_exposed() -> None:
    change = _one(compare_records(record({_A: "F"}), _base({_A: "N"}), _base({_A: "N"})))
    assert change.kind is ChangeKind.EXPOSED_FAILURE


def test_an_ok_that_may_be_a_skip_is_marked() -> None:
    ours = record({_A: attempts("P", raw=UNSURE_OK)})
    change = _one(compare_records(ours, _base({_A: "PPPPP"}), None))
    assert (change.kind, "ok_or_skip" in change.tags) == (ChangeKind.PASS, True)
    change = _one(compare_records(ours, _base({_A: "FFFFF"}), None))
    assert change.kind is ChangeKind.COVERAGE_CHANGED
    unsure = _base({_A: attempts("PPPPP", raw=UNSURE_OK)})
    change = _one(compare_records(record({_A: "F"}), unsure, unsure))
    assert change.kind is ChangeKind.REGRESSION
    assert "basis_unsure" in change.tags


def test_a_case_that_is_gone_with_other_sources_was_removed() -> None:
    change = _one(compare_records(record({}), _base({_A: "PPPPP"}), None))
    assert change.kind is ChangeKind.TEST_REMOVED


def test_a_case_that_is_gone_with_the_same_sources_is_lost() -> None:
    same = _base({_A: "PPPPP"}, world=world())
    change = _one(compare_records(record({"bpf/test_progs/b": "P"}), same, None))
    assert change.kind is ChangeKind.LOST


def test_a_case_that_is_gone_although_its_sources_are_there_is_lost() -> None:
    ours = record({"bpf/test_progs/b": "P"}, test_hashes={_A: "1"})
    change = _one(compare_records(ours, _base({_A: "PPPPP"}), None))
    assert (change.kind, change.tags) == (ChangeKind.LOST, ("precluded", "single_basis"))


def test_a_lost_case_is_no_data_when_the_run_was_stopped_or_the_rig_failed() -> None:
    base = _base({_A: "PPPPP"})
    assert _one(compare_records(record({_A: "L"}), base, None)).kind is ChangeKind.LOST
    stopped = record({_A: "L"}, complete=False)
    assert _one(compare_records(stopped, base, None)).kind is ChangeKind.NO_DATA
    died = Incident(ending=Ending.QEMU_DIED, during=_A, what="killed")
    rig = record({_A: "L"}, incidents=(died,))
    assert _one(compare_records(rig, base, None)).kind is ChangeKind.NO_DATA


# -- profiles ------------------------------------------------------------------------------------


def test_cases_outside_of_the_candidates_profile_are_no_changes() -> None:
    quick = record({_A: "P"}, profile="quick")
    comparison = compare_records(quick, _base({_A: "PPPPP", "bpf/test_progs/slow": "PPPPP"}), None)
    assert [str(change.case) for change in comparison.changes] == [_A]


def test_a_case_that_the_candidate_lists_is_missed_whatever_the_baselines_profile() -> None:
    hashes = {"bpf/test_progs/gone": "1"}
    quick = record({_A: "P"}, profile="quick", test_hashes=hashes)
    base = _base({_A: "PPPPP", "bpf/test_progs/gone": "PPPPP"})
    assert _one(compare_records(quick, base, None), "bpf/test_progs/gone").kind is ChangeKind.LOST


@pytest.mark.parametrize("profile", ["full", "quick"])
def test_of_a_narrowed_run_only_what_was_picked_is_compared(profile: str) -> None:
    hashes = {_A: "1", "bpf/test_progs/b": "1"}
    narrow = record({_A: "P"}, profile=profile, selection=("a",), test_hashes=hashes)
    base = _base({_A: "PPPPP", _S1: "PPPPP", "bpf/test_progs/b": "PPPPP"}, world=world())
    comparison = compare_records(narrow, base, None)
    assert [str(change.case) for change in comparison.changes] == [_A, _S1]
    assert comparison.profile == f"{profile} (a only)"


def test_a_case_that_a_smaller_baseline_left_out_has_no_basis() -> None:
    base = _base({"bpf/test_progs/b": "PPPPP"}, profile="quick")
    assert _one(compare_records(record({_A: "F"}), base, base)).kind is ChangeKind.NO_BASIS


# -- tests and their subtests --------------------------------------------------------------------


def test_a_failing_subtest_is_told_once() -> None:
    candidate = record({_A: "F", _S1: "P", _S2: "F"})
    base = _base({_A: "PPPPP", _S1: "PPPPP", _S2: "PPPPP"})
    comparison = compare_records(candidate, base, base)
    assert _one(comparison, _S2).kind is ChangeKind.REGRESSION
    parent = _one(comparison)
    assert parent.kind is ChangeKind.PASS
    assert "by_subtests" in parent.tags


def test_a_failure_of_the_test_itself_is_not_hidden_by_its_subtests() -> None:
    candidate = record({_A: "F", _S1: "P", _S2: "P"})
    base = _base({_A: "PPPPP", _S1: "PPPPP", _S2: "PPPPP"})
    assert _one(compare_records(candidate, base, base)).kind is ChangeKind.REGRESSION


def test_a_failing_subtest_that_a_baseline_ran_as_a_whole_fails_the_whole() -> None:
    candidate = record({_A: "F", _S1: "F"})
    whole = _base({_A: "PPPPP"})
    comparison = compare_records(candidate, whole, whole)
    assert _one(comparison).kind is ChangeKind.REGRESSION


def test_an_attempt_that_no_subtest_explains_is_not_hidden() -> None:
    candidate = record({_A: "FF", _S1: "PF"})
    base = _base({_A: "PPPPP", _S1: "PPPPP"})
    assert _one(compare_records(candidate, base, base)).kind is ChangeKind.REGRESSION


def test_a_crash_of_the_test_is_never_hidden() -> None:
    candidate = record({_A: "K", _S1: "F"})
    base = _base({_A: "PPPPP", _S1: "PPPPP"})
    assert _one(compare_records(candidate, base, base)).kind is ChangeKind.REGRESSION


@pytest.mark.parametrize(
    ("parent", "kind"),
    [
        ("F", ChangeKind.NO_DATA),
        ("K", ChangeKind.NO_DATA),
        ("S", ChangeKind.COVERAGE_LOST),
        ("D", ChangeKind.DENIED),
        ("N", ChangeKind.REGRESSION),
        ("L", ChangeKind.LOST),
        ("P", ChangeKind.TEST_REMOVED),
    ],
)
def test_a_subtest_that_did_not_show_has_its_tests_fate(parent: str, kind: ChangeKind) -> None:
    base = _base({_A: "PPPPP", _S1: "PPPPP"})
    assert _one(compare_records(record({_A: parent}), base, base), _S1).kind is kind


# -- names, hashes, causes -----------------------------------------------------------------------


def _renames() -> Renames:
    return load_renames(data_root() / "configs" / "renames")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("test_progs/bpf_verif_scale/loop1.o", "test_progs/verif_scale_loop1"),
        ("test_progs/bpf_verif_scale/loop3.o", "test_progs/verif_scale_loop3_fail"),
        ("test_progs/bpf_verif_scale/pyperf50.bpf.o", "test_progs/verif_scale_pyperf50"),
        ("test_progs/test_global_funcs/test_global_func1.o",
         "test_progs/test_global_funcs/test_global_func1"),
        ("test_netcnt", "test_progs/netcnt"),
    ],
)  # fmt: skip
def test_a_case_is_found_under_its_old_name(old: str, new: str) -> None:
    candidate = record({f"bpf/{new}": "F"})
    comparison = compare_records(
        candidate, _base({f"bpf/{old}": "PPPPP"}), None, Rules(renames=_renames())
    )
    (change,) = comparison.changes
    assert (str(change.case), change.kind) == (f"bpf/{new}", ChangeKind.REGRESSION_VS_512)


def test_two_cases_that_would_share_a_name_keep_apart() -> None:
    both = {"bpf/test_progs/t/x.o": "P", "bpf/test_progs/t/x": "F", "bpf/test_progs/t": "F"}
    comparison = compare_records(record(both), None, None, Rules(renames=_renames()))
    assert len(comparison.changes) == 3


@pytest.mark.parametrize(
    ("old", "new"), [("(", "a/b"), ("a/(?P<x>.)", r"a/\g<y>"), ("a/b", "a"), ("a/(.)", r"a/\1")]
)
def test_a_wrong_renaming_is_the_persons_mistake(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "x.toml").write_text(f"[[rename]]\nold = '{old}'\nnew = '{new}'\nreason = 'x'\n")
    with pytest.raises(UserError):
        load_renames(tmp_path)


def test_a_test_that_differs_between_the_kernels_is_marked() -> None:
    candidate = record({_A: "F", _S1: "F"}, test_hashes={_A: "1"})
    base = _base({_A: "PPPPP", _S1: "PPPPP"}, test_hashes={_A: "2"})
    comparison = compare_records(candidate, base, None)
    assert "test_changed" in _one(comparison).tags
    assert "test_changed" in _one(comparison, _S1).tags
    same = _base({_A: "PPPPP"}, test_hashes={_A: "1"})
    assert "test_changed" not in _one(compare_records(candidate, same, None)).tags


def test_a_failure_has_its_cause_and_a_skip_for_the_machine_its_own_row() -> None:
    causes = load_causes(data_root() / "configs" / "causes")
    detail = "fentry_test:FAIL:fentry_attach unexpected error: -524 (errno 524)"
    candidate = record(
        {
            _A: attempts("F", detail=detail),
            "bpf/test_progs/pmu": attempts("S", detail="x:SKIP:no PERF_COUNT_HW_CPU_CYCLES"),
            "bpf/test_progs/odd": attempts("F", detail="strange"),
        }
    )
    base = _base({_A: "PPPPP", "bpf/test_progs/pmu": "PPPPP"})
    comparison = compare_records(candidate, base, None, Rules(causes=causes))
    assert _one(comparison).cause == "tramp_unsupported"
    skipped = _one(comparison, "bpf/test_progs/pmu")
    assert (skipped.kind, skipped.cause) == (ChangeKind.ENV_SKIP, "pmu_absent")
    assert _one(comparison, "bpf/test_progs/odd").cause == "unexplained"


def test_a_known_issue_that_expects_a_failure_makes_a_pass_remarkable() -> None:
    rules = Rules(expects_failure=lambda case, _arch: str(case) == _A)
    base = _base({_A: "PPPPP"})
    assert _one(compare_records(record({_A: "P"}), base, None, rules)).kind is ChangeKind.XPASS


def test_a_complaint_of_the_kernel_is_new_unless_a_baseline_has_it_whole() -> None:
    def splat(signature: str, *, is_whole: bool = True) -> Splat:
        return Splat(
            kind="warn", title="WARNING in f", signature=signature, during="x", is_whole=is_whole
        )

    ours = record({_A: "P"}, splats=(splat("k1:a"), splat("k1:b"), splat("kx:c", is_whole=False)))
    theirs = _base({_A: "P"}, splats=(splat("k1:a"), splat("kx:c", is_whole=False)))
    found = compare_records(ours, theirs, None).splats
    assert [(change.in_512, change.in_s9) for change in found] == [
        (True, False),
        (False, False),
        (False, False),
    ]


# -- architectures side by side ------------------------------------------------------------------


def test_a_failure_of_one_architecture_alone_is_marked() -> None:
    arm = compare_records(record({_A: "F"}), None, None)
    x86 = compare_records(record({_A: "P"}, world=world(arch=Arch.X86_64)), None, None)
    marked_arm, marked_x86 = tag_across([arm, x86], NO_CAUSES)
    assert "arch_only" in _one(marked_arm).tags
    assert "arch_only" not in _one(marked_x86).tags


def test_a_timeout_under_emulation_is_suspect() -> None:
    slow = compare_records(record({_A: "T"}), None, None)
    assert "accel_suspect" in _one(tag_across([slow], NO_CAUSES)[0]).tags
    fast = compare_records(record({_A: "T"}, world=world(accel=AccelKind.KVM)), None, None)
    assert "accel_suspect" not in _one(tag_across([fast], NO_CAUSES)[0]).tags


# -- anything at all -----------------------------------------------------------------------------

_CASES = st.dictionaries(
    st.sampled_from([_A, _S1, _S2, "bpf/test_progs/b", "bpf/test_maps", "bpf/test_progs/b/x.o"]),
    st.text("PxFTKLSDN", min_size=1, max_size=5),
)


@settings(max_examples=150)
@given(_CASES, st.none() | _CASES, st.none() | _CASES)
def test_any_three_records_are_compared_and_no_failure_is_called_fine(
    ours: dict[str, str], a: dict[str, str] | None, b: dict[str, str] | None
) -> None:
    comparison = compare_records(
        record(ours),
        None if a is None else _base(dict(a)),
        None if b is None else _base(dict(b)),
        Rules(renames=_renames()),
    )
    told = {change.case: change for change in comparison.changes}
    assert len(told) == len(comparison.changes)
    assert set(told) >= {CaseId.parse(text) for text in ours}
    fine = {ChangeKind.PASS, ChangeKind.FIXED, ChangeKind.NEW_PASS}
    for change in comparison.changes:
        if change.kind in fine and "by_subtests" not in change.tags:
            assert change.candidate.standing is Standing.PASS
