"""A kernel image read without booting it: release, build-id, BTF, the config that it carries."""

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from harness.kernel import btf
from harness.kernel.formats import Form, Recognised, recognise
from harness.model.arch import Arch
from harness.model.errors import UserError
from harness.packages.compression import compression_of, decompress

_FILE_LIMIT_B = 2 << 30
_KERNEL_LIMIT_B = 1 << 30
_UNREADABLE = ("lz4", "lz4 frame", "lzo")

# Linux version 6.1.0-56-arm64 (debian-kernel@lists.debian.org) (gcc-12 (Debian … #1 SMP Debian …
_BANNER = re.compile(rb"Linux version (?P<release>[!-~]{1,64}) \([^\x00\n]{1,600}")
_RELEASE = re.compile(r"[0-9]+\.[0-9]+[!-.0-~]*")
# A note: name size 4, content size 20, type 3 (NT_GNU_BUILD_ID), "GNU".
_BUILD_ID_NOTE = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0"
_BUILD_ID_B = 20
_VDSO_HEADERS_B = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What an image says of itself."""

    arch: Arch
    form: Form
    release: str
    """What `uname -r` will print."""
    banner: str
    """The whole `Linux version …` line."""
    build_id: str
    """GNU build-id in hex; "" when none was found."""
    btf: bytes | None
    config: bytes | None
    """The `.config` it was built with; None without CONFIG_IKCONFIG."""
    kernel: bytes
    """The kernel out of its container: an ELF file or a raw Image; b"" when it cannot be read."""


def read_image(path: Path) -> ImageFacts:
    """Read a bootable image: bzImage, Image (also gzip'd), EFI zboot image, vmlinux.

    Raises UserError when it cannot be read, is not a kernel, or is cut short.
    """
    try:
        if path.stat().st_size > _FILE_LIMIT_B:
            raise UserError(f"{path}: too large for a kernel image ({path.stat().st_size} bytes)")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return parse_image(data, str(path))


def parse_image(data: bytes, name: str) -> ImageFacts:
    """The same for bytes; `name` stands for the file in messages."""
    if compression_of(data) is not None:
        data = _unpacked(data, name)
    seen = recognise(data, name)
    kernel = data if seen.payload is None else _inner_kernel(data, seen, name)
    banner = _banner(kernel)
    place = btf.find_btf(kernel)
    release = seen.release or (banner["release"].decode() if banner else "")
    if not release:
        raise UserError(f"{name}: not a kernel image: there is no 'Linux version' in it")
    if not _RELEASE.fullmatch(release):
        raise UserError(f"{name}: a kernel image whose release cannot be read: {release!r}")
    return ImageFacts(
        arch=seen.arch,
        form=seen.form,
        release=release,
        banner=banner[0].decode("ascii", "replace") if banner else "",
        build_id=_build_id(kernel, place[0] if place else None),
        btf=kernel[slice(*place)] if place else None,
        config=_ikconfig(kernel, name),
        kernel=kernel,
    )


def _inner_kernel(data: bytes, seen: Recognised, name: str) -> bytes:
    """Return the kernel out of its container; b"" when it is packed in a way that we cannot read.

    QEMU boots such a kernel all the same, when its header names a release.
    """
    begin, end = seen.payload or (0, 0)
    if seen.release and compression_of(data[begin : begin + 16]) in _UNREADABLE:
        return b""
    kernel = _unpacked(data[begin:end], name)
    inner = recognise(kernel, f"the kernel inside {name}")
    if inner.payload is not None or inner.arch is not seen.arch:
        raise UserError(f"{name}: holds a {inner.form} for {inner.arch}, not a kernel")
    return kernel


def _unpacked(data: bytes, name: str) -> bytes:
    # `whole` is false: the kernel's build appends the unpacked size to most formats.
    return decompress(data, name=name, limit_b=_KERNEL_LIMIT_B, whole=False)


def _banner(kernel: bytes) -> re.Match[bytes] | None:
    """The longest: a linker script's copy of it may lack the build's number and date."""
    return max(_BANNER.finditer(kernel), key=lambda match: len(match[0]), default=None)


def _build_id(kernel: bytes, btf_at: int | None) -> str:
    """The kernel's own note, not a vDSO's: those follow closely on an ELF header.

    `.notes` lies right before `.BTF` (RO_DATA in include/asm-generic/vmlinux.lds.h), so the last
    note before it is the best.
    """
    found = ""
    at = kernel.find(_BUILD_ID_NOTE)
    while at >= 0 and (btf_at is None or at < btf_at):
        elf_at = kernel.rfind(b"\x7fELF", max(0, at - _VDSO_HEADERS_B), at)
        if elf_at < 0:
            begin = at + len(_BUILD_ID_NOTE)
            found = kernel[begin : begin + _BUILD_ID_B].hex()
        at = kernel.find(_BUILD_ID_NOTE, at + 1)
    return found


def _ikconfig(kernel: bytes, name: str) -> bytes | None:
    begin = kernel.find(b"IKCFG_ST\x1f\x8b")
    end = kernel.find(b"IKCFG_ED", begin)
    if begin < 0 or end < 0:
        return None
    with contextlib.suppress(UserError):  # then it is not known, and the kernel may still boot
        return _unpacked(kernel[begin + 8 : end], f"the config in {name}")
    return None
