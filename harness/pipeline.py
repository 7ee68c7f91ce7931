"""The one place where the rooms meet: from what a person named to the records of a run."""

import contextlib
import dataclasses
import datetime
import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from pathlib import Path

from harness.guest.images import initrd_for
from harness.guest.userland import Userland, userland
from harness.host.cache import Cache
from harness.host.paths import cache_root
from harness.kernel.default import distribution_headers, distribution_kernel, distribution_source
from harness.kernel.modules import boot_modules, guest_modules, modprobe_files
from harness.kernel.named import named_arch, named_kernel, named_source
from harness.kernel.preflight import check_bootable
from harness.model.arch import Arch
from harness.model.case import CaseId
from harness.model.errors import HarnessError
from harness.model.events import Event, Noted
from harness.model.kernel import KernelArtifact, SelftestsArtifact, SourceTree
from harness.model.plan import Plan
from harness.model.record import RunRecord
from harness.packages.apt import AptState
from harness.packages.source import PackageSource
from harness.run.cell import CellRequest, CellRun, GuestSetup
from harness.store.cell_errors import write_cell_error
from harness.store.merging import merge_records
from harness.store.records import RECORD_NAME, disk_error, write_record
from harness.store.runs import (
    EVENTS_NAME,
    EventLog,
    cell_name,
    create_cell,
    create_run,
    new_run_id,
)
from harness.suites.bpf.build import build_selftests
from harness.suites.bpf.hooks import GUEST_CWD, bpf_hooks
from harness.suites.bpf.plan import SUITE, plan_bpf
from harness.vm.accel import probe_accelerator
from harness.vm.arches import all_arches, load_arch
from harness.vm.qemu import QemuBinary, find_qemu

OnEvent = Callable[[Event], None]

LOG_NAME = "harness.log"
"""In a run's folder: what the harness's rooms logged of themselves; there when there was any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a person asked for; empty values stand for the defaults."""

    arches: tuple[Arch, ...]
    kernels: Mapping[Arch, str]
    """Kernel as named, by architecture; the distribution's own where there is none."""
    source: Path | None = None
    profile: str = "quick"
    programs: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    repeat: int = 1
    budget_factor: float = 1.0
    serial: bool = False
    cpus: int = 2
    memory_mib: int = 3072
    role: str = "candidate"
    """What the records are run as: a candidate, or the role of a baseline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything for one cell, on disk and ready to boot."""

    setup: GuestSetup
    selftests: SelftestsArtifact
    plan: Plan


@dataclass(slots=True)
class RunResult:
    """One run: its folder, its records, and what stopped a cell."""

    run_id: str
    folder: Path
    records: list[RunRecord] = field(default_factory=list)
    errors: list[tuple[Arch, HarnessError]] = field(default_factory=list)
    interrupted: bool = False


