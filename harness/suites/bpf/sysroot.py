"""Headers and libraries of another architecture, to link its programs on this host.

They are those of the distribution that the guest's userland comes from, so that programs linked
here start there.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from harness.host.cache import Cache, digest_of
from harness.model.arch import ArchSpec
from harness.model.events import Event, PhaseEnded, PhaseStarted
from harness.packages.apt import AptState
from harness.packages.deb import unpack_deb

_FORMAT = "1"

_NEEDED = ("libc6-dev", "linux-libc-dev", "libelf-dev", "zlib1g-dev", "libcap-dev", "libssl-dev")
_WANTED = ("libc6", "libcrypt-dev", "libelf1", "libelf1t64", "zlib1g", "libcap2", "libzstd1")
_LIBCRYPTO = ("libssl3", "libssl3t64", "libssl1.1")
_NEVER_WANTED = ("usr/share/", "etc/", "var/")


def target_sysroot(arch_spec: ArchSpec, cache: Cache, on_event: Callable[[Event], None]) -> Path:
    """Return a folder for `--sysroot`, fetched and unpacked when it is not in the cache yet.

    Raises what fetching raises.
    """
    apt = AptState(cache, arch_spec.debian_arch)
    apt.refresh_if_stale()
    optional = [name for name in (*_WANTED, *_LIBCRYPTO) if apt.newest(name) is not None]
    fetched = apt.fetch([*_NEEDED, *optional], with_depends=False)
    key = digest_of(_FORMAT, *sorted(package.sha256 for package in fetched))

    def make(folder: Path) -> None:
        start_s = time.monotonic()
        on_event(PhaseStarted(arch=arch_spec.arch, phase="unpack", detail="libraries to link with"))
        for package in fetched:
            unpack_deb(package.path, folder, only=lambda name: not name.startswith(_NEVER_WANTED))
        make_links_relative(folder)
        duration_s = time.monotonic() - start_s
        on_event(PhaseEnded(arch=arch_spec.arch, phase="unpack", duration_s=duration_s))

    return cache.entry("sysroot", key, make)


def make_links_relative(root: Path) -> None:
    """Let absolute symlinks lead to where they lead when `root` is the root folder.

    Else `libz.so -> /lib/…/libz.so.1` of another architecture would lead to the host's.
    """
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink() and (target := path.readlink()).is_absolute():
                inside = root / target.relative_to("/")
                path.unlink()
                path.symlink_to(os.path.relpath(inside, folder))
