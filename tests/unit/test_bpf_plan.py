"""A plan promises each case that the selftests hold exactly once: run, denied or not built."""

from collections import Counter
from pathlib import Path

import pytest

from harness.host.config import parse_toml
from harness.model.arch import Arch
from harness.model.case import CaseId
from harness.model.errors import UserError
from harness.model.kernel import NotBuilt, RunnerListing, SelftestsArtifact
from harness.model.plan import Plan
from harness.suites.bpf.plan import plan_bpf
from harness.suites.bpf.settings import BpfSettings, load_bpf_settings
from harness.suites.denials import load_denials

PROGS = (
    "align",
    "atomics",
    "fexit_sleep",
    "ringbuf",
    "ringbuf_multi",
    "test_ima",
    "verif_scale1",
    "verif_scale_loop1",
)
VERIFIER = ("add+sub+mul", "jump/call test 9", "calls", "calls")


def artifact(not_built: tuple[NotBuilt, ...] = ()) -> SelftestsArtifact:
    return SelftestsArtifact(
        arch=Arch.AARCH64,
        root=Path("/nowhere"),
        runners=(
            RunnerListing(program="test_progs", tests=PROGS),
            RunnerListing(program="test_verifier", tests=VERIFIER),
            RunnerListing(program="test_maps", tests=()),
        ),
        not_built=not_built,
        source_sha256="",
        source_name="",
        source_hashes=(),
        compiler="",
    )


def running(plan: Plan) -> list[str]:
    return [str(case.case) for batch in plan.batches for case in batch.cases]


def test_quick_leaves_the_scale_family_out_and_says_so() -> None:
    plan = plan_bpf(artifact(), denials=())
    assert plan.profile == "quick"
    assert [str(denial.case) for denial in plan.denied] == [
        "bpf/test_maps",
        "bpf/test_progs/verif_scale1",
        "bpf/test_progs/verif_scale_loop1",
    ]
    assert all("--profile full" in denial.reason for denial in plan.denied)
    assert all("quick" in denial.source for denial in plan.denied)
    assert not any("verif_scale" in case for case in running(plan))
    assert not any(batch.own_vm for batch in plan.batches)


def test_what_a_pattern_names_is_run_in_each_profile() -> None:
    plan = plan_bpf(artifact(), profile="quick", patterns=("verif_scale_loop1",), denials=())
    assert running(plan) == ["bpf/test_progs/verif_scale_loop1"]
    assert not plan.denied


def test_full_runs_everything_the_scale_family_in_a_guest_of_its_own() -> None:
    plan = plan_bpf(artifact(), profile="full", denials=())
    assert not plan.denied
    own = [batch for batch in plan.batches if batch.own_vm]
    assert [[case.case.path[1] for case in batch.cases] for batch in own] == [
        ["verif_scale1", "verif_scale_loop1"],
        ["test_ima"],
    ]
    budgets = {case.budget_s for case in own[0].cases}
    assert budgets == {900.0}
    assert plan.batches[-2:] == tuple(own), "the common guest comes first"


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_each_promised_case_is_in_the_plan_once(profile: str) -> None:
    plan = plan_bpf(artifact(), profile=profile, denials=())
    counts = Counter(running(plan) + [str(denial.case) for denial in plan.denied])
    assert set(counts.values()) == {1}
    assert len(counts) == len(PROGS) + len(VERIFIER) + 1


def test_selectors_are_the_numbers_that_each_program_counts_by() -> None:
    cases = {
        str(case.case): case.selector
        for batch in plan_bpf(artifact(), profile="full", denials=()).batches
        for case in batch.cases
    }
    assert cases["bpf/test_progs/align"] == "1"
    assert cases["bpf/test_progs/verif_scale_loop1"] == "8"
    assert cases["bpf/test_verifier/add+sub+mul"] == "0"
    assert cases["bpf/test_verifier/calls"] == "2"
    assert cases["bpf/test_verifier/calls #2"] == "3"
    assert cases["bpf/test_maps"] == ""


def test_every_planned_case_survives_being_written_and_read() -> None:
    for text in running(plan_bpf(artifact(), profile="full", denials=())):
        assert len(CaseId.parse(text).path) <= 2


def test_case_that_may_hang_for_ever_gets_a_small_budget_and_no_denial() -> None:
    (case,) = plan_bpf(artifact(), patterns=("fexit_sleep",), denials=()).batches[0].cases
    assert case.budget_s < 60


