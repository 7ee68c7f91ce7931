"""The modules of a kernel: which there are, what they need, in which order to load them.

Without depmod: packages come without its index. A module's needs are read from its own `.modinfo`,
and only for modules that are asked for: reading all 4000 of a distribution takes ten seconds.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec

from harness.host.config import data_root, load_toml
from harness.kernel.kmod_index import IndexedModule, index_files
from harness.kernel.modinfo import read_info
from harness.model.errors import KernelError
from harness.model.kernel import KernelArtifact
from harness.packages.elf import ModuleInfo, module_name

_SUFFIXES = (".ko", ".ko.xz", ".ko.gz", ".ko.zst")
_COPIED_INDEXES = ("modules.builtin", "modules.builtin.modinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleTree:
    """A folder `lib/modules/<release>` by the names of its modules, with underscores."""

    folder: Path
    files: Mapping[str, Path]
    builtin: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """Modules with all that they need."""

    files: tuple[Path, ...]
    """In load order: whatever a module needs comes before it."""
    unknown: tuple[str, ...]
    """Wanted, and neither a module nor built in."""


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """configs/kernels/modules.toml"""

    boot: tuple[str, ...]
    boot_wanted: tuple[str, ...]
    loadable: tuple[str, ...]


def canonical(name: str) -> str:
    """Return a module's name as lsmod prints it: `crc32c-intel` is `crc32c_intel`."""
    return name.replace("-", "_")


@lru_cache(maxsize=16)
def module_tree(folder: Path) -> ModuleTree:
    """Index a folder by file names alone; links are not followed. Raises KernelError."""
    if not folder.is_dir():
        raise KernelError(f"{folder}: no such folder of modules")
    updates = str(folder / "updates") + "/"
    # As depmod searches: what was put into `updates` replaces the kernel's own.
    paths = sorted(
        _module_files(str(folder)), key=lambda path: (path[: len(updates)] != updates, path)
    )
    found: dict[str, Path] = {}
    for path in map(Path, paths):
        found.setdefault(module_name(path), path)
    builtin = _lines(folder / "modules.builtin")
    return ModuleTree(
        folder=folder,
        files=found,
        builtin=frozenset(module_name(Path(line)) for line in builtin),
    )


