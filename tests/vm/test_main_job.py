"""The main job, small: real kernels of both architectures, a few selftests, a verdict."""

import json
import sys
from pathlib import Path

import pytest

from harness.host.command import Finished, run
from harness.model.arch import Arch
from harness.model.case import Outcome
from harness.model.errors import ExitStatus
from harness.store.records import read_record

pytestmark = pytest.mark.vm

CASES = ("bpf/test_progs/align", "bpf/test_progs/ringbuf", "bpf/test_verifier/add+sub+mul")


def harness(*words: str) -> Finished:
    return run((sys.executable, "-m", "harness", *words), timeout_s=1500, check=False)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def ended(results: Path) -> Finished:
    only = [word for case in CASES for word in ("--only", case)]
    return harness("run", "--gate", "--results", str(results), *only)


def test_without_baselines_the_verdict_is_inconclusive_and_says_which_are_missing(
    ended: Finished,
) -> None:
    assert ended.status == ExitStatus.INCONCLUSIVE, ended.stdout + ended.stderr
    assert "there is no 5.12 baseline" in ended.stdout
    assert "there is no Stream 9 baseline" in ended.stdout


@pytest.mark.parametrize("arch", list(Arch))
def test_each_promised_case_has_one_outcome_from_a_real_guest(
    arch: Arch, ended: Finished, results: Path
) -> None:
    (path,) = results.glob(f"runs/*/{arch}-bpf/record.json")
    record = read_record(path)
    outcomes = {str(entry.case): entry.attempts[-1].outcome for entry in record.cases}
    assert set(CASES) <= set(outcomes)
    assert outcomes["bpf/test_progs/align"] is Outcome.PASS
    assert outcomes["bpf/test_verifier/add+sub+mul"] is Outcome.PASS
    assert record.complete
    assert not record.incidents


def test_the_stored_run_is_judged_again_without_a_guest(ended: Finished, results: Path) -> None:
    again = harness("gate", "--json", "--results", str(results))
    assert again.status == ended.status
    assert json.loads(again.stdout)["verdict"] == "inconclusive"
