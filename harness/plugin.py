"""The pytest front end: one item a case, run by the same engine as the command line.

A test function that takes the fixture `kernel_case`, in a module with `SUITE = "bpf"`, becomes one
item for each planned case of each architecture. What pytest selected (`-k`, `--lf`, node ids) is
run as a whole, many cases a process as always; each item waits for its own case. Nothing is asked
of a guest during collection: the plan comes from the built programs.
"""

import argparse
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.model.arch import Arch
from harness.model.case import CaseId, Outcome
from harness.model.errors import HarnessError
from harness.model.text import inert, inert_line

_FAILS = (Outcome.FAIL, Outcome.TIMEOUT, Outcome.CRASH, Outcome.LOST, Outcome.NOT_BUILT)
_SKIPS = (Outcome.SKIP, Outcome.DENIED)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kernel", "kernels under test (selftests/)")
    group.addoption(
        "--kernel",
        action="append",
        default=[],
        metavar="[ARCH=]KERNEL",
        help="PACKAGE.deb, or IMAGE[,MODULES[,CONFIG]] (default: the distribution's newest)",
    )
    group.addoption(
        "--arch",
        action="append",
        type=Arch,
        choices=list(Arch),
        help="architecture; may be repeated (default: both)",
    )
    group.addoption("--source", type=Path, help="kernel source tree of the selftests")
    group.addoption("--profile", default="quick", choices=["quick", "full"], help="quick or full")
    group.addoption("--results", type=Path, default=Path("results"), help="where runs/ is")


class KernelCase:
    """One case on one architecture; `check()` ends the test as the case ended in its guest."""

    def __init__(self, arch: Arch, case: CaseId, outcome: Outcome, text: str) -> None:
        self.arch = arch
        self.case = case
        self.outcome = outcome
        self.text = text

    def check(self) -> None:
        if self.outcome in _FAILS:
            pytest.fail(self.text, pytrace=False)
        if self.outcome in _SKIPS:
            pytest.skip(self.text)
        if self.outcome is Outcome.XFAIL:
            pytest.xfail(self.text)


