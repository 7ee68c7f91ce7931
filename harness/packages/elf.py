"""ELF files: the one door to pyelftools.

The files come from packages and from candidate kernels, so anything may be wrong with them. Each
function here answers, or raises UserError that names the file: pyelftools' own exceptions (of a
dozen kinds for a damaged file) do not come out. Files may be compressed by gzip, xz, zstd or bzip2.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from elftools.elf.dynamic import DynamicSection, DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection, Section
from elftools.elf.segments import InterpSegment, NoteSegment

from harness.model.errors import UserError
from harness.packages.compression import compression_of, open_decompressed

_MAGIC = b"\x7fELF"
_SECTION_LIMIT_B = 1 << 30
_FILE_LIMIT_B = 2 << 30  # decompressed, in memory
_TAG_LIMIT = 1 << 16
_COMPRESSIONS = (".gz", ".xz", ".zst", ".bz2", ".lzma")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleInfo:
    """What a kernel module says of itself in `.modinfo`. Names use underscores, as in lsmod."""

    name: str
    depends: tuple[str, ...]
    """Modules that must be loaded first."""
    soft_pre: tuple[str, ...]
    """Modules or aliases that should be loaded first, when there are such."""
    soft_post: tuple[str, ...]
    vermagic: str
    import_ns: tuple[str, ...]
    aliases: tuple[str, ...]
    license: str
    fields: tuple[tuple[str, str], ...]
    """All of `.modinfo` in its own order; a key may come more than once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionHeader:
    name: str
    type: str
    """pyelftools' name: `SHT_PROGBITS`."""
    address: int
    offset: int
    size_b: int


def elf_machine(path: Path) -> str | None:
    """Return pyelftools' name of the machine, `EM_X86_64`; None when it is not an ELF file.

    Raises UserError for a file that begins as ELF and is damaged, or cannot be read.
    """
    with _opened(path) as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return None
        with _damage_is_an_error(path):
            return str(ELFFile(file)["e_machine"])


def needed_libraries(path: Path) -> tuple[str, ...]:
    """Return DT_NEEDED in order; () for a static program. Raises UserError."""
    return _dynamic_strings(path, "DT_NEEDED", "needed")


def runpath(path: Path) -> tuple[str, ...]:
    """Return the folders of DT_RUNPATH, or else of DT_RPATH, `$ORIGIN` as it stands.

    () when it has neither. Raises UserError.
    """
    folders = _dynamic_strings(path, "DT_RUNPATH", "runpath")
    folders = folders or _dynamic_strings(path, "DT_RPATH", "rpath")
    return tuple(folder for text in folders for folder in text.split(":") if folder)


def soname(path: Path) -> str | None:
    """Return DT_SONAME; None when it has none. Raises UserError."""
    return next(iter(_dynamic_strings(path, "DT_SONAME", "soname")), None)


def interpreter(path: Path) -> str | None:
    """Return the dynamic loader that the file asks for; None when it asks for none."""
    with _elf(path) as elf:
        for segment in elf.iter_segments("PT_INTERP"):
            if isinstance(segment, InterpSegment):
                return str(segment.get_interp_name())
    return None


def build_id(path: Path) -> str:
    """Return the GNU build-id in hex; "" when there is none. Raises UserError."""
    with _elf(path) as elf:
        holders = (*elf.iter_segments("PT_NOTE"), *elf.iter_sections("SHT_NOTE"))
        for holder in holders:
            if not isinstance(holder, NoteSegment | NoteSection):
                continue
            for note in holder.iter_notes():
                if note["n_type"] == "NT_GNU_BUILD_ID" and note["n_name"] == "GNU":
                    return str(note["n_desc"])
    return ""


def section_bytes(path: Path, name: str) -> bytes | None:
    """Return a section's content, decompressed; None when there is no such section.

    b"" for a section that takes no space in the file. Raises UserError.
    """
    with _elf(path) as elf:
        section = elf.get_section_by_name(name)
        return None if section is None else _content(section, path)


def section_headers(path: Path) -> tuple[SectionHeader, ...]:
    """Return all section headers in the file's order. Raises UserError."""
    with _elf(path) as elf:
        return tuple(
            SectionHeader(
                name=section.name,
                type=str(section["sh_type"]),
                address=section["sh_addr"],
                offset=section["sh_offset"],
                size_b=section["sh_size"],
            )
            for section in elf.iter_sections()
        )


