"""Finds the reader for a program."""

from collections.abc import Sequence

from harness.model.errors import UserError
from harness.model.plan import PlannedCase
from harness.suites.base import Reader
from harness.suites.bpf.dialects import Dialect
from harness.suites.bpf.maps import MapsReader
from harness.suites.bpf.progs import ProgsReader
from harness.suites.bpf.verifier import VerifierReader

PROGS = "test_progs"


def is_progs(program: str) -> bool:
    """Whether it is test_progs or a flavour of it: `test_progs-no_alu32`, `test_progs-cpuv4`."""
    return program == PROGS or program.startswith(f"{PROGS}-")


def reader_for(
    program: str, cases: Sequence[PlannedCase] = (), dialect: Dialect = Dialect.UNKNOWN
) -> Reader:
    """A fresh reader for one process of `program` that runs exactly `cases`, in this order.

    Without cases it reads a log of unknown plan, and takes names as they are printed. `dialect`
    is for test_progs. Raises UserError for a program that has no reader.
    """
    if is_progs(program):
        return ProgsReader(cases, dialect)
    if program == "test_verifier":
        return VerifierReader(cases)
    if program == "test_maps":
        return MapsReader(cases)
    raise UserError(
        f"nothing here reads the output of {program}",
        hint="known are test_progs with its flavours, test_verifier and test_maps",
    )
