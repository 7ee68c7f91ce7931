"""The programs are called with just the cases that are wanted."""

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.arch import Arch
from harness.model.errors import RigError
from harness.model.kernel import RunnerListing, SelftestsArtifact
from harness.model.plan import Batch
from harness.suites.bpf.command import batch_command, ranges
from harness.suites.bpf.dialects import Dialect
from harness.suites.bpf.hooks import bpf_hooks
from tests.unit.bpf_samples import planned


def batch_of(program: str, numbers: list[int]) -> Batch:
    names = [(number, f"t{number}") for number in numbers]
    return Batch(program=program, cases=planned(program, names))


def test_numbers_become_ranges_in_ascending_order() -> None:
    batch = batch_of("test_progs", [7, 1, 2, 3])
    text, cases = batch_command(batch, batch.cases)
    assert text == "exec stdbuf -oL -eL ./test_progs -n 1-3,7"
    assert [case.selector for case in cases] == ["1", "2", "3", "7"]


@pytest.mark.parametrize("dialect", list(Dialect))
def test_only_dialects_that_hide_something_are_run_verbosely(dialect: Dialect) -> None:
    batch = batch_of("test_progs", [5])
    text, _ = batch_command(batch, batch.cases, dialect)
    assert (" -v " in text) == (dialect in (Dialect.A, Dialect.C))


def test_flavour_is_called_by_its_path_so_that_it_finds_its_folder() -> None:
    batch = batch_of("test_progs-no_alu32", [1])
    text, _ = batch_command(batch, batch.cases)
    assert " ./test_progs-no_alu32 -n 1" in text


def test_verifier_runs_one_contiguous_range_a_call() -> None:
    batch = batch_of("test_verifier", [0, 1, 2, 5, 6])
    text, cases = batch_command(batch, batch.cases)
    assert text == "exec stdbuf -oL -eL ./test_verifier 0 2"
    rest = batch.cases[len(cases) :]
    assert batch_command(batch, rest)[0] == "exec stdbuf -oL -eL ./test_verifier 5 6"
    assert batch_command(batch, rest[1:])[0] == "exec stdbuf -oL -eL ./test_verifier 6 6"


def test_maps_run_as_a_whole() -> None:
    batch = Batch(program="test_maps", cases=planned("test_maps", [(0, "")]))
    assert batch_command(batch, batch.cases) == (
        "exec stdbuf -oL -eL ./test_maps",
        batch.cases,
    )


def artifact(root: Path) -> SelftestsArtifact:
    return SelftestsArtifact(
        arch=Arch.X86_64,
        root=root,
        runners=(RunnerListing(program="test_progs", tests=("align",)),),
        not_built=(),
        source_sha256="",
        source_name="",
        source_hashes=(),
        compiler="",
    )


def test_commands_and_readers_speak_the_dialect_of_the_built_program(tmp_path: Path) -> None:
    (tmp_path / "test_progs").write_bytes(b"\x7fELF\0#%d/%d %s:%s\n\0")
    hooks = bpf_hooks(artifact(tmp_path))
    batch = batch_of("test_progs", [1])
    assert " -v " in hooks.command(batch, batch.cases)[0]
    assert hooks.reader(batch, batch.cases).in_flight == ("t1",)


def test_artifact_without_its_program_is_the_rigs_fault(tmp_path: Path) -> None:
    with pytest.raises(RigError, match="test_progs"):
        bpf_hooks(artifact(tmp_path))


def test_nothing_to_run_is_no_command() -> None:
    with pytest.raises(ValueError, match="nothing remains"):
        batch_command(batch_of("test_progs", []), ())


@given(st.sets(st.integers(1, 900), min_size=1))
def test_ranges_name_each_number_once_and_no_other(numbers: set[int]) -> None:
    named: list[int] = []
    for part in ranges(sorted(numbers)).split(","):
        low, _, high = part.partition("-")
        named += range(int(low), int(high or low) + 1)
    assert named == sorted(numbers)


@given(st.sampled_from(["test_progs", "test_verifier"]), st.sets(st.integers(0, 900), min_size=1))
def test_repeated_calls_run_a_whole_batch_each_case_once(program: str, numbers: set[int]) -> None:
    batch = batch_of(program, list(numbers))
    remaining, run = list(batch.cases), []
    while remaining:
        text, cases = batch_command(batch, remaining)
        assert shlex.split(text)[:3] == ["exec", "stdbuf", "-oL"]
        run += [case.selector for case in cases]
        remaining = [case for case in remaining if case not in cases]
    assert sorted(map(int, run)) == sorted(numbers)
