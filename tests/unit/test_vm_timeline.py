"""When which byte came."""

import itertools
from pathlib import Path

from harness.vm.timeline import Moment, Timeline, offset_at, read_timeline, time_of


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_channel_is_noted_every_50_ms_at_most(tmp_path: Path) -> None:
    clock = Clock()
    timeline = Timeline(tmp_path / "t", clock)
    for step in range(20):
        clock.now = 100 + step * 0.03
        timeline.note("console", step)
    timeline.close()

    times = [moment.t_s for moment in read_timeline(tmp_path / "t")]
    assert all(later - sooner >= 0.05 for sooner, later in itertools.pairwise(times))


def test_channels_do_not_hide_each_other(tmp_path: Path) -> None:
    clock = Clock()
    timeline = Timeline(tmp_path / "t", clock)
    timeline.note("console", 0)
    timeline.note("output", 7)
    timeline.close()
    assert read_timeline(tmp_path / "t") == (
        Moment(t_s=0.0, channel="console", offset_b=0),
        Moment(t_s=0.0, channel="output", offset_b=7),
    )


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b'{"t_s":1.0,"channel":"console","offset_b":5}\n{"t_s":2.0,"cha')
    assert read_timeline(path) == (Moment(t_s=1.0, channel="console", offset_b=5),)


def test_logs_can_be_laid_side_by_side() -> None:
    moments = (
        Moment(t_s=1.0, channel="console", offset_b=0),
        Moment(t_s=2.0, channel="output", offset_b=0),
        Moment(t_s=3.0, channel="console", offset_b=500),
        Moment(t_s=4.0, channel="output", offset_b=90),
    )
    assert time_of(moments, "console", 499) == 1.0
    assert time_of(moments, "console", 500) == 3.0
    assert time_of(moments, "control", 0) is None
    assert offset_at(moments, "output", 3.5) == 0
    assert offset_at(moments, "output", 4.0) == 90


def test_a_note_after_the_end_does_nothing(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path / "t")
    timeline.close()
    timeline.note("console", 1)
    assert read_timeline(tmp_path / "t") == ()
