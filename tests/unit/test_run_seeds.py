"""Random plans of random faults over fake guests: whatever happens, the promises hold.

HARNESS_SEEDS names how many (200 without it); a seed that fails is in the name of its folder.
"""

import os
import random
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.fake_guest_rig import Run, execute, fake_plan, fake_run

SEEDS = int(os.environ.get("HARNESS_SEEDS", "200"))
AT_ONCE = 8

QUICK = {
    "pass": "pass",
    "fail": "fail",
    "skip": "skip",
    "subtests": "pass",
    "segv": "crash",
    "exits": "crash",
    "panic_x86": "crash",
    "panic_arm64": "crash",
    "panic_unspoken": "crash",
    "dies": "lost",
    "dies_in_result": "lost",
    "reboots": "crash",
    "powers_off": "crash",
    "forges": "fail",
    "tears_a_frame": "pass",
    "binary": "pass",
}
"""What each fault makes of its test, when nothing else does."""
SLOW = {"hang": "timeout", "hang_deaf": "timeout", "panic_stuck": "crash", "halts": "crash"}
MAYBE = {"between": ("panic_x86", "dies", "reboots", "nothing", "nothing", "nothing")}


def plan_of(seed: int) -> tuple[dict[str, list[str]], int, list[str], list[str]]:
    """Tests with their faults, batches, and what happens before and after programs."""
    dice = random.Random(seed)
    faults = list(QUICK)
    tests = {
        f"test{number}": [dice.choice(faults if dice.random() < 0.5 else ["pass", "fail"])]
        for number in range(dice.randint(1, 7))
    }
    if dice.random() < 0.12:
        tests[dice.choice(list(tests))] = [dice.choice(list(SLOW))]
    for does in tests.values():
        does.append(dice.choice(["pass", "panic_x86"]))
    before = [dice.choice(MAYBE["between"]), "nothing"] if dice.random() < 0.2 else []
    after = [dice.choice(MAYBE["between"]), "nothing"] if dice.random() < 0.2 else []
    return tests, dice.randint(1, 3), before, after


def run_seed(seed: int, folder: Path) -> Run:
    tests, batches, before, after = plan_of(seed)
    is_slow = any(does[0] in SLOW for does in tests.values())
    run = fake_run(
        folder / f"seed{seed}",
        tests,
        plan=fake_plan(list(tests), batches=batches, budget_s=1.2 if is_slow else 30.0),
        retries=seed % 3,
        before_begin=before,
        after_end=after,
    )
    return execute(run)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[int, Run]]:
    folder = tmp_path_factory.mktemp("seeds")
    numbers = range(SEEDS)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = pool.map(lambda seed: run_seed(seed, folder), numbers)
        yield dict(zip(numbers, runs, strict=True))


def test_each_case_has_the_outcome_that_its_fault_gives_it(seeds: Mapping[int, Run]) -> None:
    expected_of = QUICK | SLOW
    for seed, run in seeds.items():
        tests, *_ = plan_of(seed)
        outcomes = run.outcomes()
        found = {name: outcomes[name] for name in tests}
        assert found == {name: expected_of[does[0]] for name, does in tests.items()}, seed
        assert run.cell.error is None, seed
        assert run.done.complete, seed


def test_nothing_passes_that_did_not_pass(seeds: Mapping[int, Run]) -> None:
    passing = {fault for fault, outcome in QUICK.items() if outcome == "pass"}
    for seed, run in seeds.items():
        tests, *_ = plan_of(seed)
        for entry in run.done.cases:
            if len(entry.case.path) == 2 and entry.attempts[0].outcome == "pass":
                assert tests[entry.case.path[1]][0] in passing, seed


def test_a_guest_that_died_in_a_case_names_it(seeds: Mapping[int, Run]) -> None:
    deadly = {"panic_x86", "panic_arm64", "panic_unspoken", "dies", "dies_in_result", "reboots"}
    deadly |= {"powers_off", "hang_deaf", "panic_stuck", "halts"}
    for seed, run in seeds.items():
        tests, *_ = plan_of(seed)
        in_cases = [each for each in run.incidents if each.during.startswith("bpf/")]
        killers = [name for name, does in tests.items() if does[0] in deadly]
        first = [each.during.rpartition("/")[2] for each in in_cases]
        assert sorted(set(first)) == sorted(killers), seed
        for incident in run.incidents:
            assert incident.what, seed
