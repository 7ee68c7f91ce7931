"""Compressed data: each format, each way to be damaged, and bombs."""

import bz2
import contextlib
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from harness.model.errors import UserError
from harness.packages.compression import (
    compression_of,
    decompress,
    decompressed_stream,
    open_decompressed,
)

Pack = Callable[[bytes], bytes]
TEXT = bytes(range(256)) * 40 + b"a" * 100_000


def _legacy_lzma(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_ALONE)


FORMATS: dict[str, Pack] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lzma": _legacy_lzma,
    "bzip2": bz2.compress,
    "zstd": zstandard.compress,
}
each_format = pytest.mark.parametrize(("kind", "pack"), FORMATS.items(), ids=FORMATS)


@each_format
def test_each_format_is_known_by_its_magic_and_comes_back(kind: str, pack: Pack) -> None:
    packed = pack(TEXT)
    assert compression_of(packed) == kind
    assert decompress(packed, name="x") == TEXT


@each_format
def test_a_file_opens_whatever_its_name_is(kind: str, pack: Pack, tmp_path: Path) -> None:
    path = tmp_path / f"not-{kind}.txt"
    path.write_bytes(pack(TEXT))
    with open_decompressed(path) as stream:
        assert stream.read(10) == TEXT[:10]
        assert stream.read() == TEXT[10:]


@each_format
def test_streams_one_after_the_other_are_one(kind: str, pack: Pack) -> None:
    assert decompress(pack(b"one") + pack(b"two"), name=kind) == b"onetwo"


@each_format
def test_zeros_after_the_end_are_padding(kind: str, pack: Pack) -> None:
    assert decompress(pack(TEXT) + bytes(512), name=kind) == TEXT


@each_format
def test_something_else_after_the_end_is_damage(kind: str, pack: Pack) -> None:
    with pytest.raises(UserError, match="something else follows"):
        decompress(pack(TEXT) + b"tail", name=kind)


@each_format
def test_a_length_after_the_end_is_ignored_where_asked(kind: str, pack: Pack) -> None:
    assert decompress(pack(TEXT) + b"\x10\x20\x30\x40", name=kind, whole=False) == TEXT


@each_format
def test_a_stream_cut_anywhere_is_an_error_not_a_short_file(kind: str, pack: Pack) -> None:
    packed = pack(TEXT)
    known_from = next(n for n in range(1, 10) if compression_of(packed[:n]))
    for length in range(known_from, len(packed)):
        with pytest.raises(UserError, match="damaged"):
            decompress(packed[:length], name=kind)


@each_format
def test_a_bomb_stops_at_the_limit(kind: str, pack: Pack) -> None:
    bomb = pack(bytes(2 << 20))
    with pytest.raises(UserError, match="more than 1000000 bytes"):
        decompress(bomb, name=kind, limit_b=1_000_000)


def test_exactly_the_limit_is_allowed() -> None:
    assert decompress(gzip.compress(TEXT), name="x", limit_b=len(TEXT)) == TEXT


def test_a_flipped_bit_is_damage() -> None:
    packed = bytearray(lzma.compress(TEXT))
    packed[len(packed) // 2] ^= 1
    with pytest.raises(UserError, match="damaged xz"):
        decompress(bytes(packed), name="x")


@pytest.mark.parametrize("magic", [b"\x02\x21\x4c\x18", b"\x04\x22\x4d\x18", b"\x89LZO\0\r\n"])
def test_what_cannot_be_read_is_named(magic: bytes) -> None:
    with pytest.raises(UserError, match=r"compressed with lz.*cannot be read here"):
        decompress(magic + b"rest", name="x")


def test_a_missing_file_is_the_persons_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        open_decompressed(tmp_path / "none")


def test_closing_the_stream_closes_the_source() -> None:
    for data in (b"plain", gzip.compress(b"packed")):
        source = io.BytesIO(data)
        decompressed_stream(source, name="x").close()
        assert source.closed


@given(st.binary(max_size=2000))
def test_what_is_not_compressed_comes_out_as_it_is(data: bytes) -> None:
    if compression_of(data) is None:
        assert decompress(data, name="x") == data


@given(kind=st.sampled_from(sorted(FORMATS)), rest=st.binary(max_size=200))
def test_garbage_after_a_magic_is_our_error_or_data(kind: str, rest: bytes) -> None:
    magic = FORMATS[kind](b"")[:6]
    with contextlib.suppress(UserError):
        assert isinstance(decompress(magic + rest, name="x"), bytes)
