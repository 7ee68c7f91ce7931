"""How the programs are called: pure functions from a batch to a line for the guest's shell."""

from collections.abc import Iterable, Sequence

from harness.model.plan import Batch, PlannedCase
from harness.suites.bpf.dialects import VERBOSE_DIALECTS, Dialect
from harness.suites.bpf.readers import is_progs

# Into a pipe, results would sit in a buffer of 4 KiB and be lost with their process; stderr without
# a buffer comes in crumbs that break lines.
_LINE_WISE = "exec stdbuf -oL -eL"


def batch_command(
    batch: Batch, remaining: Sequence[PlannedCase], dialect: Dialect = Dialect.UNKNOWN
) -> tuple[str, tuple[PlannedCase, ...]]:
    """Shell text to run in the folder of the programs, and the cases it will run, in its order.

    `remaining` is what is left of the batch. test_progs takes any numbers and runs them in
    ascending order; test_verifier takes one contiguous range, so the rest of a batch with gaps
    needs further calls; any other program runs as a whole. Raises ValueError when nothing remains.
    """
    if not remaining:
        raise ValueError(f"{batch.program}: nothing remains to run")
    if is_progs(batch.program):
        cases = tuple(sorted(remaining, key=_number))
        verbose = " -v" if dialect in VERBOSE_DIALECTS else ""
        # With a slash: from its own path a flavour learns which folder its objects are in.
        text = f"./{batch.program}{verbose} -n {ranges(map(_number, cases))}"
        return f"{_LINE_WISE} {text}", cases
    if batch.program == "test_verifier":
        cases = _first_range(sorted(remaining, key=_number))
        text = f"./test_verifier {cases[0].selector} {cases[-1].selector}"
        return f"{_LINE_WISE} {text}", cases
    return f"{_LINE_WISE} ./{batch.program}", tuple(remaining)


def ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers in the form of test_progs: 1, 2, 3, 7 → `1-3,7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{low}-{high}" if high > low else f"{low}" for low, high in runs)


def _first_range(cases: Sequence[PlannedCase]) -> tuple[PlannedCase, ...]:
    # Out of range, test_verifier would silently run everything; ranges of planned cases are not.
    end = 1
    while end < len(cases) and _number(cases[end]) == _number(cases[end - 1]) + 1:
        end += 1
    return tuple(cases[:end])


def _number(case: PlannedCase) -> int:
    return int(case.selector)
