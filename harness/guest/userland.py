"""The guest's programs, libraries and data, taken out of the distribution's packages.

Packages of the guest's architecture are unpacked on the host, never installed: no maintainer script
runs, and an aarch64 userland is made on an x86_64 host in the same way as its own.
"""

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.guest.closure import MERGED_FOLDERS, Listing, Sysroot, closure
from harness.guest.newc import digest_of_entries, tree_entries
from harness.host.cache import Cache, digest_of
from harness.host.config import data_root, load_toml
from harness.model.arch import ArchSpec
from harness.model.errors import UserError
from harness.model.events import Event, Noted, PhaseEnded, PhaseStarted
from harness.packages.apt import AptState
from harness.packages.deb import unpack_deb

_FORMAT = "1"
"""Raise it when the same packages and the same listing give another tree."""

_NEVER_WANTED = ("usr/share/", "usr/include/", "var/", "usr/lib/python", "lib/modules/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Userland:
    root: Path
    """A folder that holds the guest's /usr and /etc, with links in place of /bin, /lib, …"""
    sha256: str
    """Identity of its content: names, permissions, bytes."""


def listing_path() -> Path:
    return data_root() / "configs" / "packages" / "userland.toml"


def userland(arch_spec: ArchSpec, cache: Cache, on_event: Callable[[Event], None]) -> Userland:
    """Return the userland of an architecture, fetched and unpacked when it is not there yet.

    Raises UserError when the listing does not fit the distribution's packages, and what fetching
    raises.
    """
    path = listing_path()
    listing = load_toml(path, Listing)
    with _phase(on_event, arch_spec, "fetch"):
        apt = AptState(
            cache,
            arch_spec.debian_arch,
            on_note=lambda text: on_event(Noted(arch=None, text=text)),
        )
        available, debs = _fetched(listing, apt)
    key = digest_of(_FORMAT, arch_spec.debian_arch, path, *sorted(debs))

    def make(folder: Path) -> None:
        with _phase(on_event, arch_spec, "unpack"):
            in_order = [debs[sha256] for sha256 in sorted(debs)]
            make_root(in_order, available, arch_spec, folder / "root")
            digest = digest_of_entries(tree_entries(folder / "root"))
            (folder / "sha256").write_text(digest)

    entry = cache.entry("userland", key, make)
    return Userland(root=entry / "root", sha256=(entry / "sha256").read_text())


def make_root(debs: Sequence[Path], listing: Listing, arch_spec: ArchSpec, root: Path) -> None:
    """Unpack packages and copy what the listing wants of them, and what that needs, to `root`.

    Raises UserError when something wanted is in none of the packages.
    """
    unpacked = root.with_name("unpacked")
    for deb in debs:
        unpack_deb(deb, unpacked, only=lambda name: not name.startswith(_NEVER_WANTED))
    sysroot = Sysroot(unpacked, arch_spec)
    wanted = {name for package in listing.package for name in sysroot.wanted_by(package)}
    root.mkdir()
    for name in closure(sysroot, wanted):
        _copy(sysroot, name, root / name)
    for folder in MERGED_FOLDERS:
        (root / "usr" / folder).mkdir(parents=True, exist_ok=True)
        (root / folder).symlink_to(f"usr/{folder}")
    for name, target in listing.links.items():
        link = root / name
        link.symlink_to(target)
        if not link.exists():
            raise UserError(
                f"configs/packages/userland.toml: nothing for the link {name} to lead to"
            )
    shutil.rmtree(unpacked)


def _fetched(listing: Listing, apt: AptState) -> tuple[Listing, dict[str, Path]]:
    """Return the listing without what the distribution lacks, and packages by their checksum."""
    apt.refresh_if_stale()
    available = tuple(
        package
        for package in listing.package
        if not package.optional or apt.newest(package.name) is not None
    )
    fetched = apt.fetch([package.name for package in available], with_depends=True)
    debs = {package.sha256: package.path for package in fetched}
    return msgspec.structs.replace(listing, package=available), debs


def _copy(sysroot: Sysroot, name: str, into: Path) -> None:
    into.parent.mkdir(parents=True, exist_ok=True)
    target = sysroot.target(name)
    if target is not None:
        into.symlink_to(os.path.relpath(f"/{target}", f"/{name}/.."))
        return
    path = sysroot.paths[name]
    shutil.copyfile(path, into)
    into.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)


@contextlib.contextmanager
def _phase(on_event: Callable[[Event], None], arch_spec: ArchSpec, phase: str) -> Iterator[None]:
    start_s = time.monotonic()
    on_event(PhaseStarted(arch=arch_spec.arch, phase=phase, detail="userland"))
    yield
    duration_s = time.monotonic() - start_s
    on_event(PhaseEnded(arch=arch_spec.arch, phase=phase, duration_s=duration_s, detail="userland"))
