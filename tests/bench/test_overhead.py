"""What the harness costs: the same cases in the same guest with it and without it, in turn."""

import json
import statistics
import sys
import time
from pathlib import Path

import pytest

from harness.host.command import kill_group, spawn
from harness.model.arch import Arch
from harness.model.case import Outcome
from harness.pipeline import MatrixRun, Prepared, RunOptions, Workshop
from tests.bench.bare import run_bare

pytestmark = pytest.mark.bench


def prepare(arch: Arch, only: tuple[str, ...]) -> tuple[Prepared, RunOptions]:
    options = RunOptions(arches=(arch,), kernels={}, programs=("test_progs",), only=only)
    return Workshop().prepare(arch, options), options


def figures(name: str, values: list[float], unit: str = "s") -> None:
    low, middle, high = min(values), statistics.median(values), max(values)
    print(f"{name:46} {low:8.2f} {middle:8.2f} {high:8.2f} {unit}")


@pytest.mark.parametrize("arch", list(Arch))
def test_wall_time_over_one_process_in_a_bare_guest(
    arch: Arch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    pattern = request.config.getoption("--bench-only")
    prepared, options = prepare(arch, (pattern,) if pattern else ())
    ours: list[float] = []
    bare: list[float] = []
    for pair in range(request.config.getoption("--pairs")):
        begin = time.monotonic()
        result = MatrixRun(options, tmp_path / f"runs{pair}", lambda event: None).run([prepared])
        ours.append(time.monotonic() - begin)
        (record,) = result.records
        other = run_bare(prepared, tmp_path / f"bare{pair}")
        bare.append(other.wall_s)
        lost = [entry for entry in record.cases if entry.attempts[-1].outcome is Outcome.LOST]
        print(
            f"\n{arch} pair {pair + 1}: harness {ours[-1]:.1f} s, bare {bare[-1]:.1f} s, "
            f"{len(record.cases)} cases, {len(lost)} lost, {len(record.incidents)} guests lost; "
            f"bare says: {other.output.strip().splitlines()[-1]}"
        )
    print(f"\n{arch}: minimum, median, maximum of {len(ours)} pairs")
    figures("harness", ours)
    figures("bare", bare)
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    figures("harness / bare", ratios, "")


@pytest.mark.parametrize("arch", list(Arch))
def test_time_to_the_first_result_over_a_bare_boot(
    arch: Arch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    prepared, _ = prepare(arch, ("bpf/test_progs/align",))
    ours: list[float] = []
    bare: list[float] = []
    for pair in range(request.config.getoption("--pairs")):
        ours.append(first_result_s(arch, tmp_path / f"results{pair}"))
        bare.append(run_bare(prepared, tmp_path / f"bare{pair}").first_result_s)
    print(f"\n{arch}: from the command to the first result, {len(ours)} pairs")
    figures("harness run", ours)
    figures("bare boot", bare)
    figures("harness / bare", [a / b for a, b in zip(ours, bare, strict=True)], "")


def first_result_s(arch: Arch, results: Path) -> float:
    """From the start of the command line's process to its first case's result on disk."""
    argv = (sys.executable, "-m", "harness", "run", "--arch", str(arch))
    begin = time.monotonic()
    child = spawn((*argv, "--only", "bpf/test_progs/align", "--results", str(results)))
    try:
        while child.poll() is None:
            if any(has_case(path) for path in results.glob("runs/*/*/events.jsonl")):
                return time.monotonic() - begin
            time.sleep(0.02)
    finally:
        kill_group(child)
    raise AssertionError("the run ended without a result")


def has_case(events: Path) -> bool:
    lines = events.read_text().splitlines()
    return any(json.loads(line).get("kind") == "case" for line in lines if line.endswith("}"))
