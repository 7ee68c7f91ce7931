"""Kernel images made by hand: headers as the boot protocols have them, and no code."""

import gzip
import lzma
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.model.arch import Arch
from tests.fakes import packages as fake

BUILD_ID = bytes(range(20))
VDSO_BUILD_ID = b"\xee" * 20
_NOTE = struct.pack("<III4s", 4, 20, 3, b"GNU\0")


def banner(release: str) -> bytes:
    return f"Linux version {release} (me@example.org) (gcc 12) #1 SMP 2026-11-16\n".encode()


def btf(types: Sequence[tuple[int, str, int, bytes]] = ()) -> bytes:
    """A BTF blob of (kind, name, vlen, tail) types."""
    strings, records = b"\0", b""
    for kind, name, members, tail in types:
        records += struct.pack("<III", len(strings) if name else 0, kind << 24 | members, 4) + tail
        strings += name.encode() + b"\0" if name else b""
    sizes = (0, len(records), len(records), len(strings))
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, *sizes) + records + strings


SMALL_BTF = btf(
    [
        (1, "int", 0, struct.pack("<I", 32)),
        (4, "task_struct", 1, struct.pack("<III", 0, 1, 0)),
        (13, "", 2, struct.pack("<IIII", 0, 1, 0, 1)),
        (12, "tcp_slow_start", 0, b""),
    ]
)


def kernel_data(
    release: str, *, types: bytes = SMALL_BTF, config: bytes | None = None, build_id: bool = True
) -> bytes:
    """What lies somewhere in each kernel: banner, a vDSO with its own build-id, notes, BTF."""
    data = bytes(64) + banner(release) + bytes(64)
    data += b"\x7fELF" + bytes(100) + _NOTE + VDSO_BUILD_ID + bytes(5000)
    if config is not None:
        data += b"IKCFG_ST" + gzip.compress(config, mtime=0) + b"IKCFG_ED"
    if build_id:
        data += _NOTE + BUILD_ID
    return data + types + bytes(64)


def vmlinux(release: str, *, machine: int = 62, **data: object) -> bytes:
    return fake.elf({".rodata": kernel_data(release, **data)}, machine=machine)  # type: ignore[arg-type]


def bzimage(
    release: str, *, body: bytes | None = None, loader_flags: int = 1, **data: object
) -> bytes:
    """A bzImage of boot protocol 2.15 with an xz'd vmlinux, its size appended as kbuild does."""
    elf = vmlinux(release, **data) if body is None else body  # type: ignore[arg-type]
    payload = lzma.compress(elf, check=lzma.CHECK_CRC32) + struct.pack("<I", len(elf))
    payload += bytes(-len(payload) % 16)
    setup = bytearray(2 * 512)
    setup[0x1F1] = 1
    struct.pack_into("<I", setup, 0x1F4, len(payload) // 16)
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<HIHH", setup, 0x206, 0x020F, 0, 0, 0x100)
    struct.pack_into("<H", setup, 0x236, loader_flags)
    struct.pack_into("<II", setup, 0x248, 0, len(payload))
    text = f"{release} (me@example.org) #1 SMP\0".encode()
    setup[0x300 : 0x300 + len(text)] = text
    return bytes(setup) + payload


def image(release: str, *, stub: bool = True, **data: object) -> bytes:
    """A raw arm64 Image; with `stub`, the header of its EFI stub."""
    header = bytearray(0x100)
    header[56:60] = b"ARM\x64"
    body = kernel_data(release, **data)  # type: ignore[arg-type]
    if stub:
        header[0:2] = b"MZ"
        header[:] = _pe(header, 0xAA64, (len(header), len(body)))
    return bytes(header) + body


def zboot(release: str, **data: object) -> bytes:
    payload = gzip.compress(image(release, **data), mtime=0)  # type: ignore[arg-type]
    header = bytearray(0x200)
    header[0:8] = b"MZ\0\0zimg"
    struct.pack_into("<II", header, 8, len(header), len(payload))
    header[24:28] = b"gzip"
    header[:] = _pe(header, 0xAA64, (len(header), len(payload)))
    return bytes(header) + payload


def _pe(header: bytearray, machine: int, section: tuple[int, int]) -> bytearray:
    struct.pack_into("<I", header, 0x3C, 0x40)
    header[0x40:0x44] = b"PE\0\0"
    struct.pack_into("<HHIIIHH", header, 0x44, machine, 1, 0, 0, 0, 0, 0)
    offset, size = section
    struct.pack_into("<8sIIII", header, 0x58, b".text", size, offset, size, offset)
    return header


def image_of(arch: Arch, release: str, **data: object) -> bytes:
    make = bzimage if arch is Arch.X86_64 else image
    return make(release, **data)  # type: ignore[arg-type]


CONFIG = """\
#
# Automatically generated file; DO NOT EDIT.
# Linux/{kernel_arch} 6.1.0 Kernel Configuration
#
CONFIG_BLK_DEV_INITRD=y
CONFIG_BINFMT_ELF=y
CONFIG_BINFMT_SCRIPT=y
CONFIG_DEVTMPFS=y
CONFIG_TMPFS=y
CONFIG_PROC_FS=y
CONFIG_SYSFS=y
CONFIG_PRINTK=y
CONFIG_PCI=y
CONFIG_PCI_HOST_GENERIC=y
CONFIG_SERIAL_8250_CONSOLE=y
CONFIG_SERIAL_AMBA_PL011_CONSOLE=y
CONFIG_VIRTIO_PCI=m
CONFIG_VIRTIO_CONSOLE=m
CONFIG_LOCALVERSION="-x"
# CONFIG_KEXEC is not set
"""


def module_tree(root: Path, release: str, needs: Mapping[str, str], *extra: str) -> Path:
    """A folder `lib/modules/<release>` with modules by path and what they depend on.

    `extra` are lines of modules.builtin.
    """
    folder = root / "lib" / "modules" / release
    for path, depends in needs.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        name = file.name.split(".")[0].replace("-", "_")
        file.write_bytes(fake.module(name, depends=depends, vermagic=f"{release} SMP preempt "))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "modules.builtin").write_text("".join(f"{line}\n" for line in extra))
    return folder


VIRTIO = {
    "kernel/drivers/virtio/virtio.ko": "virtio_ring",
    "kernel/drivers/virtio/virtio_ring.ko": "",
    "kernel/drivers/virtio/virtio_pci.ko": "virtio,virtio_ring",
    "kernel/drivers/char/virtio_console.ko": "virtio_ring,virtio",
}
