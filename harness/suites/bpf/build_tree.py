"""The private copy of the part of a kernel tree that the BPF selftests are built from.

make writes generated headers and objects beside its sources, and the overlay removes sources: both
happen in the copy only. What an earlier build left in the tree is not copied, and all files get
the same old time, so that make never takes a stranger's leftover for its own.
"""

import os
import re
import shutil
from pathlib import Path

from harness.model.errors import UserError
from harness.model.kernel import SourceTree

SELFTESTS = Path("tools/testing/selftests/bpf")

_PARTS = ("Makefile", "scripts", "tools", "kernel/bpf", "include/uapi")
_PARTS_BY_GLOB = ("arch/*/include/uapi",)
_LEFT_OUT = (
    "tools/perf",
    "tools/testing/selftests/bpf/tools",
    "tools/testing/selftests/bpf/host-tools",
    "tools/testing/selftests/bpf/no_alu32",
    "tools/testing/selftests/bpf/cpuv4",
    "tools/testing/selftests/bpf/bpf_gcc",
)
_ONE_OF_TESTING = "tools/testing"
"""Of this folder only `selftests` is copied."""
_LEFTOVERS = re.compile(r".*\.(?:o|a|so|ko|cmd|d|lskel\.h|skel\.h|subskel\.h)|tests\.h|\.git.*")
_OLD_S = 1_000_000_000
_ELF_MAGIC = b"\x7fELF"

_NEEDED = ("Makefile", "test_progs.c", "test_progs.h", "prog_tests", "progs")


def check_tree(source: SourceTree) -> None:
    """Raise UserError for a tree without BPF selftests, or one that lost files on its way here."""
    folder = source.path / SELFTESTS
    if not folder.is_dir():
        raise UserError(
            f"{source.name}: no BPF selftests in {source.path} ({SELFTESTS} is missing)",
            hint="name the top folder of a kernel source tree",
        )
    missing = [name for name in _NEEDED if not (folder / name).exists()]
    if missing:
        names = ", ".join(str(SELFTESTS / name) for name in missing)
        raise UserError(
            f"{source.name}: the tree lacks {names}",
            hint="the kernel's own .gitignore hides test_progs.c and test_progs.h from `git add`: "
            "a tree that was imported without `git add -f` has lost them; "
            "take them from the release's tar archive",
        )


def copy_tree(source: SourceTree, into: Path) -> Path:
    """Copy what a build needs below `into`; return the copy's selftests folder.

    Raises UserError when the tree is not whole.
    """
    check_tree(source)
    parts = [Path(part) for part in _PARTS]
    for pattern in _PARTS_BY_GLOB:
        parts += sorted(path.relative_to(source.path) for path in source.path.glob(pattern))
    for part in parts:
        if (source.path / part).is_dir():
            _copy_folder(source.path, part, into)
        elif (source.path / part).is_file():
            _copy_file(source.path / part, into / part)
    return into / SELFTESTS


def _copy_folder(root: Path, part: Path, into: Path) -> None:
    for name, folders, files in os.walk(root / part):
        folder = Path(name)
        relative = folder.relative_to(root)
        folders[:] = sorted(f for f in folders if _is_wanted(relative / f))
        (into / relative).mkdir(parents=True, exist_ok=True)
        for file in files:
            if not _LEFTOVERS.fullmatch(file):
                _copy_file(folder / file, into / relative / file)
        for link in [f for f in folders if (folder / f).is_symlink()]:
            (into / relative / link).symlink_to((folder / link).readlink())


def _is_wanted(folder: Path) -> bool:
    text = folder.as_posix()
    if folder.parent.as_posix() == _ONE_OF_TESTING:
        return folder.name == "selftests"
    return text not in _LEFT_OUT and folder.name != ".git"


def _copy_file(source: Path, into: Path) -> None:
    into.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        into.symlink_to(source.readlink())
        return
    if not source.suffix and _is_elf(source):
        return
    shutil.copyfile(source, into)
    into.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
    os.utime(into, (_OLD_S, _OLD_S))


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ELF_MAGIC)) == _ELF_MAGIC
