"""A source tree before a kernel is built from it: what it is, what it lacks, what must not be."""

import shutil
from pathlib import Path

from harness.host.command import CommandError, run
from harness.kernel.source import makefile_version
from harness.model.arch import ArchSpec
from harness.model.errors import UserError

_NEEDED = ("Kconfig", "scripts/Makefile.build", "scripts/link-vmlinux.sh", "init/main.c")
_GIT_LIMIT_S = 60.0
_SHOWN = 5


def check_source(tree: Path, arch_spec: ArchSpec) -> str:
    """Return the version that the tree's Makefile says.

    Raises UserError for what is no kernel source tree, has no code for the architecture, or was
    built in: kbuild refuses to build elsewhere from such a tree.
    """
    if not tree.is_dir():
        raise UserError(f"{tree}: no such folder", hint="name the kernel's source tree")
    version = makefile_version(tree)
    missing = [name for name in _NEEDED if not (tree / name).is_file()]
    if missing:
        raise UserError(
            f"{tree}: the tree lacks {', '.join(missing)}: a kernel cannot be built from it",
            hint="name the whole source tree; a part of one is enough for its selftests only",
        )
    kernel_arch = arch_spec.kernel_arch
    if not (tree / "arch" / kernel_arch / "Kconfig").is_file():
        raise UserError(f"{tree}: no arch/{kernel_arch} in it: it is not for {arch_spec.arch}")
    leftovers = (".config", "include/config", f"arch/{kernel_arch}/include/generated")
    found = [name for name in leftovers if (tree / name).exists()]
    if found:
        raise UserError(
            f"{tree}: a kernel was built in the tree itself ({', '.join(found)}): "
            "kbuild builds elsewhere from a clean tree only",
            hint=f"save its .config, then: make -C {tree} ARCH={kernel_arch} mrproper",
        )
    return version


def missing_files(tree: Path) -> tuple[str, ...]:
    """Files that the checkout's last commit has and the folder has not; () when nobody can tell."""
    said = _git(tree, "diff", "--name-only", "--diff-filter=D", "-z", "HEAD", "--")
    return tuple(name for name in said.split("\0") if name)


def missing_warning(names: tuple[str, ...]) -> str:
    """Say that files are missing; a kernel that needs one of them does not build."""
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    return f"{len(names)} files of the commit are not in the checkout: {shown}"


def commit_of(tree: Path) -> str:
    """The commit that a git checkout is at; "" for any other folder."""
    return _git(tree, "rev-parse", "--verify", "HEAD").strip()


def _git(tree: Path, *args: str) -> str:
    """What git says of a tree, without writing to it; "" when it has nothing to say."""
    git = shutil.which("git")
    if git is None or not (tree / ".git").exists():
        return ""
    argv = (git, "-C", str(tree), "-c", "core.fsmonitor=false", *args)
    env = {"GIT_OPTIONAL_LOCKS": "0", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory"}
    try:
        done = run(argv, env=env | {"GIT_CONFIG_VALUE_0": "*"}, timeout_s=_GIT_LIMIT_S, check=False)
    except CommandError:
        return ""
    return done.stdout if done.status == 0 else ""
