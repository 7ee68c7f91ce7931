"""Packages of a Debian-like distribution by apt, for any architecture, without root.

apt gets a state of its own below the cache: the host's sources, keys, proxies and preferences are
read, nothing of the host is written, and its dpkg is not asked. Once something was fetched, the
same question is answered from the cache, without apt and without a network, until the index is old.
"""

import contextlib
import hashlib
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from harness.host.cache import Cache, digest_of, file_lock, key_of, write_atomically
from harness.host.command import CommandError, run
from harness.model.errors import RigError, UserError
from harness.packages import apt_text
from harness.packages.source import FetchedPackage, PackageVersion

__all__ = ["AptState", "FetchedPackage", "PackageVersion"]

_log = logging.getLogger(__name__)

_STALE_S = 12 * 3600.0
_RETRY_S = 15 * 60.0
"""After a refresh that failed: how long the old index is used without another try."""
_REFRESH_LIMIT_S = 600.0
_QUERY_LIMIT_S = 120.0
_DOWNLOAD_LIMIT_S = 3600.0
_HOST_SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))
_EVIDENCE_LINES = 8
_NETWORK_HINT = "check the network, or name a kernel that is here already"

_ARCH = re.compile(r"[a-z0-9]+")


class _Index(msgspec.Struct, forbid_unknown_fields=True):
    """What is known of the private index; kept beside it."""

    identity: str = ""
    """Hash of the signed release files; "" when there is no index."""
    sources: str = ""
    """Hash of the sources that it was made from."""
    refreshed_s: float = 0.0
    tried_s: float = 0.0


