"""The pytest front end: one item a case, run by the same engine as the command line.

A test function that takes the fixture `kernel_case`, in a module with `SUITE = "bpf"`, becomes one
item for each planned case of each architecture. What pytest selected (`-k`, `--lf`, node ids) is
run as a whole, many cases a process as always; each item waits for its own case. Nothing is asked
of a guest during collection: the plan comes from the built programs.

Every pytest session of an environment loads this file: what is heavy is imported when it is used.
"""

import argparse
import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.model.arch import Arch
from harness.model.case import CaseId, Outcome
from harness.model.errors import ExitStatus, HarnessError
from harness.model.text import inert, inert_line

_FAILS = (Outcome.FAIL, Outcome.TIMEOUT, Outcome.CRASH, Outcome.LOST, Outcome.NOT_BUILT)
_SKIPS = (Outcome.SKIP, Outcome.DENIED)

Key = tuple[Arch, CaseId]


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
        type=_arch_named,
        metavar="ARCH",
        help=f"{' or '.join(Arch)}; may be repeated (default: both)",
    )
    group.addoption("--source", type=Path, help="kernel source tree of the selftests")
    group.addoption("--profile", default="quick", choices=["quick", "full"], help="quick or full")
    group.addoption("--results", type=Path, default=Path("results"), help="where runs/ is")


def _arch_named(text: str) -> Arch:
    if text not in list(Arch):
        raise argparse.ArgumentTypeError(f"no such architecture: {text!r}: {' or '.join(Arch)}")
    return Arch(text)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KernelCase:
    """One case on one architecture; `check()` ends the test as the case ended in its guest."""

    arch: Arch
    case: CaseId
    outcome: Outcome
    text: str
    """What a person should know of it: why, which subtests, where the logs are."""

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
        """Prepare everything that a guest needs. Raises HarnessError."""
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
        self._named = named
        self._results: Path = config.getoption("--results")
        workshop = Workshop(on_event=_teller(config))
        self._options: RunOptions = run_options(named, workshop.arch_of)
        self._prepared = {
            arch: workshop.prepare(arch, self._options) for arch in self._options.arches
        }
        self.selected: set[Key] = set()
        self._said: dict[Key, tuple[Outcome, str]] = {}
        self._subtests: dict[Key, list[str]] = {}
        self._news = threading.Condition()
        self._runner: threading.Thread | None = None
        self._matrix: Any = None
        self._errors: dict[Arch, HarnessError] = {}
        self._fault: BaseException | None = None
        self._ended = False

    def cases(self) -> Mapping[str, Key]:
        """Every promised case by its item's id, those that were not built included."""
        found: dict[str, Key] = {}
        for arch, prepared in self._prepared.items():
            plan = prepared.plan
            planned = [item.case for batch in plan.batches for item in batch.cases]
            for case in (*planned, *(case for case, _ in plan.not_built)):
                found[f"{arch}-{case}"] = (arch, case)
        return found

    @property
    def folder(self) -> Path | None:
        """The run's folder; None while nothing has been run."""
        return self._matrix.folder if self._matrix is not None else None

    def outcome_of(self, key: Key) -> KernelCase:
        """Wait for one case. A kernel that cannot run it fails it; a rig's failure is raised."""
        self._begin()
        arch, case = key
        with self._news:
            self._news.wait_for(lambda: key in self._said or self._ended)
            if self._fault is not None:
                raise self._fault
            error = self._errors.get(arch)
            outcome, detail = self._said.get(key, (Outcome.LOST, ""))
            if outcome is Outcome.LOST and error is not None:
                if error.status is not ExitStatus.REJECT:
                    raise error
                detail = "\n".join((str(error), *error.evidence))
            subtests = self._subtests.get(key, [])
        lines = [f"{case} on {arch}: {outcome}", *([detail] if detail else []), *subtests]
        lines.append(f"logs are in {self.folder}/{arch}-{case.suite}")
        return KernelCase(arch=arch, case=case, outcome=outcome, text=inert("\n".join(lines)))

    def stop(self) -> None:
        """End the run, if it goes on."""
        if self._runner is not None and self._runner.is_alive():
            self._matrix.stop()
            self._runner.join(timeout=15)

    def _begin(self) -> None:
        if self._runner is not None:
            return
        from harness.pipeline import MatrixRun, selected
        from harness.store.calls import write_call
        from harness.verbs.runs import kernel_args

        chosen = [
            selected(item, {case for of, case in self.selected if of is arch})
            for arch, item in self._prepared.items()
        ]
        options = self._options
        if len(self.selected) < len(self.cases()):
            # The record says that it is of a part: what is not in it was not removed.
            options = dataclasses.replace(options, only=("what pytest selected",))
        self._matrix = MatrixRun(options, self._results / "runs", self._take)
        write_call(self._matrix.folder, kernel_args(self._named))
        self._runner = threading.Thread(target=self._run, args=(chosen,), name="kernel-cases")
        self._runner.start()

    def _run(self, chosen: list[Any]) -> None:
        try:
            result = self._matrix.run([item for item in chosen if item is not None])
            for record in result.records:
                for entry in record.cases:  # also those that no event told of
                    last = entry.attempts[-1]
                    key = (record.world.arch, entry.case)
                    if key not in self._said:
                        self._say(*key, last.outcome, last.detail)
            self._errors = dict(reversed(result.errors))  # the first one counts
        except BaseException as error:  # it belongs to the items that wait, not to this thread
            self._fault = error
        finally:
            with self._news:
                self._ended = True
                self._news.notify_all()

    def _take(self, event: Any) -> None:
        from harness.model.events import CaseFinished

        if isinstance(event, CaseFinished):
            self._say(event.arch, event.case, event.outcome, event.detail)

    def _say(self, arch: Arch, case: CaseId, outcome: Outcome, detail: str) -> None:
        with self._news:
            self._said[(arch, case)] = (outcome, inert_line(detail))
            if case.is_subtest and outcome in _FAILS:
                text = f"  {case.path[-1]}: {outcome}: {detail}"
                self._subtests.setdefault((arch, case.parent), []).append(inert_line(text))
            self._news.notify_all()


