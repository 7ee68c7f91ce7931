"""A distribution's packages from memory: what apt would find and fetch, without apt."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from harness.host.cache import Cache
from harness.model.errors import UserError
from harness.packages.source import FetchedPackage, PackageSource, PackageVersion
from tests.fakes import packages as fake

Files = Mapping[str, bytes | str]
"""Content by path; a `str` beginning with `->` is a symbolic link."""


class Shelf:
    """Packages of all architectures. Calling it opens one architecture, as AptState does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packages: list[tuple[PackageVersion, Path]] = []
        self.fetched: list[str] = []

    def add(
        self, name: str, version: str, arch: str, files: Files, depends: Sequence[str] = ()
    ) -> Path:
        members = [
            fake.symlink(f"./{path}", data[2:])
            if isinstance(data, str) and data.startswith("->")
            else fake.tar_member(f"./{path}", data.encode() if isinstance(data, str) else data)
            for path, data in files.items()
        ]
        control = fake.control_text(name, version, arch, ", ".join(depends))
        deb = fake.deb(fake.tar(*members), control)
        path = self.folder / f"{name}_{version}_{arch}.deb"
        path.write_bytes(deb)
        package = PackageVersion(
            name=name,
            version=version,
            architecture=arch,
            sha256=sha256(deb).hexdigest(),
            size_b=len(deb),
            depends=tuple(depends),
            fields={},
        )
        self.packages.insert(0, (package, path))
        return path

    def __call__(self, cache: Cache, debian_arch: str) -> PackageSource:
        return _Opened(self, debian_arch)


class _Opened:
    def __init__(self, shelf: Shelf, arch: str) -> None:
        self._shelf = shelf
        self._arches = (arch, "all")

    def refresh_if_stale(self) -> None:
        pass

    def newest(self, package: str, *, follow: bool = False) -> PackageVersion | None:
        found = next(iter(self.versions(package)), None)
        return self.newest(found.depends[0]) if follow and found and found.depends else found

    def versions(self, package: str) -> tuple[PackageVersion, ...]:
        return tuple(version for version, _ in self._offered() if version.name == package)

    def fetch(self, names: Sequence[str], *, with_depends: bool) -> tuple[FetchedPackage, ...]:
        return tuple(sorted(map(self._fetch, names), key=lambda package: package.name))

    def _fetch(self, wanted: str) -> FetchedPackage:
        name, _, version = wanted.partition("=")
        for package, path in self._offered():
            if package.name == name and version in ("", package.version):
                self._shelf.fetched.append(name)
                return FetchedPackage(
                    name=name, version=package.version, path=path, sha256=package.sha256
                )
        raise UserError(f"no package {wanted}")

    def _offered(self) -> list[tuple[PackageVersion, Path]]:
        return [pair for pair in self._shelf.packages if pair[0].architecture in self._arches]
