"""Where words go: progress to standard error, results to standard output."""

import os
import shutil
import sys
from pathlib import Path

from rich.console import Console

from harness.host.streams import lasting
from harness.report.live import LiveView
from harness.report.terminal import make_console


def live_view() -> LiveView:
    """The progress of a long verb; a context that leaves the terminal in order."""
    return LiveView(
        lasting(sys.stderr), is_terminal=_is_terminal(sys.stderr.isatty()), colour=_has_colour()
    )


def report_console() -> Console:
    return make_console(
        sys.stdout,
        is_terminal=_is_terminal(sys.stdout.isatty()),
        colour=_has_colour(),
        width=_width(),
    )


def program_name() -> str:
    """The harness as the person called it, for commands that are printed to be typed again."""
    called = Path(sys.argv[0])
    if called.name != "harness":
        return "harness"  # python -m, or a test
    found = shutil.which("harness")
    if found is not None and Path(found).resolve() == called.resolve():
        return "harness"
    inside = called.is_absolute() and called.is_relative_to(Path.cwd())
    return str(called.relative_to(Path.cwd()) if inside else called)


def _is_terminal(is_tty: bool) -> bool:
    return is_tty and os.environ.get("TERM") != "dumb"


def _has_colour() -> bool:
    return not os.environ.get("NO_COLOR")


def _width() -> int | None:
    text = os.environ.get("COLUMNS", "")
    return int(text) if text.isdecimal() and int(text) > 0 else None
