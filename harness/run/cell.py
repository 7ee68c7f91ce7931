"""One cell of the matrix: a kernel, an architecture, a suite; from prepared files to a record."""

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.model.arch import ArchSpec
from harness.model.errors import HarnessError, KernelError, RigError
from harness.model.events import CellEnded, CellPlanned, Event, PhaseEnded, PhaseStarted
from harness.model.kernel import KernelArtifact, SelftestsArtifact
from harness.model.plan import Batch, Plan
from harness.model.record import Ending, Incident, RunRecord, Splat, World
from harness.run.boot_error import STOPPED, RunStopped
from harness.run.budget import Limits, speed_of
from harness.run.engine import Engine
from harness.run.recorder import EventSink, Recorder
from harness.run.session import Session
from harness.suites.base import SuiteHooks
from harness.triage.splat import SplatScanner
from harness.vm.accel import Accelerator
from harness.vm.machine import MachineSpec, kernel_cmdline
from harness.vm.qemu import QemuBinary

BOOT_TIMEOUT_S = Limits().boot_s
_TRACEBACK_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSetup:
    """All that a guest of this cell is booted from."""

    arch_spec: ArchSpec
    kernel: KernelArtifact
    initrd: Path
    userland_sha256: str
    qemu: QemuBinary
    accel: Accelerator
    cpus: int
    memory_mib: int
    extra_cmdline: tuple[str, ...] = ()

    def machine(self, memory_mib: int = 0) -> MachineSpec:
        return MachineSpec(
            arch_spec=self.arch_spec,
            kernel_image=self.kernel.image,
            initrd=self.initrd,
            cmdline=kernel_cmdline(self.arch_spec, self.accel.kind, self.extra_cmdline),
            memory_mib=memory_mib or self.memory_mib,
            cpus=self.cpus,
            accel=self.accel,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRequest:
    """What to run, in what, and where its files go."""

    run_id: str
    started_utc: str
    folder: Path
    setup: GuestSetup
    selftests: SelftestsArtifact
    plan: Plan
    hooks: SuiteHooks
    budget_factor: float = 1.0
    role: str = "candidate"
    limits: Limits = field(default_factory=Limits)
    retries: int = 5
    """How many cases that cost a guest are tried once more, alone."""


class _SplatReader:
    """Reads the kernel log of one guest along, and notes how far its output had come."""

    def __init__(self, guest: str, recorder: Recorder) -> None:
        self.output_b: Callable[[], int] = lambda: 0
        self._guest = guest
        self._scanner = SplatScanner(log=f"{guest}/console.log")
        self._recorder = recorder

    def take_line(self, text: str, begin_b: int, end_b: int) -> None:
        during = str(self.output_b())  # the scanner keeps it from a complaint's first line on
        self._tell(self._scanner.feed(text, begin_b, end_b, during=during))

    def end(self) -> None:
        self._tell(self._scanner.finish())

    def _tell(self, splats: Sequence[Splat]) -> None:
        for splat in splats:
            self._recorder.splat(splat, self._guest, int(splat.during))


class CellRun:
    """Runs one cell; may be told from another thread to stop."""

    def __init__(
        self,
        request: CellRequest,
        log: EventSink,
        on_event: Callable[[Event], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._request = request
        self._on_event = on_event
        self._clock = clock
        self._recorder = Recorder(request.plan, log, on_event, clock=clock)
        self._boots = 0
        self._calibration_ms = 0.0
        self._guest_lock = threading.Lock()
        self._guest: Session | None = None
        self._stopped = False
        self.error: HarnessError | None = None
        """Why the cell did not get through its plan, or None."""

    def run(self) -> RunRecord:
        """Run the plan and return the record; it is complete or says that it is not.

        Raises nothing that a guest or QEMU can cause: such an end is in `error` and in the record.
        """
        request = self._request
        begin = self._clock()
        plan = request.plan
        self._on_event(
            CellPlanned(
                arch=plan.arch,
                suite=plan.suite,
                total=sum(len(batch.cases) for batch in plan.batches),
                denied=len(plan.denied),
                not_built=len(plan.not_built),
            )
        )
        try:
            self._engine().run()
        except RunStopped as error:
            self.error = error
            self._recorder.incident(
                Incident(ending=Ending.KILLED, during=self._recorder.current, what=str(error))
            )
        except HarnessError as error:
            self.error = error
        except Exception as error:  # a fault of ours: what was reported must not be lost for it
            self.error = self._own_fault(error)
        duration_s = self._clock() - begin
        self._on_event(CellEnded(arch=plan.arch, suite=plan.suite, duration_s=duration_s))
        return self._record(duration_s)

    def stop(self) -> None:
        """End the run at once, from any thread; what was reported stays."""
        with self._guest_lock:
            self._stopped = True
            guest = self._guest
        if guest is not None:
            guest.interrupt()

    def _engine(self) -> Engine:
        request = self._request
        return Engine(
            request.plan,
            request.hooks,
            self._boot,
            self._recorder,
            budget_factor=request.budget_factor,
            limits=request.limits,
            retries=request.retries,
            clock=self._clock,
        )

    def _own_fault(self, error: Exception) -> RigError:
        lines = "".join(traceback.format_exception(error)).splitlines()
        self._recorder.failure(lines)
        return RigError(
            f"the harness failed: {type(error).__name__}: {error}",
            hint=f"this is a fault of the harness: report it, with {self._request.folder}",
            evidence=tuple(lines[-_TRACEBACK_LINES:]),
        )

    # -- booting ---------------------------------------------------------------------------------

    def _boot(self, batch: Batch) -> Session:
        """A started guest. The first boot that fails is final; a later one is tried once more."""
        is_first = self._boots == 0
        try:
            return self._boot_once(batch)
        except RunStopped:
            raise
        except HarnessError as error:
            self._note_boot_failure(error, is_final=is_first)
            if is_first:
                raise
        try:
            return self._boot_once(batch)
        except RunStopped:
            raise
        except HarnessError as error:
            self._note_boot_failure(error, is_final=True)
            raise

    def _boot_once(self, batch: Batch) -> Session:
        arch, begin = self._request.plan.arch, self._clock()
        self._recorder.phase("boot")
        self._boots += 1
        self._on_event(PhaseStarted(arch=arch, phase="boot", detail=f"guest {self._boots}"))
        try:
            guest = self._new_guest(batch, self._request.folder / f"vm{self._boots}")
            try:
                factor, limits = self._request.budget_factor, self._request.limits
                guest.start(limits.boot_s * factor)
                self._calibration_ms = guest.calibrate(limits.calibration_s * factor)
            except BaseException:
                guest.abandon()
                raise
        except OSError as error:
            raise RigError(
                f"cannot keep the logs of a guest: {error}",
                hint=f"is the disk of {self._request.folder} full?",
            ) from error
        finally:
            self._on_event(PhaseEnded(arch=arch, phase="boot", duration_s=self._clock() - begin))
        return guest

    def _new_guest(self, batch: Batch, folder: Path) -> Session:
        setup = self._request.setup
        console = _SplatReader(folder.name, self._recorder)
        guest = Session(
            setup.machine(batch.memory_mib),
            folder,
            setup.qemu,
            console=console,
            limits=self._request.limits,
            clock=self._clock,
        )
        console.output_b = lambda: guest.vm.output.received_b
        with self._guest_lock:
            self._guest = guest
            is_stopped = self._stopped
        if is_stopped:
            guest.abandon()
            raise RunStopped(STOPPED)
        return guest

    def _note_boot_failure(self, error: HarnessError, *, is_final: bool) -> None:
        """A kernel that does not boot each time is told; a rig that did the second time is not."""
        is_kernels = isinstance(error, KernelError)
        if not is_kernels and not is_final:
            self._recorder.problem("boot", f"tried once more: {error}")
            return
        self._recorder.incident(
            Incident(
                ending=Ending.NEVER_BOOTED if is_kernels else Ending.NEVER_STARTED,
                during="boot",
                what=str(error),
                evidence=error.evidence,
            )
        )

    # -- record ----------------------------------------------------------------------------------

    def _record(self, duration_s: float) -> RunRecord:
        request = self._request
        plan, recorder = request.plan, self._recorder
        return RunRecord(
            run_id=request.run_id,
            role=request.role,
            suite=plan.suite,
            profile=plan.profile,
            world=world_of(request.setup, request.selftests),
            started_utc=request.started_utc,
            duration_s=round(duration_s, 1),
            speed=round(speed_of(self._calibration_ms), 3) if self._calibration_ms else 0.0,
            repetitions=1,
            complete=recorder.is_complete and self.error is None,
            capabilities={},
            incidents=tuple(recorder.incidents),
            splats=recorder.splats,
            denied={str(denial.case): denial.reason for denial in plan.denied},
            test_hashes=_test_hashes(request.selftests),
            cases=recorder.cases(),
        )


def world_of(setup: GuestSetup, selftests: SelftestsArtifact) -> World:
    """What the results of this cell depend on."""
    kernel = setup.kernel
    spec = setup.machine()
    return World(
        arch=setup.arch_spec.arch,
        accel=setup.accel.kind,
        kernel_release=kernel.release,
        kernel_source=f"{kernel.provenance.name} {kernel.provenance.version}".strip(),
        kernel_sha256=kernel.provenance.sha256,
        config_sha256=kernel.config_sha256,
        build_id=kernel.build_id,
        selftests_source=selftests.source_name,
        selftests_sha256=selftests.source_sha256,
        compiler=selftests.compiler,
        pahole=selftests.pahole,
        qemu_version=setup.qemu.version,
        machine=setup.arch_spec.machine,
        cpu_model=setup.accel.cpu_model,
        cpus=setup.cpus,
        memory_mib=setup.memory_mib,
        cmdline=spec.cmdline,
        userland_sha256=setup.userland_sha256,
    )


def _test_hashes(selftests: SelftestsArtifact) -> Mapping[str, str]:
    return {f"bpf/test_progs/{test}": digest for test, digest in selftests.source_hashes}
