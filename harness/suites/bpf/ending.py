"""What the exit status of a selftest program says when its results stop short."""

import signal

# 2: test_progs found nothing to run. 64: its usage. 234, 244: a list that it could not read.
# 255: no count of CPUs. 125-127: stdbuf or the shell could not start it.
_REFUSALS = frozenset({2, 64, 125, 126, 127, 234, 244, 255})
_SIGNAL_BASE = 128


def is_refusal(rc: int) -> bool:
    """Whether a process that reported nothing was at odds with its call, not with a case."""
    return rc in _REFUSALS


def ending_text(rc: int) -> str:
    """`killed by SIGABRT`, `ended with status 1`."""
    try:
        return f"killed by {signal.Signals(rc - _SIGNAL_BASE).name}"
    except ValueError:
        return f"ended with status {rc}"
