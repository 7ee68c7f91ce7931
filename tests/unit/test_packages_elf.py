"""ELF files of strangers: what they say, and that a damaged one never gets through as an oddity."""

import contextlib
import gzip
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.model.errors import HarnessError, UserError
from harness.packages import elf
from tests.fakes import packages as fake

PROGRAM = fake.elf(
    {".text": b"\xc3"},
    machine=183,
    needed=("libelf.so.1", "libc.so.6"),
    run_path="$ORIGIN/../lib:/opt/lib",
    loader="/lib/ld-linux-aarch64.so.1",
    build_id=bytes(range(20)),
)
MODULE = fake.module(
    "btrfs_sample",
    depends="xor,raid6_pq,zstd-compress",
    vermagic="6.1.0-37-amd64 SMP preempt mod_unload modversions ",
    softdep=("pre: crc32c xxhash64", "pre: blake2b-256 post: hdmi"),
    alias=("fs-btrfs", "devname:btrfs-control"),
    import_ns="CRYPTO_INTERNAL",
    license="GPL",
)
READERS: tuple[Callable[[Path], object], ...] = (
    elf.elf_machine,
    elf.needed_libraries,
    elf.runpath,
    elf.soname,
    elf.interpreter,
    elf.build_id,
    elf.section_headers,
    elf.module_info,
    lambda path: elf.section_bytes(path, ".text"),
)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write_file(data: bytes, name: str = "file") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write_file


def test_a_program_says_what_it_needs(write: Callable[..., Path]) -> None:
    path = write(PROGRAM)
    assert elf.elf_machine(path) == "EM_AARCH64"
    assert elf.needed_libraries(path) == ("libelf.so.1", "libc.so.6")
    assert elf.runpath(path) == ("$ORIGIN/../lib", "/opt/lib")
    assert elf.interpreter(path) == "/lib/ld-linux-aarch64.so.1"
    assert elf.build_id(path) == bytes(range(20)).hex()
    assert elf.section_bytes(path, ".text") == b"\xc3"
    assert elf.section_bytes(path, ".BTF") is None


def test_a_static_program_needs_nothing(write: Callable[..., Path]) -> None:
    path = write(fake.elf({".text": b"\xc3"}))
    assert elf.needed_libraries(path) == ()
    assert elf.interpreter(path) is None
    assert elf.build_id(path) == ""
    assert elf.soname(path) is None


def test_the_running_python_is_a_real_program() -> None:
    path = Path(sys.executable).resolve()
    assert elf.elf_machine(path) in ("EM_X86_64", "EM_AARCH64")
    assert any(name.startswith("libc.") for name in elf.needed_libraries(path))


def test_a_script_has_no_machine_and_is_refused_elsewhere(write: Callable[..., Path]) -> None:
    path = write(b"#!/bin/sh\n")
    assert elf.elf_machine(path) is None
    with pytest.raises(UserError, match="not an ELF file"):
        elf.needed_libraries(path)


def test_an_empty_file_and_a_missing_one_are_told_apart(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    assert elf.elf_machine(write(b"")) is None
    with pytest.raises(UserError, match="cannot be read"):
        elf.elf_machine(tmp_path / "none")


def test_a_module_says_what_must_be_loaded_first(write: Callable[..., Path]) -> None:
    info = elf.module_info(write(MODULE, "btrfs-sample.ko"))
    assert info.name == "btrfs_sample"
    assert info.depends == ("xor", "raid6_pq", "zstd_compress")
    assert info.soft_pre == ("crc32c", "xxhash64", "blake2b-256")
    assert info.soft_post == ("hdmi",)
    assert info.vermagic == "6.1.0-37-amd64 SMP preempt mod_unload modversions"
    assert info.aliases == ("fs-btrfs", "devname:btrfs-control")
    assert info.import_ns == ("CRYPTO_INTERNAL",)
    assert info.license == "GPL"


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [(".gz", gzip.compress), (".xz", lzma.compress), (".zst", zstandard.compress)],
)
def test_a_compressed_module_reads_the_same(
    write: Callable[..., Path], suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    plain = elf.module_info(write(MODULE, "x.ko"))
    assert elf.module_info(write(pack(MODULE), f"x.ko{suffix}")) == plain


def test_a_module_without_a_name_is_called_as_its_file(write: Callable[..., Path]) -> None:
    path = write(fake.elf({".modinfo": b"license=GPL\0depends=\0"}), "crc32c-intel.ko")
    info = elf.module_info(path)
    assert info.name == "crc32c_intel"
    assert info.depends == ()


def test_a_program_is_not_a_module(write: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"no \.modinfo"):
        elf.module_info(write(PROGRAM))


def test_a_section_cut_short_is_an_error_not_a_short_section(write: Callable[..., Path]) -> None:
    table_at = int.from_bytes(PROGRAM[40:48], "little")
    grown = bytearray(PROGRAM)
    text_header = table_at + 64
    grown[text_header + 32 : text_header + 40] = (1 << 20).to_bytes(8, "little")
    with pytest.raises(UserError, match="truncated"):
        elf.section_bytes(write(bytes(grown)), ".text")


def test_a_section_that_claims_to_be_huge_costs_no_memory(write: Callable[..., Path]) -> None:
    table_at = int.from_bytes(PROGRAM[40:48], "little")
    for kind in (1, 8):  # SHT_PROGBITS, SHT_NOBITS
        hostile = bytearray(PROGRAM)
        hostile[table_at + 64 + 4 : table_at + 64 + 8] = kind.to_bytes(4, "little")
        hostile[table_at + 64 + 32 : table_at + 64 + 40] = (1 << 60).to_bytes(8, "little")
        path = write(bytes(hostile))
        if kind == 8:
            assert elf.section_bytes(path, ".text") == b""
        else:
            with pytest.raises(UserError, match="says it has"):
                elf.section_bytes(path, ".text")


@pytest.mark.parametrize("whole", [PROGRAM, MODULE, lzma.compress(MODULE)], ids=["p", "m", "xz"])
def test_no_cut_brings_another_error_than_ours(whole: bytes, write: Callable[..., Path]) -> None:
    for length in range(0, len(whole), 43):
        path = write(whole[:length])
        for read in READERS:
            with contextlib.suppress(HarnessError):
                read(path)


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    spots=st.lists(
        st.tuples(st.integers(0, len(PROGRAM) - 1), st.integers(0, 255)), min_size=1, max_size=6
    )
)
def test_no_flipped_byte_brings_another_error_than_ours(
    spots: list[tuple[int, int]], write: Callable[..., Path]
) -> None:
    damaged = bytearray(PROGRAM)
    for position, value in spots:
        damaged[position] = value
    path = write(bytes(damaged))
    for read in READERS:
        with contextlib.suppress(HarnessError):
            read(path)


@given(st.binary(max_size=300))
def test_any_modinfo_is_read(raw: bytes) -> None:
    info = elf.parse_modinfo(raw, fallback_name="x")
    assert all(isinstance(value, str) for pair in info.fields for value in pair)
