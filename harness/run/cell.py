"""One cell of the matrix: a kernel, an architecture, a suite; from prepared files to a record."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.model.arch import ArchSpec
from harness.model.errors import HarnessError, KernelError, RigError
from harness.model.events import CellEnded, CellPlanned, Event, PhaseEnded, PhaseStarted
from harness.model.kernel import KernelArtifact, SelftestsArtifact
from harness.model.plan import Batch, Plan
from harness.model.record import Ending, Incident, RunRecord, World
from harness.run.budget import speed_of
from harness.run.engine import Engine
from harness.run.recorder import EventSink, Recorder
from harness.run.session import Session
from harness.suites.base import SuiteHooks
from harness.triage.splat import SplatScanner
from harness.vm.accel import Accelerator
from harness.vm.machine import MachineSpec, kernel_cmdline
from harness.vm.qemu import QemuBinary

BOOT_TIMEOUT_S = 120.0


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
        engine = Engine(
            plan,
            request.hooks,
            self._boot,
            self._recorder,
            budget_factor=request.budget_factor,
            clock=self._clock,
        )
        try:
            engine.run()
        except HarnessError as error:
            self.error = error
        duration_s = self._clock() - begin
        self._on_event(CellEnded(arch=plan.arch, suite=plan.suite, duration_s=duration_s))
        return self._record(duration_s)

    def stop(self) -> None:
        """End the run at once, from any thread; what was reported stays."""
        self._stopped = True
        with self._guest_lock:
            if self._guest is not None:
                self._guest.vm.kill()

    # -- booting ---------------------------------------------------------------------------------

    def _boot(self, batch: Batch) -> Session:
        """A started guest. The first boot that fails is final; a later one is tried once more."""
        try:
            return self._boot_once(batch)
        except HarnessError as error:
            if self._stopped or self._boots < 2:
                self._note_boot_failure(error)
                raise
        try:
            return self._boot_once(batch)
        except HarnessError as error:
            self._note_boot_failure(error)
            raise

    def _boot_once(self, batch: Batch) -> Session:
        if self._stopped:
            raise RigError("the run was stopped")
        self._boots += 1
        folder = self._request.folder / f"vm{self._boots}"
        arch = self._request.plan.arch
        self._recorder.phase("boot")
        self._on_event(PhaseStarted(arch=arch, phase="boot", detail=f"guest {self._boots}"))
        begin = self._clock()
        scanner = SplatScanner(log=f"{folder.name}/console.log")

        def take_line(text: str, begin_b: int, end_b: int) -> None:
            for splat in scanner.feed(text, begin_b, end_b, during=self._recorder.current):
                self._recorder.splat(splat)

        setup = self._request.setup
        guest = Session(
            setup.machine(batch.memory_mib),
            folder,
            setup.qemu,
            on_console_line=take_line,
            clock=self._clock,
        )
        with self._guest_lock:
            self._guest = guest
        try:
            guest.start(BOOT_TIMEOUT_S)
            self._calibration_ms = guest.calibrate()
        except BaseException:
            guest.abandon()
            raise
        self._on_event(PhaseEnded(arch=arch, phase="boot", duration_s=self._clock() - begin))
        return guest

    def _note_boot_failure(self, error: HarnessError) -> None:
        ending = Ending.NEVER_BOOTED if isinstance(error, KernelError) else Ending.NEVER_STARTED
        self._recorder.incident(
            Incident(ending=ending, during="boot", what=str(error), evidence=error.evidence)
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