class Cells:
    """What the items of this session share: the plans, and the run once it has begun."""

    def __init__(self, config: pytest.Config) -> None:
        from harness.pipeline import RunOptions, Workshop
        from harness.verbs.options import run_options

        named = argparse.Namespace(
            kernel=config.getoption("--kernel"),
            arch=config.getoption("--arch"),
            source=config.getoption("--source"),
            profile=config.getoption("--profile"),
            program=[],
            only=[],
        )
        self._results: Path = config.getoption("--results")
        self._workshop = Workshop()
        self.options: RunOptions = run_options(named, self._workshop.arch_of)
        self._prepared = {
            arch: self._workshop.prepare(arch, self.options) for arch in self.options.arches
        }
        self.selected: set[tuple[Arch, CaseId]] = set()
        self._said: dict[tuple[Arch, CaseId], tuple[Outcome, str]] = {}
        self._subtests: dict[tuple[Arch, CaseId], list[str]] = {}
        self._news = threading.Condition()
        self._runner: threading.Thread | None = None
        self._matrix: Any = None
        self._error: BaseException | None = None
        self._ended = False

    def cases(self) -> Mapping[str, tuple[Arch, CaseId]]:
        """Every promised case by its item's id, those that were not built included."""
        found: dict[str, tuple[Arch, CaseId]] = {}
        for arch, prepared in self._prepared.items():
            plan = prepared.plan
            planned = [item.case for batch in plan.batches for item in batch.cases]
            for case in (*planned, *(case for case, _ in plan.not_built)):
                found[f"{arch}-{case}"] = (arch, case)
        return found

    def outcome_of(self, key: tuple[Arch, CaseId]) -> KernelCase:
        """Wait for one case. Raises what stopped the run when that left it without outcome."""
        self._begin()
        with self._news:
            self._news.wait_for(lambda: key in self._said or self._ended)
            if key not in self._said:
                raise self._error or RuntimeError(f"{key[1]} was not run")
            outcome, detail = self._said[key]
            subtests = self._subtests.get(key, [])
        arch, case = key
        told = [inert_line(detail)] if detail else []
        lines = [f"{case} on {arch}: {outcome}", *told, *subtests]
        lines.append(f"logs are in {self._matrix.folder}/{arch}-{case.suite}")
        return KernelCase(arch, case, outcome, inert("\n".join(lines)))

    def stop(self) -> None:
        """End the run, if it goes on."""
        if self._runner is not None and self._runner.is_alive():
            self._matrix.stop()
            self._runner.join(timeout=15)

    def _begin(self) -> None:
        if self._runner is not None:
            return
        from harness.pipeline import MatrixRun, selected

        chosen = [
            selected(item, {case for of, case in self.selected if of is arch})
            for arch, item in self._prepared.items()
        ]
        self._matrix = MatrixRun(self.options, self._results / "runs", self._take)
        self._runner = threading.Thread(target=self._run, args=(chosen,), name="kernel-cases")
        self._runner.start()

    def _run(self, chosen: list[Any]) -> None:
        try:
            result = self._matrix.run([item for item in chosen if item is not None])
            for item in chosen:
                for case, error in item.plan.not_built if item else ():
                    self._say(item.plan.arch, case, Outcome.NOT_BUILT, error)
            self._error = result.errors[0][1] if result.errors else None
        except BaseException as error:  # it belongs to the items that wait, not to this thread
            self._error = error
        finally:
            with self._news:
                self._ended = True
                self._news.notify_all()

    def _take(self, event: Any) -> None:
        from harness.model.events import CaseFinished

        if not isinstance(event, CaseFinished):
            return
        self._say(event.arch, event.case, event.outcome, event.detail)

    def _say(self, arch: Arch, case: CaseId, outcome: Outcome, detail: str) -> None:
        with self._news:
            self._said[(arch, case)] = (outcome, detail)
            if case.is_subtest and outcome in _FAILS:
                text = f"  {case.path[-1]}: {outcome}: {detail}"
                self._subtests.setdefault((arch, case.parent), []).append(inert_line(text))
            self._news.notify_all()


_CELLS = pytest.StashKey[Cells]()


def _cells(config: pytest.Config) -> Cells:
    if _CELLS not in config.stash:
        try:
            config.stash[_CELLS] = Cells(config)
        except HarnessError as error:
            hint = f"\ntry: {error.hint}" if error.hint else ""
            raise pytest.UsageError(f"{inert(str(error))}{inert(hint)}") from error
    return config.stash[_CELLS]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kernel_case" not in metafunc.fixturenames:
        return
    if hasattr(metafunc.config, "workerinput"):
        raise pytest.UsageError("guests run side by side already: call pytest without -n")
    suite = getattr(metafunc.module, "SUITE", "")
    cases = {
        name: key for name, key in _cells(metafunc.config).cases().items() if key[1].suite == suite
    }
    metafunc.parametrize(
        "kernel_case", list(cases.values()), ids=list(cases), indirect=True, scope="function"
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    cells = session.config.stash.get(_CELLS, None)
    if cells is None:
        return
    for item in session.items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and "kernel_case" in callspec.params:
            cells.selected.add(callspec.params["kernel_case"])


@pytest.fixture
def kernel_case(request: pytest.FixtureRequest) -> KernelCase:
    """The case of this item, after it has run; a rig that fails is an error of the set-up."""
    try:
        return _cells(request.config).outcome_of(request.param)
    except HarnessError as error:
        lines = [str(error), *error.evidence, *([f"try: {error.hint}"] if error.hint else [])]
        pytest.fail(inert("\n".join(lines)), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    cells = session.config.stash.get(_CELLS, None)
    if cells is not None:
        cells.stop()
    yield
