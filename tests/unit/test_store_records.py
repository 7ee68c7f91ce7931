"""Records are read back as they were written, and damage is never taken for a result."""

import dataclasses
import hashlib
import json
import multiprocessing
import resource
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.case import Attempt, CaseId, CaseRecord, LogSpan, Outcome
from harness.model.errors import RigError, UserError
from harness.model.record import Ending, Incident, Splat
from harness.store.records import (
    check_record,
    merge_records,
    parse_record,
    read_record,
    record_text,
    write_record,
)
from tests.unit.store_samples import attempts, record, world

_FULL = record(
    {
        "bpf/test_progs/a": "P",
        "bpf/test_progs/b": attempts(
            "F", raw="FAIL", detail="b: unexpected error: -524", signature="c1:1", duration_s=0.125
        ),
        "bpf/test_progs/b/sub with / slash": attempts(
            "K", log=LogSpan(log="x", begin_b=1, end_b=9)
        ),
    },
    incidents=(Incident(ending=Ending.PANICKED, during="bpf/test_progs/b", what="panic"),),
    splats=(
        Splat(
            kind="warn", title="WARNING in f", signature="k1:2", during="boot", frames=("f", "g")
        ),
    ),
    denied={"bpf/test_progs/z": "hangs"},
    test_hashes={"bpf/test_progs/a": "12"},
)


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "record.json"
    write_record(path, _FULL)
    assert read_record(path) == _FULL


def test_the_same_record_gives_the_same_bytes_whatever_its_order() -> None:
    turned = dataclasses.replace(_FULL, cases=tuple(reversed(_FULL.cases)))
    assert record_text(turned) == record_text(_FULL)


def test_each_case_has_a_line_of_its_own_and_a_plain_pass_is_short() -> None:
    lines = record_text(_FULL).splitlines()
    assert '  "bpf/test_progs/a": [{"outcome": "pass"}],' in lines
    assert sum(line.startswith('  "bpf/') for line in lines) == 5  # 3 cases, 1 denial, 1 hash


def test_durations_are_rounded_so_that_a_diff_shows_no_noise() -> None:
    long = record({"bpf/p/a": attempts("P", duration_s=0.1 + 0.2)})
    assert '"duration_s": 0.3,' in record_text(long)


def test_a_name_with_hostile_characters_stays_on_its_line(tmp_path: Path) -> None:
    name = "evil\u2028\u202e\x1b[2J\n\ud800"
    hostile = record({f"bpf/test_progs/{name}": attempts("F", detail=name)})
    text = record_text(hostile)
    assert text.isascii()
    assert len([line for line in text.splitlines() if "evil" in line]) == 1
    assert parse_record(text, "x") == hostile


@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda text: not text.startswith("/")),
        st.tuples(st.sampled_from(Outcome), st.text(), st.floats(0, 1e6) | st.none()),
        min_size=1,
        max_size=8,
    )
)
def test_any_names_and_details_survive(
    cases: dict[str, tuple[Outcome, str, float | None]],
) -> None:
    entries = {}
    for name, (outcome, detail, duration_s) in cases.items():
        rounded = None if duration_s is None else round(duration_s, 3)
        case = CaseId("bpf", ("prog", "test", name))
        entries[case] = Attempt(outcome=outcome, detail=detail, duration_s=rounded)
    given_record = dataclasses.replace(
        record({}),
        cases=tuple(CaseRecord(case=case, attempts=(entries[case],)) for case in sorted(entries)),
    )
    assert parse_record(record_text(given_record), "x") == given_record


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_record_is_damage_with_a_line(tmp_path: Path, share: float) -> None:
    text = record_text(_FULL)
    path = tmp_path / "record.json"
    path.write_text(text[: int(len(text) * share)])
    with pytest.raises(UserError, match=r"record\.json:\d+: damaged record"):
        read_record(path)


def test_a_dropped_line_is_damage_not_a_removed_test() -> None:
    lines = [line for line in record_text(_FULL).splitlines() if "test_progs/a" not in line]
    with pytest.raises(UserError, match="checksum"):
        parse_record("\n".join(lines), "x")


def test_a_changed_word_is_damage_not_a_pass() -> None:
    with pytest.raises(UserError, match="checksum"):
        parse_record(record_text(_FULL).replace('"fail"', '"pass"'), "x")


def test_a_case_that_is_twice_in_a_file_is_named_with_its_second_line() -> None:
    line = '  "bpf/test_progs/a": [{"outcome": "pass"}],\n'
    text = record_text(_FULL).replace(line, line + line)
    number = text.splitlines().index(line.rstrip("\n")) + 2
    with pytest.raises(UserError, match=f"^x:{number}: .*is there twice"):
        parse_record(text, "x")


