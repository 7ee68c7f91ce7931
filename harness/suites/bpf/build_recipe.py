"""One build of the BPF selftests, stage by stage, in a folder of its own.

Objects, skeletons, test objects, link: after each stage, what failed leaves the private copy of the
tree together with the tests that need it, so that the next stage has only whole things to build.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.host.command import run
from harness.model.errors import KernelError, RigError
from harness.model.events import Event, PhaseAdvanced, PhaseEnded, PhaseStarted
from harness.model.kernel import NotBuilt, RunnerListing
from harness.suites.bpf.build_install import install, link_bpftool
from harness.suites.bpf.build_listing import preprocessor_argv, verifier_descriptors
from harness.suites.bpf.build_make import Database, Make
from harness.suites.bpf.build_module import build_module
from harness.suites.bpf.build_overlay import (
    RUNNER,
    Failed,
    btfids_failed,
    linked_programs,
    losses,
    program_lost,
    remove_sources,
    shortened_lists,
)
from harness.suites.bpf.build_sources import (
    ExtraFiles,
    SourceFile,
    defined_tests,
    extra_files,
    read_source_files,
    source_hashes,
)
from harness.suites.bpf.build_workshop import BuildInputs, open_workshop

_PHASE = "build"
_VERIFIER = "test_verifier"
_MAPS = "test_maps"
_HEADERS = ("prog_tests/tests.h", "map_tests/tests.h", "verifier/tests.h")
_SLOW_FIRST = ("pyperf", "strobemeta", "profiler", "core_kern", "test_verif_scale")
"""Beginnings of the names of programs that compile for seconds: none may come last and alone."""
_RIG_SIGNS = ("No space left on device", "Cannot allocate memory", "Killed", "Error 137")
_MAX_ROUNDS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What came of a build."""

    runners: tuple[RunnerListing, ...]
    not_built: tuple[NotBuilt, ...]
    source_hashes: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Recipe:
    """Builds in `folder/work`, installs to `folder/root`, logs to `folder/build.log`."""

    inputs: BuildInputs
    folder: Path
    on_event: Callable[[Event], None]
    failed: Failed = field(default_factory=Failed)
    _linked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _expected: frozenset[str] = frozenset()
    _done: int = 0

    def cook(self) -> Built:
        """Do it all. Raises UserError, KernelError or RigError when nothing useful comes of it."""
        start_s = time.monotonic()
        arch, name = self.inputs.arch_spec.arch, self.inputs.source.name
        self.on_event(PhaseStarted(arch=arch, phase=_PHASE, detail=f"BPF selftests of {name}"))
        make = open_workshop(self.folder / "work", self.inputs, self.folder / "build.log")
        make.build(_HEADERS, self._step)
        promised = defined_tests(make.folder / "prog_tests/tests.h")
        files = read_source_files(make.folder, promised)
        extras = extra_files((make.folder / "Makefile").read_text(errors="replace"))
        whole = make.database()
        self._linked = linked_programs(whole)
        hashes = source_hashes(files, make.folder, self._linked)
        self._expect(whole)
        self._prepare(make, whole)
        self._build_objects(make, whole)
        database = self._build_skeletons(make, files, whole)
        self._build_tests(make, files, database)
        others = self._build_others(make, whole, extras)
        lost = losses(self.failed, files, self._linked).not_built
        built = Built(
            runners=self._listings(make),
            not_built=(*lost, *self._programs_lost(make, promised, lost), *others),
            source_hashes=hashes,
        )
        self._install(make, whole, extras)
        shutil.rmtree(self.folder / "work")
        detail = (
            f"{sum(len(r.tests) for r in built.runners)} tests, {len(built.not_built)} not built"
        )
        duration_s = time.monotonic() - start_s
        self.on_event(PhaseEnded(arch=arch, phase=_PHASE, duration_s=duration_s, detail=detail))
        return built

    # Stages

    def _prepare(self, make: Make, database: Database) -> None:
        """libbpf and the kernel's types as a header: without them there is nothing."""
        library = database.variables.get("BPFOBJ", "")
        header = f"{database.variables.get('INCLUDE_DIR', '')}/vmlinux.h"
        failures = make.build([library, header], self._step)
        missing = [name for name in (library, header) if not Path(name).is_file()]
        if missing:
            error = failures[0].error if failures else "make knows no rule for it"
            self._check_rig(error)
            raise KernelError(
                f"{self.inputs.source.name}: {Path(missing[0]).name} does not build: {error}",
                hint="the selftests are built against the types of kernel "
                f"{self.inputs.kernel.release}; do the tree and the kernel belong together?",
                evidence=failures[0].output[-6:] if failures else (),
            )

    def _build_objects(self, make: Make, database: Database) -> None:
        objects = database.made_from("progs", ".o")
        goals = sorted(objects, key=lambda name: (not name.startswith(_SLOW_FIRST), name))
        self._build(make, database, [make.goal(name) for name in goals])
        if objects and len(self.failed.objects) == len(objects):
            name, error = next(iter(self.failed.objects.items()))
            raise KernelError(
                f"{self.inputs.source.name}: not one of {len(objects)} BPF objects compiles "
                f"({name}: {error})",
                hint="do the tree and the kernel belong together, and is clang new enough?",
            )

    def _build_skeletons(
        self, make: Make, files: Sequence[SourceFile], database: Database
    ) -> Database:
        """Make the headers that embed objects; return make's knowledge of what is left."""
        for _ in range(_MAX_ROUNDS):
            database = self._overlay(make, files, database)
            known = self.failed.count
            goals = [make.goal(name) for name in database.headers_of_skeletons()]
            self._build(make, database, goals)
            if self.failed.count == known:
                break
        return database

    def _build_tests(self, make: Make, files: Sequence[SourceFile], database: Database) -> None:
        for _ in range(_MAX_ROUNDS):
            known = self.failed.count
            self._build(make, database, [make.goal(RUNNER)])
            if btfids_failed(self.failed):
                make.variables["RESOLVE_BTFIDS"] = shutil.which("true") or ":"
            if self.failed.count == known:
                return
            database = self._overlay(make, files, database)

    def _build_others(
        self, make: Make, database: Database, extras: ExtraFiles
    ) -> tuple[NotBuilt, ...]:
        """The other programs, and the files that test_progs wants beside it, each by itself."""
        modules = [name for name in extras.made if name.endswith(".ko")]
        plain = [name for name in extras.made if name not in modules]
        self._build(make, database, [make.goal(name) for name in (_MAPS, _VERIFIER, *plain)])
        reasons = {
            name: self.failed.others.get(name, "make knows no way to build it")
            for name in plain
            if not (make.folder / name).is_file()
        }
        work, log = self.folder / "work", self.folder / "build.log"
        for module in modules:
            name = module.removesuffix(".ko")
            path, reason = build_module(name, make.folder, self.inputs, work=work, log=log)
            if path is None:
                reasons[module] = reason
            else:
                shutil.copyfile(path, make.folder / module)
        return tuple(
            NotBuilt(
                case_path=(name,),
                object_name=name,
                stage="module" if name in modules else "link",
                error=reason,
            )
            for name, reason in reasons.items()
        )

    def _build(self, make: Make, database: Database, goals: Sequence[str]) -> None:
        failures = make.build(goals, self._step)
        for failure in failures:
            self._check_rig(failure.error, *failure.output)
        self.failed.add(failures, database)

    def _overlay(self, make: Make, files: Sequence[SourceFile], database: Database) -> Database:
        """Take what failed out of the copy; return make's knowledge of what is left."""
        if not self.failed.count:
            return database
        lost = losses(self.failed, files, self._linked)
        gone = {file.removesuffix(".c") for file in lost.programs}
        broken = [n for n, programs in self._linked.items() if n in gone or gone & set(programs)]
        make.variables |= shortened_lists(database, lost.programs, broken)
        remove_sources(make.folder, lost)
        return make.database()

    # What came of it

    def _listings(self, make: Make) -> tuple[RunnerListing, ...]:
        listings: list[RunnerListing] = []
        if (make.folder / RUNNER).is_file():
            tests = defined_tests(make.folder / "prog_tests/tests.h")
            listings.append(RunnerListing(program=RUNNER, tests=tests))
        if (make.folder / _VERIFIER).is_file():
            listings.append(RunnerListing(program=_VERIFIER, tests=self._descriptors(make)))
        if (make.folder / _MAPS).is_file():
            tests = (_MAPS, *defined_tests(make.folder / "map_tests/tests.h"))
            listings.append(RunnerListing(program=_MAPS, tests=tests))
        return tuple(listings)

    def _descriptors(self, make: Make) -> tuple[str, ...]:
        source = f"{_VERIFIER}.c"
        argv = preprocessor_argv(make.commands_for(_VERIFIER, source), source)
        descriptors: tuple[str, ...] = ()
        if argv is not None:
            shown = run(argv, cwd=make.folder, env=make.environment, check=False)
            descriptors = verifier_descriptors(shown.stdout)
        if not descriptors:
            raise RigError(
                f"{self.inputs.source.name}: {_VERIFIER}'s tests cannot be told from its sources"
            )
        return descriptors

    def _programs_lost(
        self, make: Make, promised: Sequence[str], lost: Sequence[NotBuilt]
    ) -> tuple[NotBuilt, ...]:
        """Every test of a program that could not be linked; `lost` are told already."""
        found: list[NotBuilt] = []
        told = {entry.case_path for entry in lost}
        parts = {RUNNER: tuple(promised), _VERIFIER: (_VERIFIER,), _MAPS: (_MAPS,)}
        for program, tests in parts.items():
            if not (make.folder / program).is_file():
                error = self._why_lost(program)
                found += [
                    entry
                    for entry in program_lost(tests, program, error)
                    if entry.case_path not in told
                ]
        return tuple(found)

    def _why_lost(self, program: str) -> str:
        others = self.failed.others
        known = [others[name] for name in (program, f"{program}.o") if name in others]
        return (known or list(others.values()) or ["make did not say why"])[0]

    def _install(self, make: Make, database: Database, extras: ExtraFiles) -> None:
        libraries = [name for name in extras.made if "urandom_read" in name]
        installed = {*extras.made} - {*libraries}
        into = self.folder / "root"
        install(
            make.folder,
            into,
            objects=sorted(database.made_from("progs", ".o")),
            programs=(RUNNER, _VERIFIER, _MAPS, *sorted(installed)),
            libraries=libraries,
            copied=extras.copied,
            toolchain=self.inputs.toolchain,
        )
        link_bpftool(into)

    # Progress, and whose fault it is

    def _expect(self, database: Database) -> None:
        names = {
            *database.made_from("progs", ".o"),
            *database.made_from("prog_tests", ".test.o"),
            *database.headers_of_skeletons(),
            RUNNER, _VERIFIER, _MAPS,
        }  # fmt: skip
        self._expected = frozenset(names)

    def _step(self, name: str) -> None:
        if name in self._expected:
            self._done += 1
            self.on_event(
                PhaseAdvanced(
                    arch=self.inputs.arch_spec.arch,
                    phase=_PHASE,
                    done=self._done,
                    total=len(self._expected),
                    current=name,
                )
            )

    def _check_rig(self, *lines: str) -> None:
        for line in lines:
            if any(sign in line for sign in _RIG_SIGNS):
                raise RigError(
                    f"the build broke for a reason of this host: {line.strip()}",
                    hint="free some disk or memory and build again",
                )
