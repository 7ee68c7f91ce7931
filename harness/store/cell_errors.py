"""What kept a cell from its plan's end, as a file beside its record or in place of one.

results/runs/<run id>/<arch>-<suite>/error.json
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from harness.host.cache import write_atomically
from harness.model.arch import Arch
from harness.model.errors import ExitStatus, HarnessError, KernelError, RigError, UserError
from harness.store.records import disk_error

ERROR_NAME = "error.json"
_CLASSES: Mapping[ExitStatus, type[HarnessError]] = {
    ExitStatus.REJECT: KernelError,
    ExitStatus.USAGE: UserError,
    ExitStatus.INCONCLUSIVE: RigError,
}


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    status: int
    what: str
    hint: str
    evidence: tuple[str, ...]


def write_cell_error(cell: Path, error: HarnessError) -> None:
    """Keep why a cell did not end well. Raises RigError when the disk refuses."""
    stored = _Stored(
        status=int(error.status), what=str(error), hint=error.hint, evidence=error.evidence
    )
    path = cell / ERROR_NAME
    try:
        cell.mkdir(parents=True, exist_ok=True)
        write_atomically(path, msgspec.json.format(msgspec.json.encode(stored), indent=1))
    except OSError as problem:
        raise disk_error(path, problem) from problem


def read_cell_errors(run: Path) -> tuple[tuple[Arch, HarnessError], ...]:
    """What kept the cells of a run from their ends, by architecture.

    Raises UserError for a file that is damaged: an error that cannot be read is still one.
    """
    found = []
    for path in sorted(run.glob(f"*/{ERROR_NAME}")):
        try:
            arch = Arch(path.parent.name.partition("-")[0])
            stored = msgspec.json.decode(path.read_bytes(), type=_Stored)
            kind = _CLASSES[ExitStatus(stored.status)]
        except (OSError, ValueError, KeyError, msgspec.MsgspecError) as error:
            raise UserError(f"{path}: damaged ({error})", hint="run again") from error
        found.append((arch, kind(stored.what, hint=stored.hint, evidence=stored.evidence)))
    return tuple(found)
