"""Time budgets: what a case may take here, from what it may take in the reference guest."""

import math
from dataclasses import dataclass, field

from harness.model.plan import PlannedCase

REFERENCE_MS = 1000.0
"""The agent's calibration loop on the reference guest, which the budgets of configs/suites are for:
x86_64 under TCG with two vCPUs on a two-core host."""

_SLOWEST = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long the engine waits for what, before any scaling."""

    boot_s: float = 120.0
    """From QEMU's start to the agent's hello."""
    calibration_s: float = 60.0
    answer_s: float = 20.0
    """What an agent that lives may take to answer, and a program to end after its last case."""
    last_words_s: float = 5.0
    """What a guest that shows a sign of death may take to be gone. Host time, never scaled."""
    least_s: float = 5.0
    """No case gets less, however small its budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Budgets for a guest of a given speed. A fast guest gets no less than the stated budget:
    tests wait for wall time too."""

    speed: float
    factor: float = 1.0
    """What the caller stretches all budgets by."""
    limits: Limits = field(default_factory=Limits)

    @property
    def scale(self) -> float:
        return self.factor / max(min(self.speed, 1.0), _SLOWEST)

    def of(self, case: PlannedCase) -> float:
        return max(case.budget_s * self.scale, self.limits.least_s)

    @property
    def patience_s(self) -> float:
        """How long a live agent may take to answer."""
        return self.limits.answer_s * self.scale


def speed_of(calibration_ms: float) -> float:
    """Guest speed over the reference guest's; 1 where the measure is none."""
    is_measure = math.isfinite(calibration_ms) and calibration_ms > 0
    return REFERENCE_MS / calibration_ms if is_measure else 1.0
