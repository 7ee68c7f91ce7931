"""A channel's bytes, lines and failures."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.model.errors import RigError
from harness.vm.console import Channel, ChannelClosed, ChannelStuck
from harness.vm.timeline import Timeline
from tests.fakes.channels import MakePair, pairs, sent_until_full


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[MakePair]:
    with pairs(tmp_path) as make:
        yield make


# Reading bytes and lines.


def test_a_chunk_is_what_has_come_and_nothing_is_nothing(pair: MakePair) -> None:
    p = pair()
    assert p.channel.read_chunk(0) == b""
    p.guest.sendall(b"\xff\x00some")
    assert p.channel.read_chunk(5) == b"\xff\x00some"
    p.guest.close()
    with pytest.raises(ChannelClosed):
        p.channel.read_chunk(5)
    with pytest.raises(ChannelClosed):
        p.channel.read_chunk(5)


def test_what_a_match_left_over_comes_first_in_a_chunk(pair: MakePair) -> None:
    p = pair()
    p.guest.sendall(b"hello\nrest \xc3")
    p.received(12)
    assert p.channel.read_line(5) == "hello"
    assert p.channel.read_chunk(0) == b"rest \xc3"
    p.guest.sendall(b"\xa9")
    assert p.channel.read_chunk(5) == b"\xa9"


def test_lines_come_whole_and_a_torn_one_never(pair: MakePair) -> None:
    p = pair()
    p.guest.sendall(b"one\r\ntwo\n@kh done 1")
    assert p.channel.read_line(5) == "one"
    assert p.channel.read_line(5) == "two"
    assert p.channel.read_line(0.05) is None
    p.guest.close()
    with pytest.raises(ChannelClosed):
        p.channel.read_line(5)


def test_the_hook_sees_every_byte_though_nobody_reads(pair: MakePair) -> None:
    seen = bytearray()
    p = pair(lossless=False, hook=seen.extend)
    p.guest.sendall(b"Kernel panic")
    p.received(12)
    p.channel.close()
    assert seen == b"Kernel panic"


# Failures.


def test_a_failing_hook_is_told_to_the_reader_and_does_not_stop_the_guest(
    pair: MakePair, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(data: bytes) -> None:
        raise ValueError("a bug of ours")

    p = pair(lossless=False, hook=fail)
    p.guest.settimeout(5)
    for _ in range(40):
        p.guest.sendall(b"x" * 65536)
    p.received(40 * 65536)
    with pytest.raises(RigError, match="a bug of ours"):
        p.channel.read_chunk(1)
    assert len(caplog.records) == 1


def test_a_full_disk_is_told_and_does_not_stop_the_guest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    timeline = Timeline(tmp_path / "timeline")
    channel = Channel("test", full, timeline, lossless=True, on_bytes=lambda data: None)
    ours, guest = socket.socketpair()
    channel.attach(ours)
    guest.sendall(b"x")
    guest.close()
    deadline = time.monotonic() + 5
    while channel.failure is None:
        assert time.monotonic() < deadline
    with pytest.raises(RigError, match="No space left"):
        channel.read_chunk(5)
    channel.close()
    timeline.close()
    assert "No space left" in caplog.text


def test_a_guest_that_takes_no_input_is_said_so(pair: MakePair) -> None:
    with pytest.raises(ChannelStuck):
        pair().channel.send_line("x" * 2_000_000, timeout_s=0.2)


def test_a_line_to_a_dead_guest_is_said_so(pair: MakePair) -> None:
    p = pair()
    p.guest.close()
    with pytest.raises(ChannelClosed):
        p.channel.send_line("hello")
    p.channel.close()
    with pytest.raises(ChannelClosed):
        p.channel.send_line("hello")


def test_two_lines_are_refused(pair: MakePair) -> None:
    with pytest.raises(ValueError, match="more than one line"):
        pair().channel.send_line("poweroff\nhello")


def test_lines_of_many_threads_do_not_mix(pair: MakePair) -> None:
    p = pair()
    got = bytearray()

    def send(letter: str) -> None:
        for _ in range(10):
            p.channel.send_line(letter * 30_000)

    def receive() -> None:
        while got.count(b"\n") < 40:
            got.extend(p.guest.recv(65536))

    threads = [threading.Thread(target=send, args=(letter,)) for letter in "abcd"]
    threads.append(threading.Thread(target=receive))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    lines = got.decode().splitlines()
    assert all(len(set(line)) == 1 and len(line) == 30_000 for line in lines)


def test_close_keeps_what_a_dead_guest_had_sent(pair: MakePair) -> None:
    p = pair(lossless=True)
    sent_b = sent_until_full(p.guest)
    p.guest.close()
    p.channel.close()
    assert p.log.stat().st_size == sent_b


def test_close_does_not_wait_for_a_living_guest_and_may_come_twice(pair: MakePair) -> None:
    p = pair()
    begin = time.monotonic()
    p.channel.close()
    p.channel.close()
    assert time.monotonic() - begin < 1
    assert p.channel.closed
    with pytest.raises(ChannelClosed):
        p.channel.read_chunk(1)
