"""Picks what the guest needs out of a finished build, small and without debug sections."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from harness.host.command import run
from harness.suites.bpf.toolchain import Toolchain

_BLOCK_B = 4096
_GUEST_BPFTOOL = "/usr/sbin/bpftool"
_NEVER_STRIPPED = (".sh", ".py", ".c")


def install(
    built: Path,
    into: Path,
    *,
    objects: Iterable[str],
    programs: Iterable[str],
    libraries: Iterable[str],
    copied: Iterable[str],
    toolchain: Toolchain,
) -> None:
    """Copy from the build's folder what is there; names are relative to it.

    `objects` lose DWARF and keep BTF, `programs` lose debug sections and keep their symbols
    (uprobe tests look them up), `libraries` stay as they are (tests read their notes), and `copied`
    are files or patterns of files.
    """
    into.mkdir(parents=True, exist_ok=True)
    bpf_objects = _copied(built, into, objects)
    if bpf_objects:
        run((toolchain.llvm_strip, "--strip-debug", *map(str, bpf_objects)))
    for path in _copied(built, into, programs):
        run((toolchain.strip, "--strip-debug", str(path)))
        make_sparse(path)
    _copied(built, into, libraries)
    for pattern in copied:
        _copied(built, into, (str(p.relative_to(built)) for p in sorted(built.glob(pattern))))


def link_bpftool(into: Path) -> None:
    """Tests call `./bpftool`: lead them to the guest's own."""
    (into / "bpftool").symlink_to(_GUEST_BPFTOOL)


def make_sparse(path: Path) -> None:
    """Write a file anew without its blocks of zeros: test_verifier's array is mostly that."""
    temporary = path.with_name(f".{path.name}.sparse")
    zeros = bytes(_BLOCK_B)
    with path.open("rb") as source, temporary.open("wb") as sink:
        while block := source.read(_BLOCK_B):
            if block == zeros:
                sink.seek(_BLOCK_B, os.SEEK_CUR)
            else:
                sink.write(block)
        sink.truncate()
    shutil.copymode(path, temporary)
    temporary.replace(path)


def _copied(built: Path, into: Path, names: Iterable[str]) -> list[Path]:
    copies: list[Path] = []
    for name in names:
        source = built / name
        if source.is_file():
            target = into / Path(name).name
            shutil.copyfile(source, target)
            target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
            copies.append(target)
    return copies
