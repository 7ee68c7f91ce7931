"""Which files of unpacked packages a set of programs needs to run: the guest gets no others."""

import fnmatch
import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from harness.model.arch import ArchSpec
from harness.model.errors import UserError
from harness.packages.elf import elf_machine, interpreter, needed_libraries, runpath

MERGED_FOLDERS = ("bin", "lib", "lib64", "sbin")
"""Folders of the root that are links into /usr, in the guest always, in packages not yet."""

_PROGRAM_FOLDERS = ("usr/bin", "usr/sbin")
_PATTERN_CHARACTERS = "*?["


class Package(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is taken out of one package; see the head of `configs/packages/userland.toml`."""

    name: str
    why: str
    programs: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    optional: bool = False


class Listing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole of `configs/packages/userland.toml`."""

    package: tuple[Package, ...]
    links: dict[str, str] = {}


def canonical(name: str) -> str:
    """Return a path's name where /bin, /sbin and /lib* are links into /usr; no leading slash."""
    name = posixpath.normpath("/" + name).lstrip("/")
    return f"usr/{name}" if name.partition("/")[0] in MERGED_FOLDERS else name


class Sysroot:
    """Packages unpacked into one folder, seen through the guest's names."""

    def __init__(self, root: Path, arch_spec: ArchSpec) -> None:
        self.elf_machine = arch_spec.elf_machine
        self.library_folders = (f"usr/lib/{arch_spec.gnu_triple}", "usr/lib", "usr/lib64")
        self.paths: dict[str, Path] = {}
        for path in sorted(root.rglob("*")):
            name = canonical(path.relative_to(root).as_posix())
            if path.is_symlink():
                self.paths.setdefault(name, path)
            elif path.is_file():
                self.paths[name] = path  # before a link from the other side of a merged folder

    def target(self, name: str) -> str | None:
        """Return the name that a symbolic link leads to; None when it is no link."""
        path = self.paths[name]
        if not path.is_symlink():
            return None
        return canonical(posixpath.join("/", posixpath.dirname(name), path.readlink()))

    def wanted_by(self, package: Package) -> Iterator[str]:
        """Yield the names of all that the listing wants of a package.

        Raises UserError for a plain name that is missing.
        """
        for folders, wanted in (
            (_PROGRAM_FOLDERS, package.programs),
            (self.library_folders, package.libraries),
            (("",), package.files),
        ):
            for text in wanted:
                yield from self._match(text, folders, package.name)

    def libraries(self, name: str) -> tuple[str, ...]:
        """Return the names of what the loader would load for an ELF file. Raises UserError."""
        path = self.paths[name]
        needed = needed_libraries(path)
        own = runpath(path) if needed else ()
        origin = posixpath.dirname(f"/{name}")
        folders = (
            *(canonical(folder.replace("$ORIGIN", origin)) for folder in own),
            *self.library_folders,
        )
        return tuple(self._library(soname, folders, name) for soname in needed)

    def _library(self, soname: str, folders: Iterable[str], wanted_by: str) -> str:
        for folder in folders:
            if f"{folder}/{soname}" in self.paths:
                return f"{folder}/{soname}"
        raise UserError(
            f"the guest's /{wanted_by} needs {soname}, which is in none of the fetched packages",
            hint="name the library's package in configs/packages/userland.toml",
        )

    def _match(self, text: str, folders: Iterable[str], package: str) -> Iterator[str]:
        names = [canonical(posixpath.join(folder, text)) for folder in folders]
        # `[` is a program, too.
        if len(text) > 1 and any(character in text for character in _PATTERN_CHARACTERS):
            for pattern in names:
                yield from fnmatch.filter(self.paths, pattern)
            return
        found = next((name for name in names if name in self.paths), None)
        if found is None:
            raise UserError(
                f"configs/packages/userland.toml: package {package} has no {text} "
                f"(looked in {', '.join(f'/{folder}' for folder in folders)})"
            )
        yield found


def closure(sysroot: Sysroot, wanted: Iterable[str]) -> tuple[str, ...]:
    """Return, sorted, `wanted` and all that it needs: targets of links, loaders, libraries.

    Raises UserError when a library is missing or a program is of another architecture.
    """
    done: set[str] = set()
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name not in done:
            done.add(name)
            waiting.extend(_needs(sysroot, name))
    return tuple(sorted(done))


def _needs(sysroot: Sysroot, name: str) -> tuple[str, ...]:
    if name not in sysroot.paths:
        raise UserError(f"the guest's /{name} is in none of the fetched packages")
    target = sysroot.target(name)
    if target is not None:
        return (target,)
    path = sysroot.paths[name]
    machine = elf_machine(path)
    if machine is None:
        return ()
    if machine != sysroot.elf_machine:
        raise UserError(f"the guest's /{name} is for {machine}, not for {sysroot.elf_machine}")
    loader = interpreter(path)
    return (*sysroot.libraries(name), *([canonical(loader)] if loader else []))
