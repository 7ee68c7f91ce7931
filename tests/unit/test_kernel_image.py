"""Images read without booting them: what they are, what they hold, and what is no kernel."""

import bz2
import contextlib
import gzip
import lzma
import struct
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.kernel.btf import Btf, Kind, find_btf
from harness.kernel.formats import Form, looks_like
from harness.kernel.image import parse_image
from harness.model.arch import Arch
from harness.model.errors import HarnessError, KernelError, UserError
from tests.fakes import kernels
from tests.fakes import packages as fake

RELEASE = "6.1.0-56-amd64"
FORMS: tuple[tuple[Callable[..., bytes], Arch, Form], ...] = (
    (kernels.bzimage, Arch.X86_64, Form.BZIMAGE),
    (kernels.vmlinux, Arch.X86_64, Form.VMLINUX),
    (kernels.image, Arch.AARCH64, Form.IMAGE),
    (kernels.zboot, Arch.AARCH64, Form.ZBOOT),
)


@pytest.mark.parametrize(("make", "arch", "form"), FORMS)
def test_every_form_gives_release_build_id_types_and_config(
    make: Callable[..., bytes], arch: Arch, form: Form
) -> None:
    facts = parse_image(make(RELEASE, config=b"CONFIG_BPF=y\n"), "vmlinuz")
    assert (facts.arch, facts.form, facts.release) == (arch, form, RELEASE)
    assert facts.btf == kernels.SMALL_BTF
    assert facts.config == b"CONFIG_BPF=y\n"
    assert facts.build_id == kernels.BUILD_ID.hex()
    assert facts.banner.startswith(f"Linux version {RELEASE} (me@example.org)")


def test_a_gzipped_image_is_an_image() -> None:
    facts = parse_image(gzip.compress(kernels.image(RELEASE)), "Image.gz")
    assert (facts.form, facts.release) == (Form.IMAGE, RELEASE)


def test_a_kernel_packed_in_a_way_that_we_cannot_read_still_has_its_release() -> None:
    whole = bytearray(kernels.bzimage(RELEASE))
    whole[1024:1028] = b"\x02\x21\x4c\x18"  # lz4, in its legacy format
    facts = parse_image(bytes(whole), "vmlinuz")
    assert (facts.release, facts.btf, facts.kernel) == (RELEASE, None, b"")


def test_a_kernel_without_btf_and_config_says_so() -> None:
    facts = parse_image(kernels.bzimage(RELEASE, types=b""), "vmlinuz")
    assert facts.btf is None
    assert facts.config is None
    assert facts.build_id == kernels.BUILD_ID.hex()


def test_the_build_id_of_a_vdso_is_not_the_kernels() -> None:
    assert parse_image(kernels.image(RELEASE, build_id=False), "Image").build_id == ""


def test_a_damaged_config_inside_is_an_unknown_config() -> None:
    whole = kernels.image(RELEASE, config=b"CONFIG_BPF=y\n" * 40)
    at = whole.index(b"IKCFG_ST") + 30
    damaged = whole[:at] + b"\xff" * 8 + whole[at + 8 :]
    assert parse_image(damaged, "Image").config is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (fake.deb(fake.tar()), "a Debian package"),
        (b"\xed\xab\xee\xdb" + bytes(90), "an RPM package"),
        (b"070701" + b"0" * 104, "a cpio archive"),
        (fake.tar(fake.tar_member("a")), "a tar archive"),
        (b"#!/bin/sh\n", "a script"),
        (b"# Linux/x86 6.1.0 Kernel Configuration\nCONFIG_BPF=y\n", "a text file"),
        (b"MZ" + bytes(200), "an EFI program"),
        (bytes(2000), "data that begins with 00 00"),
        (bytes(0x438) + b"\x53\xef" + bytes(90), "an ext4 file system"),
        (gzip.compress(b"070701" + b"0" * 104), "a cpio archive"),
        (lzma.compress(b"text\n"), "a text file"),
        (bz2.compress(fake.tar(fake.tar_member("a"))), "a tar archive"),
    ],
)
def test_what_is_no_kernel_is_called_by_its_name(data: bytes, words: str) -> None:
    with pytest.raises(UserError, match=r"^x: ") as caught:
        parse_image(data, "x")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (fake.elf({".text": b"\xc3"}, loader="/lib/ld.so"), "a program of user space"),
        (fake.elf({".text": b"\xc3"}), "no 'Linux version'"),
        (fake.elf({".text": b"\xc3"}, machine=22), "an ELF file for s390"),
        (kernels.bzimage(RELEASE, loader_flags=0), "i386"),
        (kernels.bzimage(RELEASE, body=kernels.image(RELEASE)), "holds a Image for aarch64"),
        (kernels.bzimage("not a release"), "release cannot be read: 'not'"),
    ],
)
def test_what_is_nearly_a_kernel_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_image(data, "x")
    assert words in str(caught.value)


