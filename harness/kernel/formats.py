"""What a kernel image file is, told from its headers; pure functions over the file's bytes.

Layouts: Documentation/arch/x86/boot.rst, Documentation/arch/arm64/booting.rst,
drivers/firmware/efi/libstub/zboot-header.S.
"""

import struct
from dataclasses import dataclass
from enum import StrEnum

from harness.model.arch import Arch
from harness.model.errors import UserError
from harness.packages.compression import compression_of

_HDRS_AT = 0x202
_ARM64_MAGIC_AT = 56
_ELF_MACHINES = {62: Arch.X86_64, 183: Arch.AARCH64}
_PE_MACHINES = {0x8664: Arch.X86_64, 0xAA64: Arch.AARCH64}
_OTHER_ELF_MACHINES = {3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390", 40: "arm"} | {
    243: "riscv",
    258: "loongarch",
    247: "bpf",
}

_LOOKS_LIKE = (
    (b"!<arch>\ndebian-binary", "a Debian package (.deb)"),
    (b"\xed\xab\xee\xdb", "an RPM package"),
    (b"070701", "a cpio archive, perhaps an initramfs"),
    (b"070702", "a cpio archive, perhaps an initramfs"),
    (b"hsqs", "a squashfs image"),
    (b"QFI\xfb", "a qcow2 disk image"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\xd0\x0d\xfe\xed", "a device tree blob"),
    (b"MZ", "an EFI program, and no Linux kernel"),
    (b"#!", "a script"),
)
"""First bytes of what people give by mistake, and what to call it."""


class Form(StrEnum):
    """The container that a kernel comes in."""

    BZIMAGE = "bzImage"
    IMAGE = "Image"
    ZBOOT = "EFI zboot image"
    VMLINUX = "vmlinux"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """A kernel by its headers alone."""

    form: Form
    arch: Arch
    payload: tuple[int, int] | None
    """Where the compressed kernel lies, begin and end; None when the file is the kernel."""
    release: str = ""
    """The release that the header names; "" where the header has none (all but bzImage)."""


_WANTED = "wanted: bzImage or vmlinuz (x86_64), Image, Image.gz or vmlinuz.efi (aarch64)"


def recognise(data: bytes, name: str) -> Recognised:
    """Tell what kernel image this is; `name` stands for the file in messages.

    Raises UserError for what is no kernel, is a kernel of an architecture not known here, or was
    cut short.
    """
    if not data:
        raise UserError(f"{name}: the file is empty", hint=_WANTED)
    if data[_HDRS_AT : _HDRS_AT + 4] == b"HdrS":
        return _bzimage(data, name)
    if data[_ARM64_MAGIC_AT : _ARM64_MAGIC_AT + 4] == b"ARM\x64":
        _check_pe_is_whole(data, name)
        return Recognised(form=Form.IMAGE, arch=Arch.AARCH64, payload=None)
    if data.startswith(b"MZ") and data[4:8] == b"zimg":
        return _zboot(data, name)
    if data.startswith(b"\x7fELF"):
        return _vmlinux(data, name)
    raise UserError(
        f"{name}: not a kernel image; it looks like {looks_like(data)}",
        hint=_WANTED,
    )


def looks_like(data: bytes) -> str:
    """Return words for what the bytes seem to be; for messages."""
    for magic, words in _LOOKS_LIKE:
        if data.startswith(magic):
            return words
    if (packed := compression_of(data)) is not None:
        return f"{packed}-compressed data"
    if data[257:262] == b"ustar":
        return "a tar archive"
    if data[0x438:0x43A] == b"\x53\xef":
        return "an ext4 file system"
    head = data[:512]
    if all(byte in b"\t\n\r\f\x1b" or byte >= 0x20 for byte in head):
        return "a text file"
    return f"data that begins with {head[:8].hex(' ')}"


def _cut_short(name: str, have: int, want: int) -> UserError:
    return UserError(
        f"{name}: the kernel image is cut short: {have} bytes of at least {want}",
        hint="copy or fetch the file again",
    )


def _bzimage(data: bytes, name: str) -> Recognised:
    if len(data) < 0x260:
        raise _cut_short(name, len(data), 0x260)
    setup_sectors = data[0x1F1] or 4  # boot.rst: "if 0, the real value is 4"
    (paragraphs,) = struct.unpack_from("<I", data, 0x1F4)
    protocol, _, _, version_at = struct.unpack_from("<HIHH", data, 0x206)
    body = (setup_sectors + 1) * 512
    if len(data) < body + paragraphs * 16:
        raise _cut_short(name, len(data), body + paragraphs * 16)
    if protocol < 0x020C:  # the first with xloadflags, Linux 3.8
        raise UserError(f"{name}: its boot protocol {protocol >> 8}.{protocol & 255:02} is too old")
    (load_flags,) = struct.unpack_from("<H", data, 0x236)
    if not load_flags & 1:
        raise UserError(f"{name}: a kernel for i386", hint="kernels for x86_64 are tested here")
    offset, length = struct.unpack_from("<II", data, 0x248)
    begin = body + offset
    if not length or begin + length > len(data):
        raise _cut_short(name, len(data), begin + length)
    banner = data[0x200 + version_at :][:256].split(b"\0")[0] if version_at else b""
    return Recognised(
        form=Form.BZIMAGE,
        arch=Arch.X86_64,
        payload=(begin, begin + length),
        release=banner.decode("ascii", "replace").partition(" ")[0],
    )


def _zboot(data: bytes, name: str) -> Recognised:
    if len(data) < 64:
        raise _cut_short(name, len(data), 64)
    offset, size = struct.unpack_from("<II", data, 8)
    if not size or offset + size > len(data):
        raise _cut_short(name, len(data), offset + size)
    machine = _pe_machine(data)
    if machine not in _PE_MACHINES:
        raise UserError(f"{name}: an EFI zboot kernel for an unknown machine 0x{machine:04x}")
    return Recognised(form=Form.ZBOOT, arch=_PE_MACHINES[machine], payload=(offset, offset + size))


def _vmlinux(data: bytes, name: str) -> Recognised:
    if len(data) < 64:
        raise _cut_short(name, len(data), 64)
    kind, machine = struct.unpack_from("<HH", data, 16)
    if data[4:6] != b"\x02\x01" or machine not in _ELF_MACHINES:
        what = _OTHER_ELF_MACHINES.get(machine, f"machine {machine}")
        raise UserError(f"{name}: an ELF file for {what}", hint="known: x86_64, aarch64")
    # vmlinux is ET_EXEC, or ET_DYN with a relocatable arm64 kernel; a module is ET_REL.
    if kind == 1:
        raise UserError(f"{name}: a kernel module or an object file, not a kernel")
    (program_at,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    if size < 56 or program_at + size * count > len(data):
        raise _cut_short(name, len(data), program_at + size * count)
    for index in range(count):
        at = program_at + size * index
        (segment,) = struct.unpack_from("<I", data, at)
        offset, _, _, file_size = struct.unpack_from("<QQQQ", data, at + 8)
        if segment == 3:
            raise UserError(f"{name}: a program of user space, not a kernel")
        if offset + file_size > len(data):
            raise _cut_short(name, len(data), offset + file_size)
    return Recognised(form=Form.VMLINUX, arch=_ELF_MACHINES[machine], payload=None)


def _pe_machine(data: bytes) -> int:
    """Return the machine of the EFI stub's header, 0 where there is no such header."""
    if len(data) < 0x40:
        return 0
    (at,) = struct.unpack_from("<I", data, 0x3C)
    if data[at : at + 4] != b"PE\0\0" or at + 24 > len(data):
        return 0
    return int.from_bytes(data[at + 4 : at + 6], "little")


def _check_pe_is_whole(data: bytes, name: str) -> None:
    """Raise UserError when a section of the EFI stub's header lies beyond the end of the file.

    Image's own `image_size` counts the memory that is cleared at boot: no measure of the file.
    """
    if not data.startswith(b"MZ") or _pe_machine(data) == 0:
        return
    (at,) = struct.unpack_from("<I", data, 0x3C)
    (count,) = struct.unpack_from("<H", data, at + 6)
    (optional,) = struct.unpack_from("<H", data, at + 20)
    for index in range(count):
        header = at + 24 + optional + 40 * index
        if header + 40 > len(data):
            raise _cut_short(name, len(data), header + 40)
        size, offset = struct.unpack_from("<II", data, header + 16)
        if offset + size > len(data):
            raise _cut_short(name, len(data), offset + size)
