"""The distribution's own kernel, its source and its headers: what runs when nobody names a kernel.

Today that is Debian's, by apt. The packages' names are in configs/kernels/distribution.toml.
"""

import platform
import re
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import msgspec

from harness.host.cache import Cache, digest_of
from harness.host.command import run
from harness.host.config import data_root, load_toml
from harness.kernel.package import deb_kernel
from harness.kernel.progress import OnEvent, phase
from harness.kernel.source import makefile_version
from harness.model.arch import ArchSpec
from harness.model.errors import RigError, UserError
from harness.model.kernel import KernelArtifact, SourceTree
from harness.packages.apt import AptState
from harness.packages.deb import unpack_deb
from harness.packages.source import FetchedPackage, PackageSource
from harness.packages.unpack import unpack_tar

OpenSource = Callable[[Cache, str], PackageSource]
"""Opens a distribution's packages for one of its architectures."""

_LAYOUT = 1  # of the cache's entries
_SERIES = re.compile(r"(?:[0-9]+:)?(?P<upstream>(?P<series>[0-9]+\.[0-9]+)[0-9.]*)")
_HOST_DEBIAN_ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}


class _Names(msgspec.Struct, forbid_unknown_fields=True):
    """configs/kernels/distribution.toml"""

    image: str
    headers: str
    source: str
    source_parts: tuple[str, ...]


def distribution_kernel(
    arch_spec: ArchSpec, cache: Cache, on_event: OnEvent, *, open_source: OpenSource = AptState
) -> KernelArtifact:
    """Return the newest packaged kernel of the distribution, fetched and unpacked when needed.

    Raises RigError when nothing can be fetched and nothing is in the cache.
    """
    apt = open_source(cache, arch_spec.debian_arch)
    name = _names().image.format(debian_arch=arch_spec.debian_arch)
    with phase(on_event, arch_spec.arch, "fetch", name):
        apt.refresh_if_stale()
        package = apt.newest(name, follow=True)
        if package is None:
            raise RigError(
                f"the distribution has no package {name} for {arch_spec.arch}",
                hint="name a kernel: a .deb, or image,modules,config",
            )
        (fetched,) = apt.fetch((f"{package.name}={package.version}",), with_depends=False)
    return deb_kernel(fetched.path, arch_spec, cache, on_event, sha256=fetched.sha256)


def distribution_source(
    kernel: KernelArtifact,
    arch_spec: ArchSpec,
    cache: Cache,
    on_event: OnEvent,
    *,
    open_source: OpenSource = AptState,
) -> SourceTree:
    """Return the source package of the kernel's own version: the part that selftests are made from.

    It is the same folder for all architectures. Raises UserError for a kernel that is of no
    package, or of a version whose source the distribution no longer has.
    """
    upstream = _package_version(kernel)
    name = _names().source.format(series=upstream["series"])
    apt = open_source(cache, arch_spec.debian_arch)
    with phase(on_event, arch_spec.arch, "fetch", name):
        version = _source_version(apt, name, kernel)
        (fetched,) = apt.fetch((f"{name}={version}",), with_depends=False)
    parts = _names().source_parts
    key = digest_of(str(_LAYOUT), fetched.sha256, *parts)

    def make(folder: Path) -> None:
        with phase(on_event, arch_spec.arch, "unpack", f"{name} {version}"):
            _unpack_source(fetched.path, folder, parts)

    folder = cache.entry("source", key, make) / "tree"
    return SourceTree(
        path=folder, name=f"{name} {version}", version=makefile_version(folder), sha256=key
    )


def distribution_headers(
    kernel: KernelArtifact,
    arch_spec: ArchSpec,
    cache: Cache,
    on_event: OnEvent,
    *,
    open_source: OpenSource = AptState,
) -> Path:
    """Return a folder for `make -C <it> M=…`: headers, config, Module.symvers and build scripts.

    The scripts run on this host, whatever the kernel's architecture. The folder is read-only to
    such a build. Raises UserError for a kernel that is of no package of the distribution.
    """
    _package_version(kernel)
    name = _names().headers.format(release=kernel.release)
    with phase(on_event, arch_spec.arch, "fetch", name):
        of_target, scripts = _header_packages(
            open_source(cache, arch_spec.debian_arch), name, kernel.provenance.version
        )
        of_host = open_source(cache, _host_debian_arch()).fetch(scripts, with_depends=False)

    def make(folder: Path) -> None:
        with phase(on_event, arch_spec.arch, "unpack", name):
            for package in (*of_target, *of_host):
                unpack_deb(package.path, folder, only=lambda path: path.startswith("usr/"))
            _make_relocatable(folder / "usr" / "src" / name / "Makefile")

    key = digest_of(str(_LAYOUT), *(package.sha256 for package in (*of_target, *of_host)))
    return cache.entry("kernel-headers", key, make) / "usr" / "src" / name


