"""What a boot that did not reach the agent means: whose fault it is. Pure."""

from collections.abc import Sequence
from pathlib import Path

from harness.model.arch import Arch
from harness.model.errors import HarnessError, KernelError, RigError
from harness.model.record import Ending
from harness.run.death import Death

STOPPED = "the run was stopped"
_STDERR_LINES = 8


class RunStopped(RigError):
    """Somebody asked for the end of the run."""


def boot_error(
    death: Death,
    *,
    arch: Arch,
    folder: Path,
    stderr: Sequence[str],
    has_spoken: bool,
    is_silent: bool,
    after_s: float,
) -> HarnessError:
    """The error of a boot that ended so, `after_s` after its start; `is_silent`: for long.

    The kernel is at fault only where it said something and then died or fell silent: a rig that
    kills QEMU, and a host on which the guest is merely slow, prove nothing against it.
    """
    if death.ending is Ending.KILLED:
        return RunStopped(STOPPED)
    where = f"{arch}: the guest did not reach its agent within {after_s:.0f} s: {death.what}"
    if not has_spoken:
        return RigError(
            f"{where} (not one byte came from the guest)",
            hint=f"the command is in {folder / 'qemu.argv'}",
            evidence=tuple(stderr[-_STDERR_LINES:]),
        )
    hint = f"see {folder / 'console.log'}"
    if death.ending is Ending.QEMU_DIED:
        return RigError(where, hint=hint, evidence=death.evidence)
    if death.ending is Ending.HUNG and not is_silent:
        return RigError(
            f"{where}, and its console was still talking",
            hint=f"give a slow host more time with --budget-factor; {hint}",
            evidence=death.evidence,
        )
    return KernelError(where, hint=hint, evidence=death.evidence)
