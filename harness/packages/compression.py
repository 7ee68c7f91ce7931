"""Compressed data by its magic: bounded, streaming, and with one kind of error for all formats.

The one door to `zstandard`. What is decompressed comes from strangers: the output has a limit, a
decoder may not ask for unbounded memory, and a stream that ends early is damage, never a short
file.
"""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from harness.model.errors import UserError

GIB = 1 << 30
_CHUNK_B = 1 << 16
# One RLE block of zstd makes 128 KiB out of 4 bytes, and its decoder takes no limit on output:
# little bites of input keep one step's output below 32 MiB.
_ZSTD_BITE_B = 1 << 10
_MEMORY_B = 1 << 29  # for a decoder's dictionary; xz -9 wants 65 MiB, zstd --ultra -22 128 MiB
_HEAD_B = 6

_MAGICS = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x04\x22\x4d\x18", "lz4 frame"),
    (b"\x89LZO", "lzo"),
)


class _Decoder(Protocol):
    """The shape of `lzma.LZMADecompressor`, which the others are brought into."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gunzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)  # 31: with gzip's header and its checksum

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _Unzstd:
    def __init__(self) -> None:
        inner = zstandard.ZstdDecompressor(max_window_size=_MEMORY_B)
        self._inner = inner.decompressobj()
        self._input = memoryview(b"")
        self._output = b""

    @property
    def eof(self) -> bool:
        return self._inner.eof and not self._output

    @property
    def needs_input(self) -> bool:
        return not (self._input or self._output)

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data + bytes(self._input)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if data:
            self._input = memoryview(bytes(self._input) + data)
        while self._input and not self._output and not self._inner.eof:
            bite, self._input = self._input[:_ZSTD_BITE_B], self._input[_ZSTD_BITE_B:]
            self._output = self._inner.decompress(bite)
        piece, self._output = self._output[:max_length], self._output[max_length:]
        return piece


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gzip": _Gunzip,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY_B),
    "lzma": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MEMORY_B),
    "bzip2": bz2.BZ2Decompressor,
    "zstd": _Unzstd,
}


def compression_of(head: bytes) -> str | None:
    """Name the compression of data that begins with `head`; None when it is none that we know.

    Also names what cannot be decompressed here: `lz4`, `lz4 frame`, `lzo`.
    """
    return next((name for magic, name in _MAGICS if head.startswith(magic)), None)


class _Decompressed(io.RawIOBase):
    """A readable stream over a compressed one."""

    def __init__(
        self, source: BinaryIO, kind: str, head: bytes, *, name: str, limit_b: int, whole: bool
    ) -> None:
        self._source = source
        self._kind = kind
        self._head = head
        self._name = name
        self._left_b = limit_b
        self._limit_b = limit_b
        self._whole = whole
        self._decoder = _DECODERS[kind]()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._source.close()
        super().close()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._next(len(buffer))
        except (zlib.error, lzma.LZMAError, zstandard.ZstdError, ValueError, EOFError) as error:
            raise self._damaged(str(error)) from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise self._damaged(str(error)) from error  # bz2 has no error class of its own
        self._left_b -= len(data)
        if self._left_b < 0:
            raise UserError(f"{self._name}: decompresses to more than {self._limit_b} bytes")
        buffer[: len(data)] = data
        return len(data)

    def _next(self, wanted_b: int) -> bytes:
        while True:
            if self._decoder.eof and not self._restart():
                return b""
            fed = self._feed() if self._decoder.needs_input else b""
            starved = self._decoder.needs_input and not fed
            data = self._decoder.decompress(fed, wanted_b)
            if data:
                return data
            if starved and not self._decoder.eof:
                raise self._damaged("it ends before its end mark: truncated")

    def _feed(self) -> bytes:
        if self._head:
            fed, self._head = self._head, b""
            return fed
        return self._source.read(_CHUNK_B)

    def _restart(self) -> bool:
        """After the end of one stream: begin the next one, or say that there is none."""
        if not self._whole:
            return False
        rest = self._decoder.unused_data + self._head
        rest = (rest or self._source.read(_CHUNK_B)).lstrip(b"\0")  # tapes and xz pad with zeros
        while len(rest) < _HEAD_B and (more := self._source.read(_CHUNK_B)):
            rest = (rest + more).lstrip(b"\0")
        if not rest:
            return False
        if compression_of(rest) != self._kind:
            raise self._damaged("something else follows its end mark")
        self._decoder, self._head = _DECODERS[self._kind](), rest
        return True

    def _damaged(self, why: str) -> UserError:
        return UserError(f"{self._name}: damaged {self._kind} data ({why})")


def decompressed_stream(
    source: BinaryIO, *, name: str, limit_b: int = 8 * GIB, whole: bool = True
) -> BinaryIO:
    """Return a stream of what `source` holds, decompressed; as it is when it is not compressed.

    `name` stands for it in messages. With `whole` false, what follows the first compressed stream
    is ignored (the kernel appends a length to its payload). Reading raises UserError for damage,
    a truncated stream, or more than `limit_b` bytes. Closing it closes `source`.
    """
    head = _read_head(source)
    kind = compression_of(head)
    if kind is None:
        return io.BufferedReader(_Prefixed(head, source), _CHUNK_B)
    if kind not in _DECODERS:
        raise UserError(f"{name}: compressed with {kind}, which cannot be read here")
    stream = _Decompressed(source, kind, head, name=name, limit_b=limit_b, whole=whole)
    return io.BufferedReader(stream, _CHUNK_B)


def open_decompressed(path: Path, *, limit_b: int = 8 * GIB, whole: bool = True) -> BinaryIO:
    """Open a file by its magic: see `decompressed_stream`. Raises UserError when it cannot be."""
    try:
        source = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return decompressed_stream(source, name=str(path), limit_b=limit_b, whole=whole)
    except BaseException:
        source.close()
        raise


def decompress(data: bytes, *, name: str, limit_b: int = GIB, whole: bool = True) -> bytes:
    """The same for bytes in memory. Raises UserError."""
    with decompressed_stream(io.BytesIO(data), name=name, limit_b=limit_b, whole=whole) as stream:
        return stream.read()


class _Prefixed(io.RawIOBase):
    """A stream whose first bytes were already taken from it."""

    def __init__(self, head: bytes, source: BinaryIO) -> None:
        self._head = head
        self._source = source

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._source.close()
        super().close()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._head[: len(buffer)] or self._source.read(len(buffer))
        self._head = self._head[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


def _read_head(source: BinaryIO) -> bytes:
    head = b""
    while len(head) < _HEAD_B and (more := source.read(_HEAD_B - len(head))):
        head += more
    return head