def boot_modules(kernel: KernelArtifact, names: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Return the files to load for `names` in load order, built-in ones left out.

    Without `names`, those of configs/kernels/modules.toml. () for a kernel that came without
    modules: then all must be built in, and preflight looks at that. Raises KernelError when one is
    neither built in nor a module.
    """
    if kernel.modules is None:
        return ()
    tree = module_tree(kernel.modules)
    wanted = () if names is not None else _wanted().boot_wanted
    closure = module_closure(tree, _wanted().boot if names is None else names)
    if closure.unknown:
        raise KernelError(
            f"kernel {kernel.release} has no {', '.join(closure.unknown)}: "
            f"neither built in nor a module in {kernel.modules}",
            hint="build it with the drivers of a QEMU guest, or name the folder with its modules",
        )
    both = (*closure.files, *module_closure(tree, wanted).files)
    return tuple(dict.fromkeys(both))


def guest_modules(kernel: KernelArtifact, names: Sequence[str] | None = None) -> tuple[Path, ...]:
    """The same for modules that are good to have: those that are missing are left out."""
    if kernel.modules is None:
        return ()
    wanted = _wanted().loadable if names is None else names
    return module_closure(module_tree(kernel.modules), wanted).files


def modprobe_files(kernel: KernelArtifact, files: Iterable[Path]) -> Mapping[str, bytes]:
    """Return what modprobe reads in the guest, by its path there: `lib/modules/<release>/…`.

    `files` lie below `kernel.modules` with all that they need, as the functions above return them,
    and keep their places there, decompressed. Without modules, indexes of nothing.
    """
    found: Mapping[str, bytes] = index_files((), ())
    if kernel.modules is not None:
        tree = module_tree(kernel.modules)
        copied = _copied(tree.folder)
        modinfo = copied.get("modules.builtin.modinfo", b"")
        listed = tuple(_indexed(tree, _in_kernels_order(tree, files)))
        found = {**copied, **index_files(listed, tree.builtin, modinfo)}
    return {f"lib/modules/{kernel.release}/{name}": data for name, data in found.items()}


def has_module(kernel: KernelArtifact, name: str) -> bool | None:
    """Whether a driver is there, built in or as a module; None when that is not known."""
    if kernel.modules is None:
        return None
    tree = module_tree(kernel.modules)
    return canonical(name) in tree.files or canonical(name) in tree.builtin


def module_closure(tree: ModuleTree, names: Iterable[str], *, softly: bool = True) -> Closure:
    """Return `names` and whatever they need, directly or not; also what they need `softly`.

    A soft dependency that is missing is no fault, as for modprobe; a hard one is: KernelError.
    """
    files: dict[Path, None] = {}
    unknown: list[str] = []
    for name in names:
        wanted = canonical(name)
        if wanted in tree.files:
            _visit(tree, wanted, files, softly, ())
        elif wanted not in tree.builtin:
            unknown.append(name)
    return Closure(files=tuple(files), unknown=tuple(unknown))


def _visit(
    tree: ModuleTree, name: str, files: dict[Path, None], softly: bool, above: tuple[str, ...]
) -> None:
    """Add a module after all that it needs. `above` holds who asked: softdeps may be circular."""
    path = tree.files[name]
    if path in files or name in above:
        return
    info = _info(path)
    for need in info.depends:
        if need not in tree.files and need not in tree.builtin:
            raise KernelError(f"{path}: needs the module {need}, which is not in {tree.folder}")
    before = (*info.depends, *(info.soft_pre if softly else ()))
    for need in map(canonical, before):
        if need in tree.files:
            _visit(tree, need, files, softly, (*above, name))
    files[path] = None
    for need in map(canonical, info.soft_post if softly else ()):
        if need in tree.files:
            _visit(tree, need, files, softly, (*above, name))


def _indexed(tree: ModuleTree, files: Iterable[Path]) -> Iterator[IndexedModule]:
    def place(path: Path) -> str:
        return _guest_name(path.relative_to(tree.folder))

    for path in files:
        info = _info(path)
        needs = module_closure(tree, (module_name(path),), softly=False).files
        yield IndexedModule(
            name=module_name(path),
            path=place(path),
            needs=tuple(place(need) for need in needs if need != path),
            aliases=info.aliases,
            soft_pre=info.soft_pre,
            soft_post=info.soft_post,
        )


@lru_cache(maxsize=1)
def _wanted() -> _Wanted:
    return load_toml(data_root() / "configs" / "kernels" / "modules.toml", _Wanted)


@lru_cache(maxsize=8192)
def _info(path: Path) -> ModuleInfo:
    return read_info(path)


def _in_kernels_order(tree: ModuleTree, files: Iterable[Path]) -> list[Path]:
    """As the kernel's Makefiles link them, which says whom an alias prefers; others at the end."""
    places = {line: number for number, line in enumerate(_lines(tree.folder / "modules.order"))}

    def place(path: Path) -> tuple[int, str]:
        name = _guest_name(path.relative_to(tree.folder))
        return places.get(name, len(places)), name

    return sorted(set(files), key=place)


def _copied(folder: Path) -> Mapping[str, bytes]:
    return {
        name: (folder / name).read_bytes() for name in _COPIED_INDEXES if (folder / name).is_file()
    }


def _guest_name(path: Path) -> str:
    suffix = next(suffix for suffix in _SUFFIXES if path.name.endswith(suffix))
    return str(path.with_name(path.name.removesuffix(suffix) + ".ko"))


def _module_files(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                # `tools` is for a build's folder: its test modules are no part of the kernel.
                if entry.name[0] != "." and entry.name != "tools":
                    yield from _module_files(entry.path)
            elif entry.name.endswith(_SUFFIXES) and not entry.is_symlink():
                yield entry.path


def _lines(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text(errors="replace").split("\n"))[:-1]
    except FileNotFoundError:
        return ()
