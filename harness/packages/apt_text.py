"""What apt is told and what it says: text to values and back, nothing run."""

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote

from harness.model.errors import RigError, UserError
from harness.packages.deb import parse_control
from harness.packages.source import PackageVersion

# libelf1, g++-12, linux-source-6.1=6.1.140-1: nothing that apt could take for an option or a glob
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*(?:=[A-Za-z0-9.+:~-]+)?")
# 'http://…/libc6_2.36_arm64.deb' libc6_2.36-9+deb12u14_arm64.deb 2324660 MD5Sum:96654eb2…
_URI = re.compile(r"^'[^']*' (?P<name>[^_\s]+)_(?P<version>[^_\s]+)_\S+ \d+ \S*$", re.MULTILINE)
# linux-image-rt-amd64 | linux-image-6.1 (>= 6.1~), python3:any
_DEPENDENCY = re.compile(r"\s*(?P<name>[a-z0-9][a-z0-9+.-]*)")

_CONFIG = """\
// Made by the harness: apt's state for one architecture, apart from the host's.
#clear APT::Architectures;
#clear APT::Update;
#clear APT::Default-Release;
#clear AptCli::Hooks;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::Always-Include-Phased-Updates "true";
Acquire::Languages "none";
Acquire::PDiffs "false";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb-src::Sources::DefaultEnabled "false";
Dir::State "{root}/state";
Dir::State::lists "{root}/lists";
Dir::State::status "{root}/state/status";
Dir::State::extended_states "{root}/state/extended_states";
Dir::Cache "{root}";
Dir::Cache::archives "{root}/archives";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Log "{root}/log";
"""
_OWN_SOURCES = """\
Dir::Etc::sourcelist "{sources}";
Dir::Etc::sourceparts "-";
"""


def config_text(root: Path, arch: str, sources: Path | None) -> str:
    """Return apt's configuration for a private state in `root`.

    It is read after the host's own: proxies, keys and preferences stay, hooks do not. Raises
    UserError for a path that apt cannot be told.
    """
    for path in (root, sources):
        if path is not None and re.search(r'["\n]', str(path)):
            raise UserError(f"apt cannot use a path with a quote or a line end in it: {path}")
    text = _CONFIG.format(arch=arch, root=root)
    return text + (_OWN_SOURCES.format(sources=sources.absolute()) if sources else "")


def checked_name(text: str) -> str:
    """Return a package's name, or `name=version`, as it came. Raises UserError for another text."""
    if not _NAME.fullmatch(text):
        raise UserError(f"not the name of a Debian package: {text!r}")
    return text


def read_packages(text: str) -> tuple[PackageVersion, ...]:
    """Read what `apt-cache show` prints."""
    return tuple(_package(part) for part in text.split("\n\n") if part.strip())


def read_uris(text: str) -> tuple[str, ...]:
    """Read `apt-get --print-uris`: return `name=version` for each file."""
    return tuple(f"{m['name']}={unquote(m['version'])}" for m in _URI.finditer(text))


def says_none(errors: str) -> bool:
    """Whether what `apt-cache show` says is that there is no such package."""
    return "E: No packages found" in errors


def says_outdated(errors: str) -> bool:
    """Whether apt fails because the repository has moved on since the index was fetched."""
    # E: Failed to fetch http://…/hostname_3.23_amd64.deb  404  Not Found [IP: …]
    return any(
        words in errors
        for words in ("404 ", "File not found", "Hash Sum mismatch", "unexpected size")
    )


def near_names(name: str, known: Iterable[str]) -> tuple[str, ...]:
    return tuple(difflib.get_close_matches(name, list(known), n=3))


def last_error(output: str) -> str:
    """Return the line of apt's output that says best what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for mark in ("E:", "Err:", "W:", ""):
        for line in lines:
            if line.startswith(mark):
                return line
    return "it said nothing"


def exactly(
    packages: Sequence[PackageVersion], wanted: Iterable[str]
) -> tuple[PackageVersion, ...]:
    """Return one package for each `name=version`, in that order.

    Raises RigError for one that is missing or has no SHA-256.
    """
    known = {f"{p.name}={p.version}": p for p in reversed(packages)}
    found = []
    for text in wanted:
        package = known.get(text)
        if package is None or not package.sha256:
            raise RigError(f"the package index has no SHA-256 for {text}")
        found.append(package)
    return tuple(found)


def real_name(package: PackageVersion) -> str | None:
    """Return what a metapackage stands for, None when it is a real one.

    `linux-image-amd64` stands for `linux-image-6.1.0-37-amd64`: the one of its dependencies that
    shares its first words and has a number.
    """
    says_so = "meta-package" in package.fields.get("Description", "")
    if _has_number(package.name) and not says_so:
        return None
    head = "-".join(package.name.split("-")[:2])
    heirs = [name for name in package.depends if name.startswith(head) and _has_number(name)]
    heir = max(heirs, key=len, default="")
    return heir if len(heir) > len(package.name) else None


def _has_number(name: str) -> bool:
    # linux-image-6.1.0-37-amd64 has one; linux-image-amd64 has none: 64 belongs to a word
    return any(part[:1].isdigit() for part in name.split("-"))


def _package(paragraph: str) -> PackageVersion:
    fields = parse_control(paragraph)
    size = fields.get("Size", "")
    return PackageVersion(
        name=fields.get("Package", ""),
        version=fields.get("Version", ""),
        architecture=fields.get("Architecture", ""),
        sha256=fields.get("SHA256", ""),
        size_b=int(size) if size.isdigit() else 0,
        depends=tuple(_depends(fields.get("Pre-Depends", ""), fields.get("Depends", ""))),
        fields=fields,
    )


def _depends(*texts: str) -> Iterable[str]:
    for text in texts:
        for alternatives in text.split(","):
            match = _DEPENDENCY.match(alternatives)
            if match:
                yield match["name"]