class Workshop:
    """Prepares kernels, selftests and guests; everything it makes is in the cache."""

    def __init__(self, cache: Cache | None = None, on_event: OnEvent = lambda event: None) -> None:
        self.cache = cache or Cache(cache_root())
        self._on_event = on_event
        self._noted: set[Noted] = set()

    def on_event(self, event: Event) -> None:
        """Tell of an event; a note is told once, however many steps come upon it."""
        if isinstance(event, Noted):
            if event in self._noted:
                return
            self._noted.add(event)
        self._on_event(event)

    def _packages(self, cache: Cache, debian_arch: str) -> PackageSource:
        """The distribution's packages; what a person should know of them is noted."""
        return AptState(
            cache, debian_arch, on_note=lambda text: self.on_event(Noted(arch=None, text=text))
        )

    def kernel(self, arch: Arch, named: str | None) -> KernelArtifact:
        spec = load_arch(arch)
        if named is None:
            return distribution_kernel(spec, self.cache, self.on_event, open_source=self._packages)
        return named_kernel(named, spec, self.cache, self.on_event)

    def arch_of(self, named: str) -> Arch:
        """The architecture that a named kernel is made for. Raises UserError for what is none."""
        return named_arch(named, all_arches(), self.cache)

    def source(self, kernel: KernelArtifact, named: Path | None) -> SourceTree:
        spec = load_arch(kernel.arch)
        if named is not None:
            return named_source(named, self.cache, self.on_event)
        return distribution_source(
            kernel, spec, self.cache, self.on_event, open_source=self._packages
        )

    def selftests(self, kernel: KernelArtifact, named_tree: Path | None) -> SelftestsArtifact:
        spec = load_arch(kernel.arch)
        source = self.source(kernel, named_tree)
        headers: Path | None = None
        if kernel.provenance.kind == "deb":
            # Without them the test module is not built, and that is told as such.
            with contextlib.suppress(HarnessError):
                headers = distribution_headers(
                    kernel, spec, self.cache, self.on_event, open_source=self._packages
                )
        return build_selftests(source, kernel, spec, self.cache, self.on_event, headers=headers)

    def check(self, kernel: KernelArtifact) -> QemuBinary:
        """Look in seconds for what would make minutes of work vain; return the QEMU to boot with.

        What may be missed later is noted, once. Raises KernelError for a kernel that cannot boot
        here, RigError without a QEMU.
        """
        for text in check_bootable(kernel):
            self.on_event(Noted(arch=kernel.arch, text=text))
        return find_qemu(load_arch(kernel.arch), self.cache)

    def guest(
        self,
        kernel: KernelArtifact,
        selftests: SelftestsArtifact | None,
        *,
        cpus: int = 2,
        memory_mib: int = 3072,
    ) -> GuestSetup:
        """Make the initramfs, choose the machine. Raises as `check` does."""
        spec = load_arch(kernel.arch)
        qemu = self.check(kernel)
        accel = probe_accelerator(spec, qemu, self.cache)
        land = self.userland(kernel.arch)
        initrd = self.initrd(land, kernel, selftests)
        return GuestSetup(
            arch_spec=spec,
            kernel=kernel,
            initrd=initrd,
            userland_sha256=land.sha256,
            qemu=qemu,
            accel=accel,
            cpus=cpus,
            memory_mib=memory_mib,
        )

    def userland(self, arch: Arch) -> Userland:
        """The programs of a guest, out of the distribution's packages."""
        return userland(load_arch(arch), self.cache, self.on_event)

    def initrd(
        self, land: Userland, kernel: KernelArtifact, selftests: SelftestsArtifact | None
    ) -> Path:
        """A guest's initramfs; without selftests it is one to boot and to look around in."""
        boot, loadable = boot_modules(kernel), guest_modules(kernel)
        files = tuple(dict.fromkeys((*boot, *loadable)))
        return initrd_for(
            land,
            kernel,
            boot=boot,
            loadable=loadable,
            trees=((selftests.root, GUEST_CWD),) if selftests is not None else (),
            texts=modprobe_files(kernel, files) if kernel.modules is not None else {},
            cache=self.cache,
        )

    def prepare(self, arch: Arch, options: RunOptions) -> Prepared:
        kernel = self.kernel(arch, options.kernels.get(arch))
        self.check(kernel)
        selftests = self.selftests(kernel, options.source)
        plan = plan_bpf(
            selftests,
            profile=options.profile,
            programs=options.programs,
            patterns=options.only,
        )
        setup = self.guest(kernel, selftests, cpus=options.cpus, memory_mib=options.memory_mib)
        return Prepared(setup=setup, selftests=selftests, plan=plan)


