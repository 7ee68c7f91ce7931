"""Which option of a kernel's config a file is built by: read from the tree's makefiles. Pure.

So that one module that does not compile can be left out, and the rest be built: make is told that
its option is off, while the config of the kernel stays as it is.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

# obj-$(CONFIG_BTRFS_FS) := btrfs.o / obj-$(CONFIG_NF_NAT) += nf_nat.o xt_x/
_OBJ = re.compile(r"^obj-\$\(CONFIG_(?P<option>\w+)\)[ \t]*[:+]?=[ \t]*(?P<objects>.*)$", re.M)
# btrfs-y += super.o ctree.o / btrfs-$(CONFIG_BTRFS_FS_POSIX_ACL) += acl.o / null_blk-objs := main.o
_PARTS = re.compile(
    r"^(?P<module>[\w-]+?)-(?:y|objs|m|\$\([^)]*\))[ \t]*[:+]?=[ \t]*(?P<objects>.*)$", re.M
)
_MAX_DEPTH = 12

ReadMakefile = Callable[[str], str | None]
"""Text of the makefile of a folder of the tree; None when it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """What a file belongs to."""

    option: str
    """Without CONFIG_."""
    modules: tuple[str, ...]
    """Names of the modules that are lost with it, as lsmod prints them; () for a whole folder."""


def module_owner(target: str, config: Mapping[str, str], read: ReadMakefile) -> Owner | None:
    """Return the option, built as a module, that `target` (an object or a .ko) belongs to.

    None when it is a part of the kernel itself, or nobody can tell.
    """
    path = PurePosixPath(target)
    if path.suffix not in (".o", ".ko") or path.is_absolute():
        return None
    name = f"{path.stem.removesuffix('.mod')}.o"
    text = _joined(read(str(path.parent)))
    for match in _OBJ.finditer(text):
        if config.get(match["option"]) != "m":
            continue
        for obj in match["objects"].split():
            if obj == name or name in _parts_of(obj.removesuffix(".o"), text):
                return Owner(option=match["option"], modules=(_module(obj),))
    return _owner_of_folder(path.parent, config, read)


def _owner_of_folder(
    folder: PurePosixPath, config: Mapping[str, str], read: ReadMakefile
) -> Owner | None:
    """The option, built as a module, that a makefile above enters the folder by."""
    for _ in range(_MAX_DEPTH):
        if folder.name == "":
            return None
        text = _joined(read(str(folder.parent)))
        for match in _OBJ.finditer(text):
            if f"{folder.name}/" in match["objects"].split():
                if config.get(match["option"]) == "m":
                    return Owner(option=match["option"], modules=())
                break
        folder = folder.parent
    return None


def _parts_of(module: str, text: str) -> set[str]:
    return {
        obj
        for match in _PARTS.finditer(text)
        if match["module"] == module
        for obj in match["objects"].split()
    }


def _module(obj: str) -> str:
    return obj.removesuffix(".o").replace("-", "_")


def _joined(text: str | None) -> str:
    return re.sub(r"[ \t]*\\\n[ \t]*", " ", text or "")