@pytest.mark.parametrize(
    ("pattern", "cases"),
    [
        ("ringbuf", ["bpf/test_progs/ringbuf", "bpf/test_progs/ringbuf_multi"]),
        ("bpf/test_progs/ringbuf", ["bpf/test_progs/ringbuf"]),
        ("test_progs/ringbuf*", ["bpf/test_progs/ringbuf", "bpf/test_progs/ringbuf_multi"]),
        ("?lign", ["bpf/test_progs/align"]),
        ("bpf/test_progs/atomics/add", ["bpf/test_progs/atomics"]),
        ("jump|call", ["bpf/test_verifier/jump|call test 9"]),
        ("test_maps", ["bpf/test_maps"]),
    ],
)
def test_patterns_pick_cases(pattern: str, cases: list[str]) -> None:
    assert running(plan_bpf(artifact(), patterns=(pattern,), denials=())) == cases


def test_pattern_that_matches_nothing_is_the_users_mistake_and_names_what_is_near() -> None:
    with pytest.raises(UserError) as raised:
        plan_bpf(artifact(), patterns=("rinbguf",), denials=())
    assert "ringbuf" in raised.value.hint


def test_programs_narrow_the_plan_down() -> None:
    plan = plan_bpf(artifact(), programs=("test_maps",), denials=())
    assert running(plan) == ["bpf/test_maps"]
    assert not plan.denied
    with pytest.raises(UserError, match="test_lpm_map"):
        plan_bpf(artifact(), programs=("test_lpm_map",), denials=())
    with pytest.raises(UserError, match="slow"):
        plan_bpf(artifact(), profile="slow", denials=())


def lost(*path: str) -> NotBuilt:
    return NotBuilt(
        case_path=path, object_name="progs/x.c", stage="bpf object", error="error: no member"
    )


def test_what_was_not_built_is_promised_all_the_same() -> None:
    entries = (lost("test_progs", "bpf_cubic"), lost("test_progs", "bpf_cubic"))
    plan = plan_bpf(artifact(entries), denials=())
    ((case, error),) = plan.not_built
    assert str(case) == "bpf/test_progs/bpf_cubic"
    assert error == "progs/x.c (bpf object): error: no member"
    assert plan_bpf(artifact(entries), patterns=("bpf_cubic",), denials=()).not_built


def test_test_that_lost_an_object_and_can_run_is_run() -> None:
    plan = plan_bpf(artifact((lost("test_progs", "align"),)), denials=())
    assert not plan.not_built
    assert "bpf/test_progs/align" in running(plan)


def test_denial_keeps_its_reason_and_the_file_it_came_from(tmp_path: Path) -> None:
    (tmp_path / "hurts.toml").write_text(
        '[[denial]]\ncases = ["bpf/test_progs/ring*"]\narch = ["aarch64"]\nreason = "hurts"\n'
    )
    rules = load_denials(tmp_path)
    plan = plan_bpf(artifact(), patterns=("ringbuf",), denials=rules)
    assert {(str(each.case), each.reason, each.source) for each in plan.denied} == {
        ("bpf/test_progs/ringbuf", "hurts", "hurts.toml"),
        ("bpf/test_progs/ringbuf_multi", "hurts", "hurts.toml"),
    }
    assert not plan.batches


@pytest.mark.parametrize(
    "text",
    [
        '[[denial]]\ncase = "x"\nreason = "y"\n',
        '[[denial]]\ncases = ["x"]\nreason = " "\n',
        '[[denial]]\ncases = ["x"]\nreason = "y"\narch = ["arm64"]\n',
    ],
)
def test_denial_that_does_not_fit_is_the_users_mistake(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(UserError, match=r"bad\.toml"):
        load_denials(tmp_path)


def test_our_own_files_are_sound() -> None:
    settings = load_bpf_settings()
    assert set(settings.profile) >= {"quick", "full"}
    assert load_denials() == ()
    patterns = [pattern for entry in settings.budget for pattern in entry.cases]
    assert len(set(patterns)) == len(patterns), "only the first of two budgets would count"


def test_unknown_key_of_the_settings_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="budgets"):
        parse_toml('default_profile = "a"\nbudgets = 1\nprogram = []\n', BpfSettings, "bpf.toml")