class AptState:
    """apt's packages for one Debian architecture; see `PackageSource` for what each call promises.

    Any number of processes may share the cache. `sources` replaces the host's list of sources (a
    `.list` or a `.sources` file). `on_note` hears of what a person should know, such as the use of
    an old index; without it the log does. `clock` gives seconds since the epoch.
    """

    def __init__(
        self,
        cache: Cache,
        debian_arch: str,
        *,
        sources: Path | None = None,
        on_note: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not _ARCH.fullmatch(debian_arch):
            raise UserError(f"not an architecture of Debian: {debian_arch!r}")
        self._cache = cache
        self._arch = debian_arch
        self._sources = sources
        self._note = on_note or _log.warning
        self._clock = clock
        name = debian_arch if sources is None else f"{debian_arch}-{key_of(s=str(sources))[:12]}"
        self._root = cache.root / "apt" / name

    def refresh_if_stale(self, *, max_age_s: float = _STALE_S) -> None:
        """Fetch the index when it is older than `max_age_s`, or the sources have changed.

        When that fails, an index that is there goes on being used, and `on_note` is told.
        """
        self._refreshed(max_age_s)

    def newest(self, package: str, *, follow: bool = False) -> PackageVersion | None:
        shown = self._show(package, "--no-all-versions")
        if not shown or not follow:
            return shown[0] if shown else None
        real = apt_text.real_name(shown[0])
        return shown[0] if real is None else self.newest(real, follow=True)

    def versions(self, package: str) -> tuple[PackageVersion, ...]:
        return self._show(package, "--all-versions")

    def fetch(self, names: Sequence[str], *, with_depends: bool) -> tuple[FetchedPackage, ...]:
        wanted = tuple(sorted({apt_text.checked_name(name) for name in names}))
        index = self._refreshed(_STALE_S)
        packages = self._resolved(index, wanted, with_depends)
        try:
            self._download(packages)
        except CommandError as error:
            if not apt_text.says_outdated(error.output):
                raise _not_fetched(packages, error) from error
            packages = self._resolved(self._refreshed(max_age_s=0.0), wanted, with_depends)
            try:
                self._download(packages)
            except CommandError as again:
                raise _not_fetched(packages, again) from again
        return tuple(self._fetched(package) for package in packages)

    # The index

    def _refreshed(self, max_age_s: float) -> _Index:
        sources = self._sources_identity()
        index = self._read_index()
        if self._is_usable(index, sources, max_age_s):
            return index
        with self._locked():
            index = self._read_index()
            if not self._is_usable(index, sources, max_age_s):
                index = self._refresh(index, sources)
        return index

    def _is_usable(self, index: _Index, sources: str, max_age_s: float) -> bool:
        now = self._clock()
        if not index.identity or index.sources != sources:
            return False
        return now - index.refreshed_s < max_age_s or (
            max_age_s > 0 and now - index.tried_s < _RETRY_S
        )

    def _refresh(self, old: _Index, sources: str) -> _Index:
        now = self._clock()
        failure: CommandError | None = None
        try:
            # An old index is better than a long wait for a network that is not there.
            tries = ("-o", "Acquire::Retries=0") if old.identity else ()
            self._apt("apt-get", "update", "-q", *tries, limit_s=_REFRESH_LIMIT_S)
        except CommandError as error:
            failure = error
        identity = self._index_identity()
        if not identity:
            raise self._no_index(failure)
        index = _Index(identity=identity, sources=sources, refreshed_s=now, tried_s=now)
        if failure is not None:
            index.refreshed_s = old.refreshed_s
            self._note(
                f"the package index of {self._arch} could not be refreshed, "
                f"{_which(old.refreshed_s)} is used ({apt_text.last_error(failure.output)})"
            )
        if identity != old.identity:
            shutil.rmtree(self._root / "answers", ignore_errors=True)
        write_atomically(self._root / "index.json", msgspec.json.encode(index))
        return index

    def _no_index(self, failure: CommandError | None) -> RigError:
        if failure is None:
            return RigError(
                f"the package sources of this host have nothing for {self._arch}",
                hint="name a kernel, or a list of sources that has that architecture",
            )
        what = f"cannot fetch the package index of {self._arch}"
        if apt_text.says_outdated(failure.output):  # 404: Ubuntu keeps its ports elsewhere
            hint = f"these package sources may not have {self._arch} at all: name a kernel instead"
            return _failure(what, failure, hint=hint)
        return _failure(what, failure)

    def _read_index(self) -> _Index:
        try:
            return msgspec.json.decode((self._root / "index.json").read_bytes(), type=_Index)
        except (OSError, msgspec.DecodeError):
            return _Index()

    def _index_identity(self) -> str:
        lists = self._root / "lists"
        names = sorted(path.name for path in lists.iterdir() if path.is_file())
        if not any(name.partition("_Packages")[1] for name in names):
            return ""
        return digest_of(
            *(part for name in names if name != "lock" for part in _identifying(lists / name))
        )

    def _sources_identity(self) -> str:
        files: list[Path] = []
        for place in (self._sources,) if self._sources else _HOST_SOURCES:
            files += sorted(place.glob("*")) if place.is_dir() else [place]
        return digest_of(*(part for f in files if f.is_file() for part in _source_facts(f)))

    # Questions, and their answers by index

    def _show(self, package: str, extent: str) -> tuple[PackageVersion, ...]:
        name = apt_text.checked_name(package)
        index = self._refreshed(_STALE_S)
        return self._answer(
            index, lambda: self._shown(extent, name), question="show", extent=extent, name=name
        )

    def _resolved(
        self, index: _Index, names: tuple[str, ...], with_depends: bool
    ) -> tuple[PackageVersion, ...]:
        def ask() -> tuple[PackageVersion, ...]:
            self._check_known(names)
            verb = ("install", "-y") if with_depends else ("download",)
            try:
                listed = self._apt("apt-get", *verb, "-q", "--print-uris", *names)
            except CommandError as error:
                what = f"apt cannot put {', '.join(names)} of {self._arch} together"
                raise _failure(what, error, hint="") from error
            exact = sorted(set(apt_text.read_uris(listed)))
            return apt_text.exactly(self._shown("--no-all-versions", *exact), exact)

        return self._answer(index, ask, question="fetch", names=names, depends=with_depends)

    def _check_known(self, names: tuple[str, ...]) -> None:
        # apt-get would take a name that it does not know for a pattern, and find others by it.
        shown = self._shown("--no-all-versions", *names)
        known = {text for p in shown for text in (p.name, f"{p.name}={p.version}")}
        for unknown in (name for name in names if name not in known):
            name, _, version = unknown.partition("=")
            others = [p.version for p in self._shown("--all-versions", name)]
            if version and others:
                raise UserError(
                    f"no version {version} of {name} for {self._arch}",
                    hint=f"the package sources have {', '.join(others)}",
                )
            listed = self._apt("apt-cache", "pkgnames", name[:2]).split()
            near = ", ".join(apt_text.near_names(name, listed))
            hint = f"did you mean {near}?" if near else "is it in the host's package sources?"
            raise UserError(f"no package {name} for {self._arch}", hint=hint)

    def _shown(self, *arguments: str) -> tuple[PackageVersion, ...]:
        try:
            text = self._apt("apt-cache", "show", *arguments)
        except CommandError as error:
            if apt_text.says_none(error.output):
                return ()
            raise _failure(f"apt cannot read the package index of {self._arch}", error) from error
        return apt_text.read_packages(text)

    def _answer(
        self, index: _Index, ask: Callable[[], tuple[PackageVersion, ...]], **question: object
    ) -> tuple[PackageVersion, ...]:
        path = self._root / "answers" / index.identity[:16] / (key_of(**question) + ".json")
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(path.read_bytes(), type=tuple[PackageVersion, ...])
        with self._locked():
            answer = ask()
            write_atomically(path, msgspec.json.encode(answer))
        return answer

    # Files

    def _fetched(self, package: PackageVersion) -> FetchedPackage:
        folder = self._cache.path("deb", package.sha256)
        with contextlib.suppress(OSError):
            os.utime(folder)  # so that a clean-up by age keeps what is in use
        return FetchedPackage(
            name=package.name,
            version=package.version,
            path=folder / _file_name(package),
            sha256=package.sha256,
        )

    def _download(self, packages: tuple[PackageVersion, ...]) -> None:
        """Fetch into the cache what is not there. Raises CommandError, RigError for a checksum."""
        missing = [p for p in packages if not self._cache.has("deb", p.sha256)]
        if not missing:
            return
        with self._locked(), tempfile.TemporaryDirectory(dir=self._root) as name:
            folder = Path(name)
            exact = [f"{p.name}={p.version}" for p in missing]
            self._apt("apt-get", "download", "-q", *exact, limit_s=_DOWNLOAD_LIMIT_S, cwd=folder)
            files = {path.name.partition("_")[0]: path for path in folder.glob("*.deb")}
            for package in missing:
                self._store(package, files.get(package.name))

    def _store(self, package: PackageVersion, file: Path | None) -> None:
        if file is None:
            raise RigError(f"apt fetched no file for {package.name} {package.version}")
        with file.open("rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
        if actual != package.sha256:
            raise RigError(
                f"{file.name} is not what the index promises: its SHA-256 is {actual}, "
                f"{package.sha256} was promised",
                hint="something between here and the repository changes files; nothing was kept",
            )

        def move(folder: Path) -> None:
            file.chmod(0o444)
            file.rename(folder / _file_name(package))

        self._cache.entry("deb", package.sha256, move)

    # apt

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time; what the disk refuses meanwhile is a RigError."""
        try:
            with file_lock(self._root / "apt.lock"):
                yield
        except OSError as error:
            raise RigError(
                f"cannot write to the cache {self._root}: {error.strerror}",
                hint="free some space, or name another place with HARNESS_CACHE",
            ) from error

    def _apt(
        self,
        program: str,
        *arguments: str,
        limit_s: float = _QUERY_LIMIT_S,
        cwd: Path | None = None,
    ) -> str:
        """Run one of apt's programs and return what it printed. Raises CommandError."""
        if shutil.which(program) is None:
            raise RigError(
                f"the distribution's packages are fetched with {program}, which this host lacks",
                hint="name a kernel: a .deb, or an image with its modules",
            )
        argv = (program, "-c", str(self._configured()), *arguments)
        ended = run(argv, timeout_s=limit_s, cwd=cwd, check=False)
        if ended.status != 0:
            # It explains itself on one output and complains on the other.
            said = ended.stdout + ended.stderr
            raise CommandError(argv, f"status {ended.status}", status=ended.status, output=said)
        return ended.stdout

    def _configured(self) -> Path:
        """Write apt's configuration and the folders that it names; return its path."""
        for name in ("state", "lists/partial", "archives/partial", "log"):
            (self._root / name).mkdir(parents=True, exist_ok=True)
        (self._root / "state/status").touch()  # nothing is installed
        path = self._root / "apt.conf"
        text = apt_text.config_text(self._root, self._arch, self._sources).encode()
        if not path.is_file() or path.read_bytes() != text:
            write_atomically(path, text)
        return path


def _identifying(path: Path) -> tuple[str | Path, ...]:
    """What tells one index from another: a release file's content, which has all the checksums."""
    if path.name.endswith("Release"):
        return (path.name, path)
    info = path.stat()
    return (path.name, f"{info.st_size} {info.st_mtime_ns}")


def _source_facts(path: Path) -> tuple[str | Path, ...]:
    if os.access(path, os.R_OK):
        return (str(path), path)
    return (str(path), str(path.stat().st_mtime_ns))


def _file_name(package: PackageVersion) -> str:
    version = package.version.replace(":", "%3a")
    return f"{package.name}_{version}_{package.architecture}.deb"


def _not_fetched(packages: Sequence[PackageVersion], error: CommandError) -> RigError:
    return _failure(f"cannot fetch the {len(packages)} packages that are needed", error)


def _failure(what: str, error: CommandError, *, hint: str = _NETWORK_HINT) -> RigError:
    return RigError(
        f"{what}: {apt_text.last_error(error.output or str(error))}",
        hint=hint,
        evidence=tuple(error.output.splitlines()[-_EVIDENCE_LINES:]),
    )


def _which(refreshed_s: float) -> str:
    if not refreshed_s:
        return "what came of it"
    return time.strftime("the one of %Y-%m-%d %H:%M UTC", time.gmtime(refreshed_s))
