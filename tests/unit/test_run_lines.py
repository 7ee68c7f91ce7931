"""Bytes become lines, whatever the pieces they come in."""

from hypothesis import given
from hypothesis import strategies as st

from harness.run.lines import LineSplitter

LIMIT_B = 64 * 1024
STREAMS = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"a", b"\xc3\xa9", b"\xff\x00", b"#1 x:OK", b"y" * 70_000]),
    max_size=10,
).map(b"".join)


def lines_of(data: bytes, cuts: list[int]) -> list[tuple[str, int, int]]:
    splitter, found, start = LineSplitter(), [], 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        found += splitter.feed(data[start:cut])
        start = cut
    return found + splitter.finish()


@given(STREAMS, st.lists(st.integers(min_value=0, max_value=1 << 20), max_size=8))
def test_pieces_do_not_matter(data: bytes, cuts: list[int]) -> None:
    assert lines_of(data, cuts) == lines_of(data, [])


@given(STREAMS)
def test_places_cover_the_stream_without_a_gap(data: bytes) -> None:
    found = lines_of(data, [])
    ends = [0, *(end_b for _, _, end_b in found)]
    assert ends[:-1] == [begin_b for _, begin_b, _ in found]
    assert ends[-1] == len(data)


@given(STREAMS)
def test_short_lines_are_what_python_makes_of_them(data: bytes) -> None:
    data = data.replace(b"y" * 70_000, b"y")
    expected = [raw.decode(errors="backslashreplace").rstrip("\r") for raw in data.split(b"\n")]
    assert [text for text, *_ in lines_of(data, [])] == expected[
        : len(expected) - (not expected[-1])
    ]


def test_a_line_without_an_end_is_given_in_bounded_pieces() -> None:
    splitter = LineSplitter()
    sizes = []
    for _ in range(64):
        sizes += [len(text) for text, *_ in splitter.feed(b"z" * 16_384)]
    assert sizes == [LIMIT_B] * 16
    assert splitter.finish() == []


def test_a_last_line_is_had_though_it_is_torn() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"[    1.0] whole\n[    2.0] to") == [("[    1.0] whole", 0, 16)]
    assert splitter.finish() == [("[    2.0] to", 16, 28)]
    assert splitter.finish() == []
