"""Runs do not collide, and what a log has taken stays readable whatever happens next."""

import multiprocessing
import resource
import signal
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from harness.model.arch import Arch
from harness.model.errors import RigError, UserError
from harness.store.runs import (
    EventLog,
    create_cell,
    create_run,
    list_runs,
    new_run_id,
    read_events,
    record_paths,
)

_NOW = datetime(2026, 11, 22, 15, 30, 12, tzinfo=UTC)


def test_a_run_is_named_by_its_start_in_utc() -> None:
    there = _NOW.astimezone(timezone(timedelta(hours=5)))
    assert new_run_id(there, "4f1a") == "20261122-153012-4f1a"


@pytest.mark.parametrize("salt", ["", "xyz!", "../../x", "4f"])
def test_a_salt_cannot_leave_the_folder(salt: str) -> None:
    with pytest.raises(ValueError, match="salt"):
        new_run_id(_NOW, salt)


def _make(runs: Path) -> str:
    return create_run(runs, "20261122-153012-4f1a").name


def test_runs_that_start_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        names = pool.map(_make, [runs] * 6)
    assert len(set(names)) == 6
    assert {path.name for path in list_runs(runs)} == set(names)


def test_a_suite_cannot_leave_the_runs_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a name"):
        create_cell(tmp_path, Arch.X86_64, "../../etc")


def test_a_runs_records_are_found(tmp_path: Path) -> None:
    run = create_run(tmp_path, new_run_id(_NOW, "4f1a"))
    cell = create_cell(run, Arch.AARCH64, "bpf")
    (cell / "record.json").write_text("{}")
    assert record_paths(run) == (run / "aarch64-bpf" / "record.json",)
    assert list_runs(tmp_path / "none") == ()


def test_events_are_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.append("case", case="bpf/p/a", outcome="pass")
        log.append("splat", title="x\n\u2028y")
        reading = read_events(path)  # while it is still open
    assert [event.kind for event in reading.events] == ["case", "splat"]
    assert reading.events[0].facts == {"case": "bpf/p/a", "outcome": "pass"}
    assert reading.damaged_lines == ()


def test_a_torn_last_line_costs_that_line_only(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.append("case", n=1)
        log.append("case", n=2)
    path.write_bytes(path.read_bytes()[:-5])
    reading = read_events(path)
    assert [event.facts["n"] for event in reading.events] == [1]
    assert reading.damaged_lines == (2,)


def test_a_writer_that_comes_after_a_torn_line_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"kind": "case", "n": 1}\n{"kind": "ca')
    with EventLog(path) as log:
        log.append("case", n=3)
    reading = read_events(path)
    assert [event.facts["n"] for event in reading.events] == [1, 3]
    assert reading.damaged_lines == (2,)


def test_bytes_that_are_no_events_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'\xff\xfe\n[]\n{"kind": 3}\n' + b"[" * 100_000 + b'\n{"kind": "end"}\n')
    reading = read_events(path)
    assert [event.kind for event in reading.events] == ["end"]
    assert reading.damaged_lines == (1, 2, 3, 4)


def test_a_missing_log_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_events(tmp_path / "none.jsonl")


def test_a_full_disk_is_the_rigs_fault_and_whole_lines_stay(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    done = multiprocessing.get_context("spawn").Process(target=_fill, args=(path,))
    done.start()
    done.join()
    assert done.exitcode == 0
    reading = read_events(path)
    assert [event.facts["n"] for event in reading.events] == [0, 1]
    assert reading.damaged_lines == ()


def _fill(path: Path) -> None:
    """Run out of space in the third line: a limit on the file's size acts as a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with EventLog(path) as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        log.append("case", n=0, pad="x" * 10)
        log.append("case", n=1, pad="x" * 10)
        with pytest.raises(RigError, match="cannot write"):
            log.append("case", n=2, pad="x" * 100)


def test_a_device_without_space_is_the_rigs_fault() -> None:
    with EventLog(Path("/dev/full")) as log, pytest.raises(RigError, match="No space left"):
        log.append("case", n=1)
