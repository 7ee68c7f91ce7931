"""The one tree of errors; who must act is in the type.

HarnessError
├── KernelError   the candidate kernel (or its selftests) is at fault
├── UserError     the person who called: usage, configuration, a wrong path
└── RigError      host, QEMU or the harness itself; also what nobody foresaw
"""

from enum import IntEnum
from typing import ClassVar


class ExitStatus(IntEnum):
    """Exit statuses of the command line; pytest's own codes never stand for them."""

    ACCEPT = 0
    REJECT = 1
    USAGE = 2
    INCONCLUSIVE = 3
    INTERRUPTED = 130


class HarnessError(Exception):
    """Says what happened, with the value; `hint` says what to try, "" where nothing is to be tried.

    `evidence` holds a few lines of a log that show it, already free of control characters or not:
    who prints it makes it inert.
    """

    status: ClassVar[ExitStatus] = ExitStatus.INCONCLUSIVE  # until shown otherwise, it is our fault
    blame: ClassVar[str] = "rig"

    def __init__(self, what: str, *, hint: str = "", evidence: tuple[str, ...] = ()) -> None:
        super().__init__(what)
        self.hint = hint
        self.evidence = evidence


class RigError(HarnessError):
    """The host, QEMU or the harness failed: nothing is known about the kernel."""


class KernelError(HarnessError):
    """The kernel under test is at fault, and there is evidence for it."""

    status = ExitStatus.REJECT
    blame = "kernel"


class UserError(HarnessError):
    """The call or a configuration file is wrong; nothing was run and nothing stored was touched."""

    status = ExitStatus.USAGE
    blame = "user"
