"""What the gate makes of errors that kept a cell from its end: a kernel or a rig no good."""

import dataclasses
from collections.abc import Sequence

from harness.model.arch import Arch
from harness.model.change import Finding, Gate, Weight
from harness.model.errors import ExitStatus, HarnessError
from harness.triage.gate import in_order, verdict_of


def with_errors(gate: Gate, errors: Sequence[tuple[Arch, HarnessError]]) -> Gate:
    """Weigh each error that no finding tells of, in place of the note that its cell is missing.

    A boot that failed is in its cell's record as well, where the gate has seen it.
    """
    untold = [
        (arch, error)
        for arch, error in errors
        if not any(
            finding.what.startswith(str(arch)) and str(error) in finding.what
            for finding in gate.findings
        )
    ]
    told = [
        Finding(weight=_weight(error), rule="not_run", what=f"{arch}: {error}")
        for arch, error in untold
    ]
    explained = tuple(f"{arch} " for arch, _ in untold)
    kept = [
        finding
        for finding in gate.findings
        if not (finding.rule == "cell_missing" and finding.what.startswith(explained))
    ]
    findings = in_order((*told, *kept))
    return dataclasses.replace(gate, verdict=verdict_of(findings), findings=findings)


def _weight(error: HarnessError) -> Weight:
    return Weight.BLOCKS if error.status is ExitStatus.REJECT else Weight.INCONCLUSIVE
