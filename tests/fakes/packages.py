"""Packages made by hand: ar, tar, .deb and ELF files, right or wrong as a test wants them."""

import io
import lzma
import struct
import tarfile
from collections.abc import Mapping, Sequence
from typing import Literal

AR_MAGIC = b"!<arch>\n"


def ar_member(name: str, data: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
    return header + data + b"\n" * (len(data) % 2)


def tar_member(
    name: str,
    data: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    link: str = "",
    mode: int = 0o644,
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    info.size, info.mtime = len(data), 1_700_000_000
    return info, data


def folder(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return tar_member(name, kind=tarfile.DIRTYPE, mode=mode)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return tar_member(name, kind=tarfile.SYMTYPE, link=target)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return tar_member(name, kind=tarfile.LNKTYPE, link=target)


def tar(
    *members: tuple[tarfile.TarInfo, bytes], form: Literal[0, 1, 2] = 1, end: bool = True
) -> bytes:
    """An archive of exactly these members; without its end mark where `end` is false.

    `form` is tarfile's: 0 for ustar, 1 for GNU, 2 for pax.
    """
    out = io.BytesIO()
    for info, data in members:
        out.write(info.tobuf(form, "utf-8", "surrogateescape"))
        out.write(data + b"\0" * (-len(data) % 512))
    return out.getvalue() + b"\0" * (1024 if end else 0)


def control_text(name: str, version: str, arch: str = "all", depends: str = "") -> str:
    lines = [f"Package: {name}", f"Version: {version}", f"Architecture: {arch}"]
    lines += [f"Depends: {depends}"] if depends else []
    lines += ["Maintainer: Nobody <nobody@example.org>", "Description: made by hand", " for tests"]
    return "\n".join(lines) + "\n"


def deb(data_tar: bytes, control: str = "", *, compress: bool = True) -> bytes:
    control = control or control_text("sample", "1.0")
    control_tar = tar(folder("./"), tar_member("./control", control.encode()))
    pack = lzma.compress if compress else bytes
    suffix = ".xz" if compress else ""
    return (
        AR_MAGIC
        + ar_member("debian-binary", b"2.0\n")
        + ar_member(f"control.tar{suffix}", pack(control_tar))
        + ar_member(f"data.tar{suffix}", pack(data_tar))
    )


def elf(
    sections: Mapping[str, bytes],
    *,
    machine: int = 62,
    needed: Sequence[str] = (),
    run_path: str = "",
    loader: str = "",
    build_id: bytes = b"",
) -> bytes:
    """A 64-bit little-endian ELF file; `machine` 62 is x86-64, 183 is AArch64."""
    parts: list[tuple[str, int, bytes, int]] = []  # name, sh_type, data, sh_link
    segments: list[tuple[int, str]] = []  # p_type, section
    parts += [(name, 1, data, 0) for name, data in sections.items()]
    if loader:
        parts.append((".interp", 1, loader.encode() + b"\0", 0))
        segments.append((3, ".interp"))
    if build_id:
        note = struct.pack("<III4s", 4, len(build_id), 3, b"GNU\0") + build_id
        parts.append((".note.gnu.build-id", 7, note, 0))
        segments.append((4, ".note.gnu.build-id"))
    if needed or run_path:
        parts += _dynamic(needed, run_path, link=len(parts) + 1)
        segments.append((2, ".dynamic"))
    return _assembled(parts, segments, machine)


def _dynamic(needed: Sequence[str], run_path: str, link: int) -> list[tuple[str, int, bytes, int]]:
    strings, tags = b"\0", b""
    for tag, text in [(1, name) for name in needed] + ([(29, run_path)] if run_path else []):
        tags += struct.pack("<QQ", tag, len(strings))
        strings += text.encode() + b"\0"
    tags += struct.pack("<QQ", 5, 0x1000) + struct.pack("<QQ", 10, len(strings)) + bytes(16)
    return [(".dynstr", 3, strings, 0), (".dynamic", 6, tags, link)]


def _assembled(
    parts: list[tuple[str, int, bytes, int]], segments: list[tuple[int, str]], machine: int
) -> bytes:
    parts = [*parts, (".shstrtab", 3, b"", 0)]
    names = b"\0" + b"".join(name.encode() + b"\0" for name, *_ in parts)
    parts[-1] = (".shstrtab", 3, names, 0)
    body_at = 64 + 56 * (len(segments) + 1)
    body, headers, places = b"", bytes(64), {}
    for name, kind, data, link in parts:
        offset = body_at + len(body)
        # .dynstr must be found by its address: the one loaded segment maps it to 0x1000
        address = 0x1000 if name == ".dynstr" else 0
        name_at = names.index(b"\0" + name.encode() + b"\0") + 1
        entry = 16 if kind == 6 else 0
        headers += struct.pack(
            "<IIQQQQIIQQ", name_at, kind, 2, address, offset, len(data), link, 0, 8, entry
        )
        places[name] = (offset, len(data))
        body += data + bytes(-len(data) % 8)
    load = places.get(".dynstr", (0, 0))
    program = [(1, load, 0x1000)] + [(kind, places[name], 0) for kind, name in segments]
    table = b"".join(
        struct.pack("<IIQQQQQQ", kind, 4, at, address, address, size, size, 8)
        for kind, (at, size), address in program
    )
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack(
        "<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, body_at + len(body), 0, 64, 56, len(program), 64,
        len(parts) + 1, len(parts),
    )  # fmt: skip
    return header + table + body + headers


def module(name: str = "sample", **fields: str | Sequence[str]) -> bytes:
    """A kernel module with this in `.modinfo`; a sequence gives one key several times."""
    texts = [f"name={name}"]
    for key, value in fields.items():
        texts += [f"{key}={one}" for one in ([value] if isinstance(value, str) else value)]
    return elf({".modinfo": b"".join(text.encode() + b"\0" for text in texts), ".text": b"\xc3"})
