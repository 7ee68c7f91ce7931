"""Only a record that can carry a comparison becomes a baseline."""

from pathlib import Path

import pytest

from harness.model.arch import AccelKind, Arch
from harness.model.errors import UserError
from harness.model.record import RunRecord
from harness.store.baselines import list_baselines, load_baseline, promote
from harness.store.records import read_record, write_record
from tests.unit.store_samples import record

_CASES = {"bpf/test_progs/a": "PPPPP"}


def _stored(folder: Path, stored: RunRecord) -> Path:
    path = folder / f"{stored.run_id}.json"
    write_record(path, stored)
    return path


def _load(root: Path, role: str = "5.12", profile: str = "full") -> RunRecord | None:
    return load_baseline(role, Arch.AARCH64, "bpf", profile, AccelKind.TCG, root)


def test_a_role_without_a_record_is_normal(tmp_path: Path) -> None:
    assert _load(tmp_path) is None
    assert list_baselines(tmp_path) == ()


def test_a_promoted_record_is_found_by_its_cell(tmp_path: Path) -> None:
    path = _stored(tmp_path, record(_CASES, role="5.12", repetitions=5))
    done = promote([path], "5.12", tmp_path / "b")
    assert done.path == tmp_path / "b" / "5.12" / "aarch64" / "bpf-tcg.json"
    assert done.replaced is None
    assert _load(tmp_path / "b") == read_record(path)
    assert load_baseline(
        "5.12", Arch.X86_64, "bpf", "full", AccelKind.TCG, tmp_path / "b"
    ) is None  # fmt: skip
    assert promote([path], "5.12", tmp_path / "b").replaced == done.record


def test_single_runs_are_merged_into_a_baseline(tmp_path: Path) -> None:
    paths = [
        _stored(tmp_path, record({"bpf/p/a": "P"}, role="stream9", run_id=f"run-{n}"))
        for n in range(5)
    ]
    assert promote(paths, "stream9", tmp_path / "b").record.repetitions == 5


def test_another_profile_falls_back_to_the_full_one(tmp_path: Path) -> None:
    full = _stored(tmp_path, record(_CASES, role="5.12", repetitions=5))
    promote([full], "5.12", tmp_path / "b")
    assert _load(tmp_path / "b", profile="quick") == read_record(full)
    quick = record(_CASES, role="5.12", repetitions=5, profile="quick", run_id="q")
    promote([_stored(tmp_path, quick)], "5.12", tmp_path / "b")
    assert _load(tmp_path / "b", profile="quick") == quick
    assert len(list_baselines(tmp_path / "b")) == 2


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (record(_CASES, role="5.12", repetitions=5, complete=False), "not complete"),
        (record(_CASES, role="5.12", repetitions=4), "4 repetition"),
        (record({}, role="5.12", repetitions=5), "not one case passed"),
        (record({"bpf/p/a": "SSSSS"}, role="5.12", repetitions=5), "not one case passed"),
        (record(_CASES, repetitions=5), "as a candidate"),
        (record(_CASES, role="5.12", repetitions=5, selection=("a",)), "only a part"),
        (record(_CASES, role="stream9", repetitions=5), "stream9 baseline"),
    ],
)
def test_a_record_that_cannot_carry_a_comparison_is_refused(
    tmp_path: Path, bad: RunRecord, why: str
) -> None:
    with pytest.raises(UserError, match=why):
        promote([_stored(tmp_path, bad)], "5.12", tmp_path / "b")
    assert list_baselines(tmp_path / "b") == ()


def test_a_person_may_say_otherwise(tmp_path: Path) -> None:
    path = _stored(tmp_path, record({"bpf/p/a": "P"}))
    done = promote([path], "5.12", tmp_path / "b", min_repetitions=1, allow_candidate=True)
    assert done.record.role == "5.12"


def test_an_unknown_role_is_refused(tmp_path: Path) -> None:
    path = _stored(tmp_path, record(_CASES, role="5.13", repetitions=5))
    with pytest.raises(UserError, match=r"5\.13"):
        promote([path], "5.13", tmp_path / "b", allow_candidate=True)


def test_a_damaged_record_is_not_promoted_and_a_damaged_baseline_is_not_missing(
    tmp_path: Path,
) -> None:
    path = _stored(tmp_path, record(_CASES, role="5.12", repetitions=5))
    done = promote([path], "5.12", tmp_path / "b")
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match="damaged"):
        promote([path], "5.12", tmp_path / "b")
    done.path.write_text(done.path.read_text()[:100])
    with pytest.raises(UserError, match="damaged"):
        _load(tmp_path / "b")
    (entry,) = list_baselines(tmp_path / "b")
    assert entry.record is None
    assert "damaged" in entry.problem


def test_a_record_in_the_wrong_place_is_not_taken(tmp_path: Path) -> None:
    path = _stored(tmp_path, record(_CASES, role="5.12", repetitions=5))
    done = promote([path], "5.12", tmp_path / "b")
    wrong = tmp_path / "b" / "stream9" / "aarch64" / "bpf-tcg.json"
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(done.path.read_bytes())
    with pytest.raises(UserError, match=r"5\.12"):
        _load(tmp_path / "b", role="stream9")
