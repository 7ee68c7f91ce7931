"""A channel keeps its promises where pexpect's own classes do not."""

import os
import re
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.vm.console import EOF, TIMEOUT
from tests.fakes.channels import MakePair, pairs, sent_until_full


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[MakePair]:
    with pairs(tmp_path) as make:
        yield make


# What pexpect's own classes get wrong, or do in a way that does not suit a kernel's console.


def test_text_is_decoded_and_invalid_bytes_are_kept_readable(pair: MakePair) -> None:
    p = pair()
    p.guest.sendall(b"caf\xc3\xa9 \xff\xfe end\n")
    p.channel.expect_exact("\n", timeout=5)
    assert p.channel.before == "caf\u00e9 \\xff\\xfe end"


def test_a_character_that_spans_two_reads_is_whole(pair: MakePair) -> None:
    p = pair()
    p.guest.sendall("h\u00e9".encode()[:2])
    assert p.channel.expect_exact(["\u00e9", TIMEOUT], timeout=0.1) == 1
    p.guest.sendall("h\u00e9".encode()[2:])
    assert p.channel.expect_exact(["\u00e9", TIMEOUT], timeout=5) == 0


def test_a_torn_character_at_the_end_is_not_lost(pair: MakePair) -> None:
    p = pair()
    p.guest.sendall(b"half \xc3")
    p.guest.close()
    p.channel.expect_exact(EOF, timeout=5)
    assert p.channel.before == "half \\xc3"


def test_no_surrogate_comes_out_of_any_byte(pair: MakePair) -> None:
    p = pair()
    p.guest.sendall(bytes(range(256)))
    p.guest.close()
    p.channel.expect_exact(EOF, timeout=5)
    assert p.channel.before is not None
    p.channel.before.encode()  # would raise


def test_what_is_received_is_in_the_log_raw_and_at_once(pair: MakePair) -> None:
    p = pair()
    p.guest.sendall(b"raw \xff\x00 bytes")
    p.received(12)
    assert p.log.read_bytes() == b"raw \xff\x00 bytes"


def test_timeout_zero_is_a_timeout_and_finds_what_is_there(pair: MakePair) -> None:
    p = pair()
    with pytest.raises(TIMEOUT):
        p.channel.expect_exact("x", timeout=0)
    p.guest.sendall(b"x")
    p.received(1)
    assert p.channel.expect_exact("x", timeout=0) == 0


def test_a_timeout_in_the_past_is_a_timeout(pair: MakePair) -> None:
    p = pair()
    with pytest.raises(TIMEOUT):
        p.channel.expect_exact("x", timeout=-0.5)
    assert p.channel.read_line(-1) is None


def test_a_timeout_takes_its_time_and_no_more(pair: MakePair) -> None:
    begin = time.monotonic()
    with pytest.raises(TIMEOUT):
        pair().channel.expect_exact("x", timeout=0.2)
    assert 0.15 < time.monotonic() - begin < 2


def test_a_peer_that_dies_with_unread_input_is_the_end_and_no_error(pair: MakePair) -> None:
    p = pair()
    p.channel.send_line("nobody reads this")
    p.guest.sendall(b"last words")
    p.received(10)
    p.guest.close()  # resets the connection, since our line is unread
    assert p.channel.expect_exact(["never", EOF], timeout=5) == 1
    assert p.channel.before == "last words"


def test_a_descriptor_above_1023_works(pair: MakePair) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("this user may not open that many files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    fillers = [os.open(os.devnull, os.O_RDONLY) for _ in range(1030)]
    try:
        p = pair()
        assert p.guest.fileno() > 1023
        p.channel.send_line("ping")
        assert p.guest.recv(10) == b"ping\n"
        p.guest.sendall(b"pong\n")
        assert p.channel.read_line(5) == "pong"
    finally:
        for filler in fillers:
            os.close(filler)


def test_all_that_is_sent_arrives_though_the_socket_holds_less(pair: MakePair) -> None:
    p = pair()
    got = bytearray()

    def read_slowly() -> None:
        while len(got) < 1_000_001:
            got.extend(p.guest.recv(50_000))

    reader = threading.Thread(target=read_slowly)
    reader.start()
    p.channel.send_line("x" * 1_000_000)
    reader.join(10)
    assert bytes(got) == b"x" * 1_000_000 + b"\n"


def test_sending_does_not_sleep_first(pair: MakePair) -> None:
    p = pair()
    begin = time.monotonic()
    for _ in range(20):
        p.channel.send_line("x")
    assert time.monotonic() - begin < 0.5  # pexpect's own takes 1 s


def test_a_match_is_found_before_much_noise_in_the_same_read(pair: MakePair) -> None:
    p = pair()
    p.guest.sendall(b"marker" + b"n" * 50_000)
    p.received(50_006)
    assert p.channel.expect_exact("marker", timeout=1) == 0


def test_a_match_that_spans_reads_is_found(pair: MakePair) -> None:
    p = pair()
    p.guest.sendall(b"n" * 1000 + b"mar")
    assert p.channel.expect_exact(["marker", TIMEOUT], timeout=0.1) == 1
    p.guest.sendall(b"ker")
    assert p.channel.expect_exact(["marker", TIMEOUT], timeout=5) == 0


def test_unmatched_text_does_not_pile_up(pair: MakePair) -> None:
    p = pair()

    def flood() -> None:
        for _ in range(200):
            p.guest.sendall(b"y" * 65536)
        p.guest.sendall(b"the end")

    sender = threading.Thread(target=flood)
    sender.start()
    p.channel.expect_exact("the end", timeout=30)
    sender.join(10)
    assert p.channel.before is not None
    assert len(p.channel.before) < 2**20
    assert p.log.stat().st_size == 200 * 65536 + 7


def test_a_regular_expression_over_a_flood_does_not_take_square_time(pair: MakePair) -> None:
    p = pair()

    def flood() -> None:
        for _ in range(100):
            p.guest.sendall(b"z" * 65536)
        p.guest.sendall(b"Kernel panic")

    sender = threading.Thread(target=flood)
    sender.start()
    begin = time.monotonic()
    p.channel.expect([re.compile("Kernel panic")], timeout=30)
    sender.join(10)
    assert time.monotonic() - begin < 10


# The guest never waits for a reader of its console; it does wait for the reader of its results.


def test_a_console_that_nobody_reads_does_not_stop_the_guest(pair: MakePair) -> None:
    p = pair(lossless=False)
    p.guest.settimeout(10)
    for _ in range(100_000):
        p.guest.send(b"c")  # byte by byte, as a UART does
    p.received(100_000)
    assert p.log.stat().st_size == 100_000


def test_what_a_slow_reader_of_the_console_misses_is_in_the_log(pair: MakePair) -> None:
    p = pair(lossless=False)
    for _ in range(64):
        p.guest.sendall(b"a" * 65536)
    p.guest.sendall(b"newest")
    p.received(64 * 65536 + 6)
    assert p.channel.dropped_b > 0
    assert p.channel.expect_exact("newest", timeout=5) == 0
    assert p.log.stat().st_size == 64 * 65536 + 6


def test_results_wait_for_their_reader_and_none_is_lost(pair: MakePair) -> None:
    p = pair(lossless=True)
    sent_b = sent_until_full(p.guest)
    assert sent_b < 16 << 20
    got_b = 0
    while got_b < sent_b:
        chunk = p.channel.read_chunk(5)
        assert chunk
        got_b += len(chunk)
    assert got_b == sent_b
    assert p.channel.dropped_b == 0
