"""What a distribution offers, whichever tool it is fetched with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageVersion:
    """One version of one package, as the repository's index has it."""

    name: str
    version: str
    architecture: str
    """The distribution's name of it; `all` or `noarch` for none."""
    sha256: str
    size_b: int
    depends: tuple[str, ...]
    """Names of what it depends on, the first of each set of alternatives, without versions."""
    fields: Mapping[str, str]
    """Everything that the index says, by the index's own names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedPackage:
    """A package file in the cache; its checksum is the index's."""

    name: str
    version: str
    path: Path
    sha256: str


class PackageSource(Protocol):
    """A distribution's packages for one architecture, whatever the host's own is."""

    def refresh_if_stale(self) -> None:
        """Bring the index up to date when it is old. Raises RigError when there is none at all."""

    def newest(self, package: str, *, follow: bool = False) -> PackageVersion | None:
        """Return what would be installed, None when there is no such package.

        With `follow`, a metapackage leads to the real one: `linux-image-amd64` to
        `linux-image-6.1.0-37-amd64`.
        """

    def versions(self, package: str) -> tuple[PackageVersion, ...]:
        """Return all versions that the index has, best first."""

    def fetch(self, names: Sequence[str], *, with_depends: bool) -> tuple[FetchedPackage, ...]:
        """Return packages as files, sorted by name; `name=version` asks for one version.

        With `with_depends`, also all that they need, recommendations left out. Raises UserError for
        a package that there is not, RigError when one cannot be fetched or is not what the index
        promises.
        """
