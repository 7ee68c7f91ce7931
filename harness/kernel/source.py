"""A kernel source tree that a person has: what it is, and what makes it itself."""

import re
from pathlib import Path

from harness.host.cache import digest_of
from harness.model.errors import UserError
from harness.model.kernel import SourceTree

# VERSION = 6 / PATCHLEVEL = 1 / SUBLEVEL = 192 / EXTRAVERSION = -rc1
_VERSION_LINE = re.compile(
    r"^(?P<key>VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(?P<value>\S*)$", re.M
)
_MEASURED = ("tools/testing/selftests/bpf", "tools/lib/bpf", "tools/include", "tools/bpf")
"""What the BPF selftests are made from: the identity of a tree for our purposes."""
_SOURCE_SUFFIXES = frozenset((".c", ".h", ".S", ".lds", ".sh", ".py", ".l", ".y", ".txt"))
_SOURCE_NAMES = ("Makefile", "Kbuild", "Build", "config", "DENYLIST", "ALLOWLIST")
_MADE_SUFFIXES = (".skel.h", ".lskel.h", "/vmlinux.h")
"""What a build inside the tree leaves behind, and is no source."""


def makefile_version(tree: Path) -> str:
    """Return the version that a tree's Makefile says: `6.1.192`. Raises UserError."""
    try:
        text = (tree / "Makefile").read_text(encoding="utf-8", errors="replace")[:4096]
    except OSError as error:
        raise UserError(
            f"{tree}: not a kernel source tree: its Makefile cannot be read ({error.strerror})"
        ) from error
    found = {match["key"]: match["value"] for match in _VERSION_LINE.finditer(text)}
    if not {"VERSION", "PATCHLEVEL"} <= found.keys():
        raise UserError(f"{tree}: not a kernel source tree: its Makefile names no version")
    numbers = [found["VERSION"], found["PATCHLEVEL"], found.get("SUBLEVEL", "")]
    return ".".join(filter(None, numbers)) + found.get("EXTRAVERSION", "")


def source_tree_at(tree: Path) -> SourceTree:
    """Return a source tree by its folder; its identity is the content of its BPF selftests.

    Raises UserError when it is not a kernel source tree with such selftests.
    """
    tree = tree.absolute()
    version = makefile_version(tree)
    if not (tree / _MEASURED[0] / "Makefile").is_file():
        raise UserError(
            f"{tree}: the tree has no {_MEASURED[0]}",
            hint="name the whole source tree of the kernel",
        )
    parts: list[str | Path] = []
    for name in _MEASURED:
        for path in sorted((tree / name).rglob("*")):
            if path.is_file() and _is_source(path):
                parts += [str(path.relative_to(tree)), path]
    return SourceTree(path=tree, name=str(tree), version=version, sha256=digest_of(*parts))


def _is_source(path: Path) -> bool:
    if str(path).endswith(_MADE_SUFFIXES):
        return False
    return path.suffix in _SOURCE_SUFFIXES or path.name.startswith(_SOURCE_NAMES)