class MatrixRun:
    """Runs the cells of one run side by side, and can be interrupted."""

    def __init__(self, options: RunOptions, runs: Path, on_event: OnEvent) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._raw_event = on_event
        run_id = new_run_id(datetime.datetime.now(datetime.UTC), secrets.token_hex(2))
        self.folder = create_run(runs, run_id)
        self.result = RunResult(run_id=self.folder.name, folder=self.folder)
        self._cells: list[CellRun] = []

    def note_error(self, arch: Arch, error: HarnessError) -> None:
        """Keep what stopped a cell, for this run's report and, as a file, for all later ones."""
        with self._lock:
            self.result.errors.append((arch, error))
        with contextlib.suppress(HarnessError):  # a full disk: then it is told now or never
            write_cell_error(self.folder / cell_name(arch, SUITE), error)

    def on_event(self, event: Event) -> None:
        """Events of all cells, one at a time."""
        with self._lock:
            self._raw_event(event)

    def run(self, prepared: Sequence[Prepared]) -> RunResult:
        """Run every cell; records are written as each ends. Ctrl-C ends it with what there is."""
        log = logging.FileHandler(self.folder / LOG_NAME, delay=True)
        log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(log)
        try:
            return self._run(prepared)
        finally:
            logging.getLogger().removeHandler(log)
            log.close()

    def _run(self, prepared: Sequence[Prepared]) -> RunResult:
        workers = 1 if self._options.serial else max(len(prepared), 1)
        with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="cell") as pool:
            futures = [pool.submit(self._run_cell, item) for item in prepared]
            try:
                self._await(futures)
            except KeyboardInterrupt:
                for future in futures:
                    future.cancel()
                self.stop()
                wait_for(futures, timeout=10)
        for future in futures:
            if not future.cancelled():
                future.result()
        return self.result

    def stop(self) -> None:
        """End every cell at once, from any thread; what was reported stays."""
        self.result.interrupted = True
        with self._lock:
            cells = list(self._cells)
        for cell in cells:
            cell.stop()

    def _await(self, futures: Sequence[Future[None]]) -> None:
        # In short waits, because a signal is only seen between them.
        while wait_for(futures, timeout=0.2).not_done:
            pass

    def _run_cell(self, prepared: Prepared) -> None:
        """Run a cell; what the host refuses it is an error of that cell, and the others go on."""
        try:
            self._run_repetitions(prepared)
        except HarnessError as error:
            self.note_error(prepared.plan.arch, error)
        except OSError as error:
            known = disk_error(self.folder, error)
            if not isinstance(known, HarnessError):
                raise
            self.note_error(prepared.plan.arch, known)

    def _run_repetitions(self, prepared: Prepared) -> None:
        plan = prepared.plan
        top = create_cell(self.folder, plan.arch, plan.suite)
        records: list[RunRecord] = []
        for repetition in range(1, self._options.repeat + 1):
            if self.result.interrupted:
                break
            folder = top
            if self._options.repeat > 1:
                folder = top / f"repetition{repetition}"
                folder.mkdir()
            records.append(self._run_once(prepared, folder))
            # After each: what an interruption leaves is a record of the repetitions until then.
            if self._options.repeat > 1:
                write_record(top / RECORD_NAME, merge_records(records))
        with self._lock:
            self.result.records.extend(records)

    def _run_once(self, prepared: Prepared, folder: Path) -> RunRecord:
        cell = CellRun(
            CellRequest(
                run_id=self.result.run_id,
                started_utc=utc_text(datetime.datetime.now(datetime.UTC)),
                folder=folder,
                setup=prepared.setup,
                selftests=prepared.selftests,
                plan=prepared.plan,
                hooks=bpf_hooks(prepared.selftests),
                budget_factor=self._options.budget_factor,
                role=self._options.role,
            ),
            log := EventLog(folder / EVENTS_NAME),
            self.on_event,
            clock=time.monotonic,
        )
        with self._lock:
            self._cells.append(cell)
        try:
            chosen = (*self._options.programs, *self._options.only)
            record = dataclasses.replace(cell.run(), selection=chosen)
        finally:
            log.close()
        promised = {item.case for batch in prepared.plan.batches for item in batch.cases}
        write_record(folder / RECORD_NAME, record, planned=promised)
        if cell.error is not None:
            self.note_error(prepared.plan.arch, cell.error)
        return record

    def discard_when_empty(self) -> None:
        """Remove the run's folder when nothing was run: a wrong call leaves no run behind."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def selected(prepared: Prepared, cases: Collection[CaseId]) -> Prepared | None:
    """The same with these cases only, in their order; None when none of them is promised here."""
    plan = prepared.plan
    batches = tuple(
        dataclasses.replace(batch, cases=kept)
        for batch in plan.batches
        if (kept := tuple(item for item in batch.cases if item.case in cases))
    )
    not_built = tuple(item for item in plan.not_built if item[0] in cases)
    if not batches and not not_built:
        return None
    chosen = dataclasses.replace(plan, batches=batches, not_built=not_built, denied=())
    return dataclasses.replace(prepared, plan=chosen)


def utc_text(moment: datetime.datetime) -> str:
    """A moment as records write it: ISO 8601, whole seconds, `Z`."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
