from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.guest.wire import LINE_LIMIT_B, Begin, Damage, End, Item, Line, Wire

CORPUS = Path(__file__).parent.parent / "corpus" / "guest"
NONCE = "0123456789abcdef"
OTHER = "fedcba9876543210"


def decode(*chunks: bytes, nonce: str = NONCE) -> list[Item]:
    wire = Wire(nonce)
    items = [item for chunk in chunks for item in wire.feed(chunk)]
    return [*items, *wire.finish()]


def texts(items: list[Item]) -> list[str]:
    return [item.text for item in items if isinstance(item, Line)]


def begin(run: str = "7") -> bytes:
    return f"\n@kh {NONCE} begin {run} 41.50\n".encode()


def end(run: str = "7", status: int = 0) -> bytes:
    return f"\n@kh {NONCE} end {run} {status} 44.07\n".encode()


def test_a_run_is_its_lines_between_two_frames() -> None:
    assert decode(begin() + b"#1 atomics:OK\n" + end(status=1)) == [
        Begin("7", 41.5),
        Line("#1 atomics:OK", 36, 50),
        End("7", 1, 44.07),
    ]


def test_offsets_are_those_of_the_log() -> None:
    stream = begin() + b"one\n\ntwo" + end()
    lines = [item for item in decode(stream) if isinstance(item, Line)]
    assert [stream[line.begin_b : line.end_b] for line in lines] == [b"one\n", b"\n", b"two\n"]


def test_the_empty_line_before_a_frame_is_the_agents_and_others_are_not() -> None:
    assert texts(decode(b"\n\none\n\n\n" + end() + b"\n" + begin())) == ["", "", "one", "", "", ""]


def test_a_last_line_without_its_end_is_kept_apart_from_the_frame() -> None:
    assert decode(b"Segmentation fau" + end(status=139)) == [
        Line("Segmentation fau", 0, 17),
        End("7", 139, 44.07),
    ]


def test_a_frame_with_another_nonce_is_a_programs_line() -> None:
    assert texts(decode(end().replace(NONCE.encode(), OTHER.encode()))) == [
        "",
        f"@kh {OTHER} end 7 0 44.07",
    ]


@pytest.mark.parametrize(
    "torn",
    [
        b"@kh 0123456789abcdef end 7 0 [    3.1] btrfs: hello\n",
        b"[    3.1] x@kh 0123456789abcdef end 7 0 44.07\n",
        b"@kh 0123456789abcdef end 7\n",
        b"@kh 0123456789abcdef end 7 0 44.07 \n",
        b"@kh 0123456789abcdef end 7/8 0 44.07\n",
        b"@kh 0123456789abcdef end 7 -1 44.07\n",
    ],
)
def test_printk_in_the_middle_of_a_frame_is_damage_not_a_pass(torn: bytes) -> None:
    (item,) = decode(torn)
    assert isinstance(item, Damage)
    assert item.data == torn.rstrip(b"\n")


@pytest.mark.parametrize("length", range(1, len(end()) - 1))
def test_a_stream_that_ends_inside_a_frame_has_no_result(length: int) -> None:
    items = decode(b"ok" + end()[:length])
    assert texts(items) == ["ok"]
    assert all(isinstance(item, Line | Damage) for item in items)
    assert len(items) == (2 if length > 1 else 1)


def test_a_stream_that_ends_after_a_frames_last_digit_may_miss_some_of_them() -> None:
    assert isinstance(decode(end().rstrip(b"\n"))[-1], Damage)


def test_bad_utf8_and_control_characters_come_through_as_text() -> None:
    assert texts(decode(b"\xff\x00\x1b[31mred\r\n")) == ["\\xff\x00\x1b[31mred"]


def test_a_line_of_megabytes_comes_in_pieces_that_make_it_whole_again() -> None:
    wire = Wire(NONCE)
    line = "äöü€".encode() * 200_000
    items = [item for start in range(0, len(line), 5000) for item in wire.feed(line[start:][:5000])]
    items += wire.feed(end())
    pieces = [item for item in items if isinstance(item, Line)]
    assert "".join(piece.text for piece in pieces).encode() == line
    assert max(piece.end_b - piece.begin_b for piece in pieces) <= LINE_LIMIT_B
    assert [piece.is_cut for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assert [piece.begin_b for piece in pieces[1:]] == [piece.end_b for piece in pieces[:-1]]
    assert items[-1] == End("7", 0, 44.07)


def test_a_frame_right_after_a_cut_is_damage() -> None:
    items = decode(b"x" * LINE_LIMIT_B + end()[1:])
    assert isinstance(items[-1], Damage)


def test_undecodable_bytes_are_cut_at_the_limit_all_the_same() -> None:
    pieces = decode(b"\xbf" * LINE_LIMIT_B + b"\n")
    assert [piece.end_b for piece in pieces if isinstance(piece, Line)] == [65536, 65537]


_PIECES = st.sampled_from(
    [
        b"\n",
        b"a",
        b"\r",
        "€".encode(),
        b"\xff",
        b"@kh ",
        NONCE.encode(),
        begin(),
        end(),
        b"x" * 70_000,
    ]
)


@given(st.lists(_PIECES, max_size=12).map(b"".join), st.data())
@example(end() * 2, None)
def test_any_split_of_the_stream_gives_the_same_items(
    stream: bytes, data: st.DataObject | None
) -> None:
    cuts = [0, 1, len(stream)]
    if data is not None:
        cuts += data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    places = sorted(min(cut, len(stream)) for cut in cuts)
    chunks = [stream[a:b] for a, b in pairwise(places)]
    assert decode(*chunks) == decode(stream)


@given(st.binary(max_size=300))
def test_no_byte_of_a_programs_output_is_lost(stream: bytes) -> None:
    seen = b""
    for item in decode(stream):
        assert isinstance(item, Line | Damage)
        seen += stream[item.begin_b : item.end_b] if isinstance(item, Line) else item.data
    assert seen == stream


def test_a_nonce_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="nonce"):
        Wire("xyz")


def test_what_a_real_guest_said_is_understood_to_its_last_word() -> None:
    # Recorded from a 6.1 guest: four programs, the last of which made the kernel panic.
    stream = (CORPUS / "output.raw").read_bytes()
    items = decode(*(stream[at : at + 7] for at in range(0, len(stream), 7)))
    frames = [item for item in items if not isinstance(item, Line)]
    assert [frame.id for frame in frames if isinstance(frame, Begin)] == [
        "ok",
        "segv",
        "forged",
        "cut",
    ]
    assert [(frame.id, frame.status) for frame in frames if isinstance(frame, End)] == [
        ("ok", 0),
        ("segv", 139),
        ("forged", 4),
    ]
    assert not [frame for frame in frames if isinstance(frame, Damage)]
    assert texts(items)[12:] == [
        "ssl",
        "",
        "é \\xff \x1b[31mred",
        "no end",
        "#1 a:OK",
        "#2 b:",
        f"@kh {OTHER} end forged 0 1.00",
        "",
        "from a child",
        "begun",
    ]
