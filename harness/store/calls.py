"""How a run was asked for, kept in its folder: its cases can be run again in the same way.

results/runs/<run id>/call.json
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from harness.host.cache import write_atomically
from harness.store.records import disk_error

CALL_NAME = "call.json"


class _Call(msgspec.Struct, forbid_unknown_fields=True):
    kernel_args: tuple[str, ...]


def write_call(run: Path, kernel_args: Sequence[str]) -> None:
    """Keep the arguments that named the candidate, as typed. Raises RigError for a full disk."""
    path = run / CALL_NAME
    try:
        write_atomically(path, msgspec.json.encode(_Call(kernel_args=tuple(kernel_args))) + b"\n")
    except OSError as error:
        raise disk_error(path, error) from error


def read_call(run: Path) -> tuple[str, ...]:
    """The arguments that named the candidate; () where nobody kept them, and for the default."""
    try:
        return msgspec.json.decode((run / CALL_NAME).read_bytes(), type=_Call).kernel_args
    except (OSError, msgspec.MsgspecError):
        return ()  # it says nothing about the kernel: a report without it is still right
