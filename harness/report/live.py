"""The live view: what each architecture is at, redrawn in place on a terminal, as lines elsewhere.

In a pipe and in a CI log there is one plain line for each thing worth it, and a line now and then
that says how far each architecture is; never a control code.
"""

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import IO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.model.arch import Arch
from harness.model.case import Outcome
from harness.model.events import CaseFinished, Event
from harness.report.progress import Lane, Notice, Progress, at_hand_text, status_text
from harness.report.terminal import make_console
from harness.report.words import BAD_OUTCOMES, OUTCOME_WORDS, duration_text

_QUIET_S = 15.0  # without a terminal: longest silence of an architecture that is at work
_CASES_PER_LINE = 200
_MOST_FAILURES = 40  # lines an architecture; the report has them all
_REFRESH_PER_S = 4
_BAR = 24
_WIDE = 100
_OUTCOME_STYLES = {Outcome.PASS: "green", **dict.fromkeys(BAD_OUTCOMES, "bold red")}


class LiveView:
    """Give it each event; use it as a context, so that the terminal is left in order.

    `view(event)` may be called from any thread. Nothing is left on the terminal at the end but the
    lines that were worth one.
    """

    def __init__(
        self,
        file: IO[str],
        *,
        is_terminal: bool,
        colour: bool = True,
        width: int | None = None,
        mean_case_s: Mapping[Arch, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`mean_case_s`: an earlier run's mean time of a case, for a first guess of the rest."""
        self._console = make_console(file, is_terminal=is_terminal, colour=colour, width=width)
        self._is_terminal = is_terminal
        self._clock = clock
        self._begin_s = clock()
        self._lock = threading.RLock()
        self._progress = Progress(mean_case_s)
        self._failures: dict[str, int] = {}
        self._said: dict[str, tuple[float, int]] = {}
        self._live: Live | None = None
        self._ended = threading.Event()
        self._ticker: threading.Thread | None = None

    def __enter__(self) -> "LiveView":
        if self._is_terminal:
            self._live = Live(
                get_renderable=self._picture,
                console=self._console,
                refresh_per_second=_REFRESH_PER_S,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        else:
            self._ticker = threading.Thread(target=self._tick, name="live-view", daemon=True)
            self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._live is not None:
            self._live.stop()
        if self._ticker is not None:
            self._ticker.join()

    def __call__(self, event: Event) -> None:
        with self._lock:
            now_s = self._clock()
            notice = self._progress.apply(event, now_s)
            if notice and notice.is_bad and isinstance(event, CaseFinished):
                notice = self._rationed(notice)
            lines = [self._line(notice, now_s)] if notice else []
            if not self._is_terminal:
                lines += self._overdue(now_s)
        # Outside of the lock: the console has its own, and takes it before it asks for the picture.
        for line in lines:
            self._console.print(line, soft_wrap=True)

    # -- lines -----------------------------------------------------------------------------------

    def _rationed(self, notice: Notice) -> Notice | None:
        said = self._failures[notice.lane] = self._failures.get(notice.lane, 0) + 1
        if said < _MOST_FAILURES:
            return notice
        if said == _MOST_FAILURES:
            return Notice(lane=notice.lane, text="more failures; the report has them all")
        return None

    def _line(self, notice: Notice, now_s: float) -> Text:
        lane = self._progress.lanes[notice.lane]
        self._said[lane.name] = (now_s, lane.done)
        line = Text(f"{_clock_text(now_s - self._begin_s)} ", style="dim")
        line.append(f"{notice.lane:<8}", style="not dim bold")
        return line.append(notice.text, style="not dim red" if notice.is_bad else "not dim")

    def _overdue(self, now_s: float) -> list[Text]:
        """A line for each lane that has been silent for long, or has come far."""
        lines = []
        for lane in self._progress.lanes.values():
            said_s, done = self._said.get(lane.name, (now_s, 0))
            if now_s - said_s >= _QUIET_S or lane.done - done >= _CASES_PER_LINE:
                text = status_text(lane, now_s)
                if text:
                    lines.append(self._line(Notice(lane=lane.name, text=text), now_s))
        return lines

    def _tick(self) -> None:
        while not self._ended.wait(1.0):
            with self._lock:
                lines = self._overdue(self._clock())
            for line in lines:
                self._console.print(line, soft_wrap=True)

    # -- picture ---------------------------------------------------------------------------------

    def _picture(self) -> Group:
        with self._lock:
            now_s = self._clock()
            lanes = [_lane_picture(lane, now_s, self._console) for lane in self._at_work()]
        return Group(*lanes)

    def _at_work(self) -> list[Lane]:
        return [lane for lane in self._progress.lanes.values() if lane.total or lane.phase]


def _lane_picture(lane: Lane, now_s: float, console: Console) -> Table:
    """Two lines: how far the cell is, and what is at hand; one line for a phase."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=8, no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    name = Text(lane.name, style="bold")
    at_hand = Text(at_hand_text(lane, now_s), style="dim" if lane.total else "")
    if not lane.total:
        grid.add_row(name, at_hand)
        return grid
    line = Text()
    if console.width >= _WIDE:
        filled = _BAR * lane.done // max(lane.total, 1)
        line.append("#" * filled, style="green").append("-" * (_BAR - filled), style="dim")
        line.append("  ")
    line.append(f"{lane.done} of {lane.total}", style="bold")
    for outcome, count in lane.counts().items():
        style = _OUTCOME_STYLES.get(outcome, "")  # no style of its own is no style
        line.append("  ").append(f"{OUTCOME_WORDS[outcome]} {count}", style=style)
    left_s = lane.left_s(now_s)
    if left_s is not None:
        line.append(f"  about {duration_text(left_s)} left")
    grid.add_row(name, line)
    grid.add_row("", at_hand)
    return grid


def _clock_text(seconds: float) -> str:
    """Time since the start, always as wide: ` 1:07`, `12:30`."""
    return f"{int(seconds) // 60:2}:{int(seconds) % 60:02}"