def test_a_newer_schema_is_refused_and_says_what_to_do() -> None:
    with pytest.raises(UserError, match="schema 99") as caught:
        parse_record(_resealed({"schema": 99}), "x")
    assert "newer" in caught.value.hint


def test_unknown_keys_of_a_later_harness_are_ignored() -> None:
    assert parse_record(_resealed({"weather": "fine"}), "x") == _FULL


def test_a_value_of_a_wrong_type_names_key_and_line() -> None:
    text = _resealed({"repetitions": "five"})
    with pytest.raises(UserError, match=r"x:\d+: damaged record: .*repetitions"):
        parse_record(text, "x")


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"cases": []}', "[" * 100_000])
def test_what_is_no_record_is_a_users_error(text: str) -> None:
    with pytest.raises(UserError):
        parse_record(text, "x")


def test_a_missing_file_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such record"):
        read_record(tmp_path / "none.json")


def test_a_promised_case_that_is_missing_is_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    with pytest.raises(RigError, match="bpf/test_progs/zz"):
        write_record(path, _FULL, planned=[CaseId.parse("bpf/test_progs/zz")])
    assert not path.exists()


def test_a_case_that_is_twice_is_not_stored() -> None:
    with pytest.raises(RigError, match="twice"):
        check_record(dataclasses.replace(_FULL, cases=_FULL.cases + _FULL.cases[:1]))


def test_names_that_could_be_taken_for_each_other_are_not_stored() -> None:
    case = CaseId("bpf", ("test_verifier", "add/sub"))
    entry = CaseRecord(case=case, attempts=attempts("P"))
    with pytest.raises(RigError, match="told apart"):
        check_record(dataclasses.replace(_FULL, cases=(entry,)))


def test_a_full_disk_is_the_rigs_fault_and_keeps_the_old_record(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, _FULL)
    child = multiprocessing.get_context("spawn").Process(target=_write_without_space, args=(path,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert read_record(path) == _FULL
    assert list(tmp_path.iterdir()) == [path]


def _write_without_space(path: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # acts as a full disk
    with pytest.raises(RigError, match="cannot write"):
        write_record(path, dataclasses.replace(_FULL, run_id="other"))


def test_repetitions_are_merged_attempt_by_attempt() -> None:
    runs = [
        record({"bpf/p/a": mark, "bpf/p/b": "P"}, run_id=f"20261122-15000{n}-aaaa")
        for n, mark in enumerate("PPF")
    ]
    merged = merge_records(runs)
    assert merged.repetitions == 3
    assert [attempt.outcome for attempt in merged.cases[0].attempts] == [
        Outcome.PASS,
        Outcome.PASS,
        Outcome.FAIL,
    ]
    assert merged.duration_s == 37.5


def test_one_incomplete_run_makes_the_whole_incomplete() -> None:
    runs = [
        record({"bpf/p/a": "P"}, run_id="20261122-150000-aaaa"),
        record({"bpf/p/a": "P"}, run_id="20261122-150001-aaaa", complete=False),
    ]
    assert not merge_records(runs).complete


def test_runs_of_different_worlds_are_not_repetitions() -> None:
    other = record({"bpf/p/a": "P"}, run_id="b", world=world(qemu_version="9.1", cpus=4))
    with pytest.raises(UserError, match=r"qemu_version: 7\.2\.22 \| 9\.1; cpus: 2 \| 4"):
        merge_records([record({"bpf/p/a": "P"}), other])


def test_repetitions_of_one_run_share_its_id() -> None:
    first = record({"bpf/p/a": "P"})
    second = dataclasses.replace(first, started_utc="2026-11-22T15:01:00Z")
    third = dataclasses.replace(first, started_utc="2026-11-22T15:02:00Z")
    merged = merge_records([merge_records([first, second]), third])
    assert (merged.run_id, merged.repetitions) == (first.run_id, 3)


def test_a_run_is_not_counted_twice() -> None:
    with pytest.raises(UserError, match="twice"):
        merge_records([record({"bpf/p/a": "P"}), record({"bpf/p/a": "P"})])


def _resealed(changes: dict[str, object]) -> str:
    """The sample's text with other values and a checksum that fits them."""
    raw = json.loads(record_text(_FULL)) | changes
    del raw["content_sha256"]
    content = json.dumps(raw, sort_keys=True)
    return json.dumps(raw | {"content_sha256": hashlib.sha256(content.encode()).hexdigest()})