def test_a_module_is_not_a_kernel() -> None:
    module = bytearray(fake.module())
    struct.pack_into("<H", module, 16, 1)  # ET_REL, as real modules are
    with pytest.raises(UserError, match="module"):
        parse_image(bytes(module), "x.ko")


@pytest.mark.parametrize("make", [kernels.bzimage, kernels.image, kernels.zboot])
@pytest.mark.parametrize("kept", [0.8, 0.9, 0.999])
def test_a_cut_image_is_called_cut_short(make: Callable[..., bytes], kept: float) -> None:
    data = make(RELEASE)
    with pytest.raises(UserError, match=r"cut short|truncated"):
        parse_image(data[: int(len(data) * kept)], "vmlinuz")


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=150)
@given(
    make=st.sampled_from([make for make, _, _ in FORMS]),
    at=st.integers(0, 1200),
    junk=st.binary(min_size=1, max_size=8),
    cut=st.integers(0, 8000),
)
def test_a_damaged_image_is_read_or_refused_and_never_a_traceback(
    make: Callable[..., bytes], at: int, junk: bytes, cut: int
) -> None:
    data = make(RELEASE)
    data = data[:at] + junk + data[at + len(junk) :]
    with contextlib.suppress(HarnessError):
        parse_image(data[: len(data) - cut], "vmlinuz")


@given(st.binary(max_size=600))
def test_any_bytes_have_a_description(data: bytes) -> None:
    assert looks_like(data)


def test_types_functions_and_kinds_are_read() -> None:
    blob = Btf(kernels.SMALL_BTF)
    assert blob.kinds() == {Kind.INT, Kind.STRUCT, Kind.FUNC_PROTO, Kind.FUNC}
    assert blob.names(Kind.FUNC) == {"tcp_slow_start"}
    assert blob.names(Kind.STRUCT) == {"task_struct"}


def test_a_kind_of_the_future_ends_the_walk_and_is_told() -> None:
    blob = Btf(kernels.btf([(1, "int", 0, bytes(4)), (25, "new", 0, b""), (12, "f", 0, b"")]))
    assert blob.kinds() == {1, 25}


def test_the_largest_blob_is_the_kernels() -> None:
    small = kernels.btf([(12, "f", 0, b"")])
    data = bytes(12) + small + bytes(7) + kernels.SMALL_BTF + small
    assert find_btf(data) == (19 + len(small), 19 + len(small) + len(kernels.SMALL_BTF))


def test_a_header_whose_parts_lie_outside_is_no_btf() -> None:
    assert find_btf(kernels.SMALL_BTF[:-1]) is None
    with pytest.raises(KernelError, match="cut short"):
        Btf(kernels.SMALL_BTF[:-1])


@given(at=st.integers(0, len(kernels.SMALL_BTF) - 1), value=st.integers(0, 255))
def test_damaged_btf_is_read_or_refused(at: int, value: int) -> None:
    data = bytearray(kernels.SMALL_BTF)
    data[at] = value
    with contextlib.suppress(KernelError):
        blob = Btf(bytes(data))
        blob.kinds()
        blob.names(Kind.FUNC)