def _teller(config: pytest.Config) -> Callable[[Any], None]:
    """Says what is being prepared: a first build takes minutes."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    capture: Any = config.pluginmanager.get_plugin("capturemanager")

    def tell(event: Any) -> None:
        from harness.model.events import Noted, PhaseStarted

        match event:
            case PhaseStarted():
                text = f"{event.phase} {event.detail}"
            case Noted():
                text = f"note: {event.text}"
            case _:
                return
        if reporter is not None and config.get_verbosity() >= 0:
            with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
                reporter.ensure_newline()
                reporter.write_line(inert_line(f"{event.arch or 'host'}: {text}"))

    return tell


_CELLS = pytest.StashKey[Cells]()


def _cells(config: pytest.Config) -> Cells:
    if _CELLS not in config.stash:
        try:
            config.stash[_CELLS] = Cells(config)
        except HarnessError as error:
            # Told without a traceback; a UsageError would be told with one here.
            raise pytest.Collector.CollectError(_text_of(error)) from error
    return config.stash[_CELLS]


def _text_of(error: HarnessError) -> str:
    lines = (str(error), *error.evidence, *([f"try: {error.hint}"] if error.hint else []))
    return inert("\n".join(lines))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kernel_case" not in metafunc.fixturenames:
        return
    if hasattr(metafunc.config, "workerinput"):
        raise pytest.Collector.CollectError(
            "guests run side by side already: call pytest without -n"
        )
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
        pytest.fail(_text_of(error), pytrace=False)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    cells = config.stash.get(_CELLS, None)
    if cells is not None and cells.folder is not None:
        terminalreporter.write_line(f"kernel cases: logs and records are in {cells.folder}")


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    cells = session.config.stash.get(_CELLS, None)
    if cells is not None:
        cells.stop()
    yield
