"""The modules of a kernel: which there are, what they need, in which order to load them.

Without depmod: packages come without its index. A module's needs are read from its own `.modinfo`,
and only for modules that are asked for: reading all 4000 of a distribution takes ten seconds.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from harness.host.cache import Cache, digest_of
from harness.kernel.kmod_index import IndexedModule, index_files
from harness.model.errors import KernelError
from harness.model.kernel import KernelArtifact
from harness.packages.compression import open_decompressed
from harness.packages.elf import ModuleInfo, module_info, module_name

_SUFFIXES = (".ko", ".ko.xz", ".ko.gz", ".ko.zst")
_COPIED_INDEXES = ("modules.builtin", "modules.builtin.modinfo", "modules.order")
_LAYOUT = 1  # of the tree for the guest: part of its key in the cache

ReadInfo = Callable[[Path], ModuleInfo]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleTree:
    """A folder `lib/modules/<release>` by the names of its modules, with underscores."""

    folder: Path
    files: Mapping[str, Path]
    builtin: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """Modules with all that they need."""

    infos: Mapping[Path, ModuleInfo]
    """In load order: whatever a module needs comes before it."""
    unknown: tuple[str, ...]
    """Wanted, and neither a module nor built in."""

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(self.infos)


def canonical(name: str) -> str:
    """Return a module's name as lsmod prints it: `crc32c-intel` is `crc32c_intel`."""
    return name.replace("-", "_")


@lru_cache(maxsize=16)
def module_tree(folder: Path) -> ModuleTree:
    """Index a folder by file names alone; links are not followed. Raises KernelError."""
    if not folder.is_dir():
        raise KernelError(f"{folder}: no such folder of modules")
    found: dict[str, Path] = {}
    for path in sorted(_module_files(folder), key=lambda path: _preference(folder, path)):
        found.setdefault(module_name(path), path)
    builtin = _lines(folder / "modules.builtin")
    return ModuleTree(
        folder=folder,
        files=found,
        builtin=frozenset(module_name(Path(line)) for line in builtin),
    )


def boot_modules(kernel: KernelArtifact, names: Sequence[str]) -> tuple[Path, ...]:
    """Return the files to load for `names` in load order, built-in ones left out.

    () for a kernel that came without modules: then all must be built in, and preflight looks at
    that. Raises KernelError when one is neither built in nor a module.
    """
    if kernel.modules is None:
        return ()
    closure = module_closure(module_tree(kernel.modules), names)
    if closure.unknown:
        raise KernelError(
            f"kernel {kernel.release} has no {', '.join(closure.unknown)}: "
            f"neither built in nor a module in {kernel.modules}",
            hint="build it with the drivers of a QEMU guest, or name the folder with its modules",
        )
    return closure.files


def guest_modules(kernel: KernelArtifact, names: Sequence[str]) -> tuple[Path, ...]:
    """The same for modules that are good to have: those that are missing are left out."""
    if kernel.modules is None:
        return ()
    return module_closure(module_tree(kernel.modules), names).files


def has_module(kernel: KernelArtifact, name: str) -> bool | None:
    """Whether a driver is there, built in or as a module; None when that is not known."""
    if kernel.modules is None:
        return None
    tree = module_tree(kernel.modules)
    return canonical(name) in tree.files or canonical(name) in tree.builtin


def module_closure(
    tree: ModuleTree, names: Iterable[str], *, read: ReadInfo = module_info
) -> Closure:
    """Return `names` and whatever they need, directly or not, softly or not.

    A soft dependency that is missing is no fault, as for modprobe; a hard one is: KernelError.
    """
    infos: dict[Path, ModuleInfo] = {}
    unknown: list[str] = []
    for name in names:
        wanted = canonical(name)
        if wanted in tree.files:
            _visit(tree, wanted, read, infos, ())
        elif wanted not in tree.builtin:
            unknown.append(name)
    return Closure(infos=infos, unknown=tuple(unknown))