def module_info(path: Path) -> ModuleInfo:
    """Read a kernel module: `.ko`, `.ko.xz`, `.ko.gz`, `.ko.zst`.

    Raises UserError when it is not an ELF file, is damaged, or has no `.modinfo`.
    """
    raw = section_bytes(path, ".modinfo")
    if raw is None:
        raise UserError(f"{path}: not a kernel module (no .modinfo section)")
    return parse_modinfo(raw, fallback_name=module_name(path))


def module_name(path: Path) -> str:
    """Return the module's name that a file name stands for: `crc32c-intel.ko.xz`."""
    name = path.name
    for suffix in _COMPRESSIONS:
        name = name.removesuffix(suffix)
    return name.removesuffix(".ko").replace("-", "_")


def parse_modinfo(raw: bytes, *, fallback_name: str) -> ModuleInfo:
    """Read the bytes of `.modinfo`: NUL-terminated `key=value` texts. Never raises.

    `fallback_name` stands where there is no `name=` (old kernels write none).
    """
    # crc32c_intel.ko: alias=crypto-crc32c-intel␀depends=␀name=crc32c_intel␀vermagic=6.1.0-…␀
    texts = (part.decode(errors="backslashreplace") for part in raw.split(b"\0") if part)
    fields = tuple((key, value) for key, mark, value in (t.partition("=") for t in texts) if mark)

    def all_of(wanted: str) -> tuple[str, ...]:
        return tuple(value for key, value in fields if key == wanted)

    soft = [_softdep(text) for text in all_of("softdep")]
    return ModuleInfo(
        name=next(iter(all_of("name")), fallback_name).replace("-", "_"),
        depends=tuple(
            name.replace("-", "_") for text in all_of("depends") for name in text.split(",") if name
        ),
        soft_pre=tuple(name for pre, _ in soft for name in pre),
        soft_post=tuple(name for _, post in soft for name in post),
        vermagic=next(iter(all_of("vermagic")), "").strip(),
        import_ns=all_of("import_ns"),
        aliases=all_of("alias"),
        license=next(iter(all_of("license")), ""),
        fields=fields,
    )


def _softdep(text: str) -> tuple[list[str], list[str]]:
    # pre: crc32c xxhash64 post: hdmi
    lists: dict[str, list[str]] = {"pre:": [], "post:": []}
    target = lists["pre:"]
    for word in text.split():
        if word in lists:
            target = lists[word]
        else:
            target.append(word)
    return lists["pre:"], lists["post:"]


def _dynamic_strings(path: Path, tag_name: str, attribute: str) -> tuple[str, ...]:
    with _elf(path) as elf:
        holders = (*elf.iter_segments("PT_DYNAMIC"), *elf.iter_sections("SHT_DYNAMIC"))
        for holder in holders:
            if isinstance(holder, DynamicSegment | DynamicSection):
                return tuple(_tag_values(holder, tag_name, attribute))
    return ()


def _tag_values(
    holder: DynamicSegment | DynamicSection, tag_name: str, attribute: str
) -> Iterator[str]:
    for number, tag in enumerate(holder.iter_tags()):
        if number > _TAG_LIMIT:
            raise ValueError(f"more than {_TAG_LIMIT} dynamic tags")
        if tag.entry.d_tag == tag_name:
            yield str(getattr(tag, attribute))


def _content(section: Section, path: Path) -> bytes:
    if section["sh_type"] == "SHT_NOBITS":
        return b""  # pyelftools would make as many zeros as the header says
    size_b = section.data_size
    if size_b > _SECTION_LIMIT_B:
        raise UserError(f"{path}: section {section.name} says it has {size_b} bytes")
    data = bytes(section.data())
    if len(data) != size_b:
        raise UserError(f"{path}: truncated: section {section.name} has {len(data)} of {size_b}")
    return data


@contextlib.contextmanager
def _elf(path: Path) -> Iterator[ELFFile]:
    """Open an ELF file; whatever is wrong with it becomes a UserError."""
    with _opened(path) as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise UserError(f"{path}: not an ELF file")
        with _damage_is_an_error(path):
            yield ELFFile(file)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Yield a seekable stream of the decompressed file, at its beginning."""
    try:
        with path.open("rb") as file:
            compressed = compression_of(file.read(6)) is not None
            file.seek(0, os.SEEK_SET)
            if not compressed:
                yield file
                return
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    with open_decompressed(path, limit_b=_FILE_LIMIT_B) as stream:
        yield io.BytesIO(stream.read())


@contextlib.contextmanager
def _damage_is_an_error(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    # A damaged file raises nearly anything in pyelftools: its own ELFError, construct's errors,
    # KeyError, AttributeError, struct.error, OverflowError, MemoryError, ...
    except Exception as error:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise UserError(f"{path}: damaged or truncated ELF file ({what})") from error
