"""The dialects of test_progs, told apart by the format strings in the program itself.

A  5.11-5.14  `#5/3 and:OK`: no parent in a subtest's line, OK for a skip as well
B  5.15       `#5/3 atomics/and:SKIP`
C  5.16-5.17  as B, but the line goes to the test's log: seen with -v, or when the test fails
D  5.18-6.2   `#5/3     atomics/and:SKIP`, numbers padded
E  6.3 and on `#5       atomics:OK (SKIP: 2/25)`

The versions only say where a dialect was seen first: distributions carry them elsewhere.
"""

from enum import StrEnum
from pathlib import Path

from harness.model.errors import RigError

_PADDED_SUBTEST = b"#%-*s %s/%s"
_PARTLY_SKIPPED = b"OK (SKIP: %d/%d)"
_NAMED_SUBTEST = b"#%d/%d %s/%s:%s\n"
_BARE_SUBTEST = b"#%d/%d %s:%s\n"
_ERROR_LOGS = b"All error logs:"


class Dialect(StrEnum):
    A = "A"
    B = "B"
    C = "C"
    D = "D"
    E = "E"
    UNKNOWN = "unknown"


VERBOSE_DIALECTS = frozenset({Dialect.A, Dialect.C})
"""Run with -v: A shows its skips and C its subtests only there."""


def dialect_of(program: bytes) -> Dialect:
    """The dialect of a test_progs by its own format strings; UNKNOWN where none of them is."""
    if _PARTLY_SKIPPED in program:
        return Dialect.E
    if _PADDED_SUBTEST in program:
        return Dialect.D
    if _NAMED_SUBTEST in program:
        return Dialect.C if _ERROR_LOGS in program else Dialect.B
    if _BARE_SUBTEST in program:
        return Dialect.A
    return Dialect.UNKNOWN


def read_dialect(program: Path) -> Dialect:
    """The same of a built program. Raises RigError when it cannot be read."""
    try:
        return dialect_of(program.read_bytes())
    except OSError as error:
        raise RigError(f"{program}: cannot be read ({error.strerror})") from error
