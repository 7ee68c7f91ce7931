"""Segments of an initramfs, each made once and kept by its content.

A guest's initramfs is a row of them: the base (userland, init, agent), the candidate's modules, the
tests. The kernel unpacks several archives in a row as if they were one.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from harness.guest.closure import canonical
from harness.guest.newc import (
    Entry,
    character_device,
    digest_of_entries,
    directory,
    file_copy,
    regular,
    symlink,
    tree_entries,
    write_newc,
)
from harness.guest.userland import Userland
from harness.host.cache import Cache, digest_of
from harness.host.config import data_root
from harness.model.errors import RigError
from harness.model.kernel import KernelArtifact
from harness.packages.compression import open_decompressed

BOOT_MODULES = "etc/harness/boot-modules"
"""In the guest: paths of the modules that init loads, one a line, in order."""

_FOLDERS = ("boot", "dev", "mnt", "opt", "proc", "root", "run", "sys", "tmp", "var/tmp")
_COMPRESSED = (".gz", ".xz", ".zst")
_COPY_B = 1 << 30


def base_segment(userland: Userland, cache: Cache) -> Path:
    """Return the archive of the userland, process 1 and the agent: the same for each kernel."""
    scripts = data_root() / "selftests" / "guest"
    return _segment(
        cache,
        (
            *tree_entries(userland.root),
            *(directory(name) for name in _FOLDERS),
            # Before devtmpfs is there: where init's own words go.
            character_device("dev/console", 5, 1),
            character_device("dev/kmsg", 1, 11, 0o644),
            character_device("dev/null", 1, 3, 0o666),
            symlink("var/run", "/run"),
            symlink("etc/mtab", "/proc/self/mounts"),
            *(symlink(f"etc/harness/dev/{name}", target) for name, target in _DEVICE_LINKS.items()),
            *_etc_entries(scripts / "etc"),
            file_copy("init", scripts / "init", 0o755),
            file_copy("usr/lib/harness/agent", scripts / "agent", 0o755),
        ),
    )


def modules_segment(
    kernel: KernelArtifact,
    files: Sequence[Path],
    extra_texts: Mapping[str, str | bytes],
    cache: Cache,
) -> Path:
    """Return the archive of a kernel's modules and of texts made for it.

    `files` lie below `kernel.modules` and are stored decompressed; `extra_texts` are contents by
    the guest's path: BOOT_MODULES, `boot/config-<release>`, the indexes of modprobe.
    """
    texts = {canonical(name): text for name, text in extra_texts.items()}
    return _segment(
        cache,
        (
            *(_module_entry(kernel, file) for file in files),
            *(
                regular(name, text.encode() if isinstance(text, str) else text)
                for name, text in texts.items()
            ),
        ),
    )


def module_path(kernel: KernelArtifact, file: Path) -> str:
    """Return where a module's file is in the guest, without a leading slash.

    Raises ValueError when it is not below `kernel.modules`.
    """
    if kernel.modules is None:
        raise ValueError(f"{kernel.release} has no modules")
    relative = file.relative_to(kernel.modules)
    plain = relative.with_suffix("") if relative.suffix in _COMPRESSED else relative
    return f"usr/lib/modules/{kernel.release}/{plain.as_posix()}"


def boot_list(kernel: KernelArtifact, files: Iterable[Path]) -> str:
    """Return the text of BOOT_MODULES; `files` in the order of loading."""
    return "".join(f"/{module_path(kernel, file)}\n" for file in files)


def tree_segment(root: Path, at: str, cache: Cache) -> Path:
    """Return the archive of a folder of the host, placed at `at` in the guest ("" is its root)."""
    entries = tree_entries(root, at.strip("/"))
    # An entry `lib` would make the kernel remove the link of that name, and all below it with it.
    return _segment(cache, tuple(replace(each, name=canonical(each.name)) for each in entries))


def initrd_for(
    userland: Userland,
    kernel: KernelArtifact,
    *,
    boot: Sequence[Path],
    loadable: Sequence[Path] = (),
    trees: Sequence[tuple[Path, str]] = (),
    texts: Mapping[str, str | bytes] = MappingProxyType({}),
    cache: Cache,
) -> Path:
    """Return the whole initramfs of a guest, kept by its content.

    `boot` are the modules that init loads, in order, `loadable` others that are there for modprobe;
    `trees` are folders of the host and their places in the guest.
    """
    of_kernel = {BOOT_MODULES: boot_list(kernel, boot), **texts}
    if kernel.config is not None:
        of_kernel[f"boot/config-{kernel.release}"] = kernel.config.read_bytes()
    modules = tuple(dict.fromkeys((*boot, *loadable)))
    segments = (
        base_segment(userland, cache),
        modules_segment(kernel, modules, of_kernel, cache),
        *(tree_segment(root, at, cache) for root, at in trees),
    )
    # A segment's folder is named for its content.
    key = digest_of(*(segment.parent.name for segment in segments))
    made = cache.entry("initramfs", key, lambda into: write_initramfs(segments, into / "initramfs"))
    return made / "initramfs"


def write_initramfs(segments: Sequence[Path], into: Path) -> None:
    """Put segments one after the other. Raises RigError when the disk is full."""
    try:
        with into.open("wb") as target:
            for segment in segments:
                with segment.open("rb") as source:
                    _append(source, target)
    except OSError as error:
        raise RigError(f"cannot write {into}: {error.strerror}") from error


_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}


def _etc_entries(folder: Path) -> Iterable[Entry]:
    return tree_entries(folder, "etc")


def _segment(cache: Cache, entries: Sequence[Entry]) -> Path:
    def make(folder: Path) -> None:
        with (folder / "segment.cpio").open("wb") as file:
            write_newc(entries, file)

    return cache.entry("segment", digest_of_entries(entries), make) / "segment.cpio"


def _module_entry(kernel: KernelArtifact, file: Path) -> Entry:
    name = module_path(kernel, file)
    if file.suffix not in _COMPRESSED:
        return file_copy(name, file)
    with open_decompressed(file) as stream:
        return regular(name, stream.read())


def _append(source: BinaryIO, target: BinaryIO) -> None:
    target.flush()
    left = os.fstat(source.fileno()).st_size
    while left:
        # Within one file system that has them, this makes references instead of copies.
        copied = _copy_some(source.fileno(), target.fileno(), left)
        if copied == 0:
            raise RigError(f"{source.name} became shorter while it was read")
        left -= copied


def _copy_some(source: int, target: int, count: int) -> int:
    try:
        return os.copy_file_range(source, target, min(count, _COPY_B))
    except OSError:
        return os.sendfile(target, source, None, min(count, _COPY_B))
