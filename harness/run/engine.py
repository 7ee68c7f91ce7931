"""Runs a plan: batches into guests; a guest's death costs the case in flight, never a run.

The cases of a batch share one process, as upstream runs them; the process is started again with
what remains whenever a case ended it. A guest that lost a process in the middle of a case is not
trusted with the next one: the rest goes on in a fresh guest. What killed a guest is tried once
more at the end, alone in a guest of its own; both attempts are kept.
"""

import time
from collections.abc import Callable, Sequence

from harness.model.errors import KernelError, RigError
from harness.model.plan import Batch, Plan, PlannedCase
from harness.model.record import Ending, Incident
from harness.run.boot_error import STOPPED, RunStopped
from harness.run.budget import Budgets, Limits, speed_of
from harness.run.execution import Execution
from harness.run.recorder import Recorder, Setting
from harness.run.session import Session
from harness.suites.base import SuiteHooks

_STALLED_LIMIT = 3
_KERNELS_DEATHS = (Ending.PANICKED, Ending.REBOOTED)


class Engine:
    """Drives one cell. `boot(batch)` gives a started session or raises a HarnessError."""

    def __init__(
        self,
        plan: Plan,
        hooks: SuiteHooks,
        boot: Callable[[Batch], Session],
        recorder: Recorder,
        *,
        budget_factor: float = 1.0,
        limits: Limits | None = None,
        retries: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`retries`: how many cases that cost a guest may be tried once more."""
        self._plan = plan
        self._hooks = hooks
        self._boot = boot
        self._recorder = recorder
        self._budget_factor = budget_factor
        self._limits = limits or Limits()
        self._budgets = Budgets(speed=1.0, factor=budget_factor, limits=self._limits)
        self._retries = retries
        self._clock = clock
        self._guest: Session | None = None
        self._memory_mib = 0
        self._latest_run = ""
        """The run before, in the same guest."""
        self._runs = 0
        self._victims: list[tuple[Batch, PlannedCase, Ending | None]] = []

    def run(self) -> None:
        """Give each planned case its outcome.

        Raises RunStopped when somebody stopped it, and the boot's error when a guest cannot be had:
        the cases that had no turn are then the recorder's to tell. Whatever is raised, no guest is
        left running.
        """
        try:
            for batch in self._plan.batches:
                self._run_batch(batch)
            for batch, case, _ in self._to_try_again():
                self._release()
                self._execute(batch, [case], is_retry=True)
        except BaseException:
            self._abandon()
            raise
        self._release()

    # -- guests ----------------------------------------------------------------------------------

    def _guest_for(self, batch: Batch) -> Session:
        if self._guest is not None and batch.memory_mib != self._memory_mib:
            self._release()
        if self._guest is None:
            guest = self._boot(batch)
            self._guest, self._memory_mib, self._latest_run = guest, batch.memory_mib, ""
            self._budgets = Budgets(
                speed=speed_of(guest.calibration_ms),
                factor=self._budget_factor,
                limits=self._limits,
            )
            guest.patience_s = self._budgets.patience_s
        return self._guest

    def _release(self) -> None:
        """Let the guest go in good order; one that dies of it has its incident."""
        guest, self._guest = self._guest, None
        if guest is None:
            return
        self._recorder.phase("power-off", guest.vm.folder.name, guest.vm.output.received_b)
        death = guest.power_off()
        if death is not None:
            self._recorder.incident(
                Incident(
                    ending=death.ending,
                    during="power-off",
                    what=death.what,
                    evidence=death.evidence,
                )
            )

    def _abandon(self) -> None:
        guest, self._guest = self._guest, None
        if guest is not None:
            guest.abandon()

    # -- batches ---------------------------------------------------------------------------------

    def _run_batch(self, batch: Batch) -> None:
        if batch.own_vm:
            self._release()
        remaining, stalled = list(batch.cases), 0
        while remaining:
            execution = self._execute(batch, remaining)
            remaining = [item for item in remaining if item.case not in execution.answered]
            stalled = 0 if execution.answered else stalled + 1
            if stalled == _STALLED_LIMIT:
                raise _stalled(batch.program, execution)
        if batch.own_vm:
            self._release()

    def _execute(
        self, batch: Batch, remaining: Sequence[PlannedCase], *, is_retry: bool = False
    ) -> Execution:
        shell, cases = self._hooks.command(batch, remaining)
        guest = self._guest_for(batch)
        self._runs += 1
        run_id, after, self._latest_run = f"r{self._runs}", self._latest_run, f"r{self._runs}"
        setting = Setting(
            guest=guest.vm.folder.name,
            fresh_vm=not after and len(cases) == 1,
            is_retry=is_retry,
        )
        execution = Execution(
            guest,
            self._recorder,
            self._hooks.reader(batch, cases),
            run_id=run_id,
            suite=self._plan.suite,
            program=batch.program,
            cases=cases,
            budgets=self._budgets,
            setting=setting,
            is_fresh=not after,
            clock=self._clock,
        )
        if not execution.run(shell, self._hooks.cwd, after=after):
            self._abandon()
        if execution.death is not None and execution.death.ending is Ending.KILLED:
            raise RunStopped(STOPPED)
        if execution.victim is not None and not is_retry:
            ending = execution.death.ending if execution.death else None
            # One that was out of time alone in its guest would be so again.
            if ending is not None or not setting.fresh_vm:
                self._victims.append((batch, execution.victim, ending))
        return execution

    def _to_try_again(self) -> Sequence[tuple[Batch, PlannedCase, Ending | None]]:
        """Cases that cost a guest; those that killed it before those that were out of time."""
        ordered = sorted(self._victims, key=lambda each: each[2] is None)
        if len(ordered) > self._retries > 0:
            left = len(ordered) - self._retries
            self._recorder.problem("retries", f"{left} cases that cost a guest not tried again")
        return ordered[: self._retries]


def _stalled(program: str, execution: Execution) -> KernelError | RigError:
    """One error for what makes every case impossible."""
    death = execution.death
    what = f"{program} cannot be started: {death.what if death else 'it never began'}"
    times = f" ({_STALLED_LIMIT} guests in a row)"
    evidence = death.evidence if death else ()
    if death is not None and death.ending in _KERNELS_DEATHS:
        return KernelError(what + times, evidence=evidence)
    return RigError(what + times, evidence=evidence)