@lru_cache(maxsize=1)
def _names() -> _Names:
    return load_toml(data_root() / "configs" / "kernels" / "distribution.toml", _Names)


def _package_version(kernel: KernelArtifact) -> re.Match[str]:
    """Match the upstream part of the kernel's package version. Raises UserError without one."""
    match = _SERIES.match(kernel.provenance.version)
    if kernel.provenance.kind != "deb" or match is None:
        raise UserError(
            f"kernel {kernel.release} is of no package of this distribution: "
            "its source is not known",
            hint="name the source tree that it was built from with --source",
        )
    return match


def _source_version(apt: PackageSource, name: str, kernel: KernelArtifact) -> str:
    wanted = kernel.provenance.version
    versions = [package.version for package in apt.versions(name)]
    if wanted in versions:
        return wanted
    have = f"; it has {', '.join(versions)}" if versions else ""
    raise UserError(
        f"the distribution has no {name} {wanted} for kernel {kernel.release}{have}",
        hint="name a source tree of that version with --source, or a newer kernel",
    )


def _unpack_source(deb: Path, folder: Path, parts: tuple[str, ...]) -> None:
    """Unpack `parts` of the tar file inside the source package to `folder/tree`."""
    outer = folder / "outer"
    unpack_deb(deb, outer, only=lambda name: name.startswith("usr/src/linux-source-"))
    archives = sorted(outer.glob("usr/src/linux-source-*.tar.*"))
    if len(archives) != 1:
        raise RigError(f"{deb}: expected one archive of the source in it, found {len(archives)}")
    tree = folder / "tree"
    if not _fast_unpack(archives[0], tree, parts):
        wanted = {*parts, *(f"{part}/" for part in parts)}
        shutil.rmtree(tree, ignore_errors=True)
        unpack_tar(archives[0], tree, only=lambda name: _is_part(name, wanted), strip=1)
    shutil.rmtree(outer)
    if not (tree / "Makefile").is_file():
        raise RigError(f"{deb}: no Makefile in the source tree")


def _fast_unpack(archive: Path, tree: Path, parts: tuple[str, ...]) -> bool:
    """Try with GNU tar and all CPUs, which takes half the time; False when that did not work.

    Only for the distribution's own archives, whose checksum was verified.
    """
    if archive.suffix != ".xz" or not (shutil.which("tar") and shutil.which("xz")):
        return False
    tree.mkdir()
    top = archive.name.removesuffix(".tar.xz")
    decompress = "--use-compress-program=xz --threads=0"
    options = ("--strip-components=1", "--no-same-owner", "--no-same-permissions")
    argv = ("tar", decompress, *options, "--directory", str(tree), "--extract")
    members = (f"{top}/{part}" for part in parts)
    return run((*argv, "--file", str(archive), "--", *members), check=False).status == 0


def _is_part(name: str, wanted: set[str]) -> bool:
    place = name
    while place:
        if place in wanted:
            return True
        place = place.rpartition("/")[0]
    return False


def _header_packages(
    apt: PackageSource, name: str, version: str
) -> tuple[tuple[FetchedPackage, ...], tuple[str, ...]]:
    """Fetch the headers with the part that flavours share; name the host's build scripts."""
    found = next((p for p in apt.versions(name) if p.version == version), None)
    if found is None:
        raise UserError(f"the distribution has no {name} {version}")
    common = [f"{need}={version}" for need in found.depends if need.startswith("linux-headers-")]
    scripts = [f"{need}={version}" for need in found.depends if need.startswith("linux-kbuild-")]
    if not common or not scripts:
        raise RigError(f"{name} is not made as Debian's are: it needs {', '.join(found.depends)}")
    return apt.fetch((f"{name}={version}", *common), with_depends=False), tuple(scripts)


def _host_debian_arch() -> str:
    machine = platform.machine()
    if machine not in _HOST_DEBIAN_ARCHES:
        raise RigError(f"the distribution's build scripts do not run on a {machine} host")
    return _HOST_DEBIAN_ARCHES[machine]


def _make_relocatable(makefile: Path) -> None:
    """Debian's names /usr/src: let it look beside itself."""
    # include /usr/src/linux-headers-6.1.0-56-common/Makefile
    text = makefile.read_text()
    makefile.write_text(text.replace("/usr/src/", "$(dir $(lastword $(MAKEFILE_LIST)))../"))