def guest_module_tree(kernel: KernelArtifact, names: Sequence[str], cache: Cache) -> Path:
    """Return a folder with `lib/modules/<release>`: `names`, what they need, and their indexes.

    What is missing is left out; modules are decompressed, since not every modprobe can. Made once
    for each content. The folder is empty but for the indexes for a kernel without modules.
    """
    if kernel.modules is None:
        closure = Closure(infos={}, unknown=())
        extra: Mapping[str, bytes] = index_files((), ())
    else:
        tree = module_tree(kernel.modules)
        closure = module_closure(tree, names)
        copied = _copied(tree.folder)
        modinfo = copied.get("modules.builtin.modinfo", b"")
        extra = {**copied, **index_files(_indexed(tree, closure), tree.builtin, modinfo)}
    texts = [part for name, data in sorted(extra.items()) for part in (name, data)]
    key = digest_of(str(_LAYOUT), kernel.release, *texts, *sorted(closure.files))

    def make(root: Path) -> None:
        folder = root / "lib" / "modules" / kernel.release
        folder.mkdir(parents=True)
        for name, data in extra.items():
            (folder / name).write_bytes(data)
        for path in closure.files:
            target = folder / _guest_name(path.relative_to(kernel.modules or path.parent))
            target.parent.mkdir(parents=True, exist_ok=True)
            with open_decompressed(path) as source:
                target.write_bytes(source.read())

    return cache.entry("guest-modules", key, make)


def _visit(
    tree: ModuleTree,
    name: str,
    read: ReadInfo,
    infos: dict[Path, ModuleInfo],
    above: tuple[str, ...],
) -> None:
    """Add a module after all that it needs. `above` holds who asked: softdeps may be circular."""
    path = tree.files[name]
    if path in infos or name in above:
        return
    info = read(path)
    for need in info.depends:
        if need not in tree.files and need not in tree.builtin:
            raise KernelError(f"{path}: needs the module {need}, which is not in {tree.folder}")
    softly = {canonical(alias) for alias in (*info.soft_pre, *info.soft_post)}
    before = [*info.depends, *(canonical(alias) for alias in info.soft_pre)]
    for need in before:
        if need in tree.files:
            _visit(tree, need, read, infos, (*above, name))
    infos[path] = info
    for need in sorted(softly):
        if need in tree.files:
            _visit(tree, need, read, infos, (*above, name))


def _indexed(tree: ModuleTree, closure: Closure) -> tuple[IndexedModule, ...]:
    def path_of(path: Path) -> str:
        return _guest_name(path.relative_to(tree.folder))

    return tuple(
        IndexedModule(
            name=module_name(path),
            path=path_of(path),
            needs=tuple(map(path_of, _hard_needs(tree, closure, path))),
            aliases=info.aliases,
            soft_pre=info.soft_pre,
            soft_post=info.soft_post,
        )
        for path, info in closure.infos.items()
    )


def _hard_needs(tree: ModuleTree, closure: Closure, path: Path) -> tuple[Path, ...]:
    """All that a module needs, directly or not, in the closure's load order."""
    needed: set[Path] = set()
    waiting = [path]
    while waiting:
        for name in closure.infos[waiting.pop()].depends:
            need = tree.files.get(name)
            if need is not None and need not in needed:
                needed.add(need)
                waiting.append(need)
    return tuple(each for each in closure.files if each in needed and each != path)


def _copied(folder: Path) -> Mapping[str, bytes]:
    return {
        name: (folder / name).read_bytes() for name in _COPIED_INDEXES if (folder / name).is_file()
    }


def _guest_name(path: Path) -> str:
    suffix = next(suffix for suffix in _SUFFIXES if path.name.endswith(suffix))
    return str(path.with_name(path.name.removesuffix(suffix) + ".ko"))


def _module_files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in names:
            path = Path(place, name)
            if name.endswith(_SUFFIXES) and not path.is_symlink():
                yield path


def _preference(folder: Path, path: Path) -> tuple[bool, str]:
    """As depmod searches: what was put into `updates` replaces the kernel's own."""
    below = path.relative_to(folder)
    return (below.parts[0] != "updates", str(below))


def _lines(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text(errors="replace").split("\n"))[:-1]
    except FileNotFoundError:
        return ()
