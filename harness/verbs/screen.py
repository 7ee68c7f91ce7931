"""Where words go: progress to standard error, results to standard output."""

import os
import sys

from rich.console import Console

from harness.report.live import LiveView
from harness.report.terminal import make_console


def live_view() -> LiveView:
    """The progress of a long verb; a context that leaves the terminal in order."""
    return LiveView(sys.stderr, is_terminal=_is_terminal(sys.stderr.isatty()), colour=_has_colour())


def report_console() -> Console:
    return make_console(
        sys.stdout,
        is_terminal=_is_terminal(sys.stdout.isatty()),
        colour=_has_colour(),
        width=_width(),
    )


def _is_terminal(is_tty: bool) -> bool:
    return is_tty and os.environ.get("TERM") != "dumb"


def _has_colour() -> bool:
    return not os.environ.get("NO_COLOR")


def _width() -> int | None:
    text = os.environ.get("COLUMNS", "")
    return int(text) if text.isdecimal() and int(text) > 0 else None
