"""Time budgets: what a case may take here, from what it may take in the reference guest."""

from dataclasses import dataclass

from harness.model.plan import PlannedCase

REFERENCE_MS = 1000.0
"""The agent's calibration loop on the reference guest, which the budgets of configs/suites are for:
x86_64 under TCG with two vCPUs on a two-core host."""

_SLOWEST = 0.05
_LOWEST_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Budgets for a guest of a given speed. A fast guest gets no less than the stated budget:
    tests wait for wall time too."""

    speed: float
    factor: float = 1.0
    """What the caller stretches all budgets by."""

    @property
    def scale(self) -> float:
        return self.factor / max(min(self.speed, 1.0), _SLOWEST)

    def of(self, case: PlannedCase) -> float:
        return max(case.budget_s * self.scale, _LOWEST_S)

    @property
    def patience_s(self) -> float:
        """How long a live agent may take to answer."""
        return 20.0 * self.scale


def speed_of(calibration_ms: float) -> float:
    """Guest speed over the reference guest's."""
    return REFERENCE_MS / calibration_ms if calibration_ms > 0 else 1.0
