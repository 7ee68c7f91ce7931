"""Compilers and tools that build a kernel, found on this host; and what has to be said to them.

A tree is asked what it can read, a tool what it can do: nothing is chosen by a version.
"""

import os
import platform
import shlex
import shutil
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness.host.command import CommandError, run
from harness.model.arch import ArchSpec
from harness.model.errors import RigError

_PROBE_LIMIT_S = 60.0
_HOST_PROGRAMS = ("make", "bash", "gcc", "ld", "flex", "bison", "bc", "perl")
_PACKAGES: Mapping[str, tuple[str, str]] = {
    "ld": ("binutils", "binutils"),
    "pahole": ("dwarves",) * 2,
}
"""Packages (Debian, Fedora) of programs that are not called like them."""
_HEADERS: Mapping[str, tuple[str, str]] = {
    "gelf.h": ("libelf-dev", "elfutils-libelf-devel"),
    "openssl/bio.h": ("libssl-dev", "openssl-devel"),
    "zlib.h": ("zlib1g-dev", "zlib-devel"),
}
_BTF_HEADER = "include/uapi/linux/btf.h"
_ENUM64 = "BTF_KIND_ENUM64"
_NO_ENUM64 = "--skip_encoding_btf_enum64"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a kernel build calls, by absolute path."""

    make: str
    bash: str
    host_cc: str
    target_cc: str
    cross_prefix: str
    """CROSS_COMPILE: `aarch64-linux-gnu-`; "" for a native build."""
    strip: str
    pahole: str
    ccache: str | None
    """None where the host has none: then each object is compiled anew."""
    identity: Mapping[str, str]
    """First line of `--version` by tool."""
    pahole_options: tuple[str, ...]
    """What pahole has to be told because this tree cannot read all that it writes."""

    @property
    def choices(self) -> tuple[str, ...]:
        """What was chosen and why, for people."""
        lines = [f"{name}: {text}" for name, text in self.identity.items()]
        if self.pahole_options:
            lines.append(
                f"pahole is called with {' '.join(self.pahole_options)}: "
                f"the tree's {_BTF_HEADER} does not know {_ENUM64}"
            )
        lines.append(f"objects are kept by {self.ccache}" if self.ccache else "no ccache")
        return tuple(lines)


def find_tools(arch_spec: ArchSpec, tree: Path, env: Mapping[str, str] = os.environ) -> Tools:
    """Return the tools to build `tree`; `PAHOLE` in `env` names another one.

    Raises RigError, naming the package to install, for the first one that is missing.
    """
    cross_prefix = "" if arch_spec.arch == platform.machine() else f"{arch_spec.gnu_triple}-"
    programs = {name: _need(name) for name in _HOST_PROGRAMS}
    target_cc = _need_of_target("gcc", arch_spec, cross_prefix)
    strip = _need_of_target("strip", arch_spec, cross_prefix)
    pahole = _need(env.get("PAHOLE") or "pahole")
    ccache = shutil.which("ccache")
    with ThreadPoolExecutor() as pool:
        asked = {
            "gcc": target_cc, "linker": f"{cross_prefix}ld", "host gcc": programs["gcc"],
            "pahole": pahole,
        }  # fmt: skip
        identity = dict(zip(asked, pool.map(_version, asked.values()), strict=True))
        options = pool.submit(_pahole_options, pahole, tree).result()
    return Tools(
        make=programs["make"],
        bash=programs["bash"],
        host_cc=programs["gcc"],
        target_cc=target_cc,
        cross_prefix=cross_prefix,
        strip=strip,
        pahole=pahole,
        ccache=ccache,
        identity=identity,
        pahole_options=options,
    )


def check_headers(tools: Tools) -> None:
    """Raise RigError when headers of the host's libraries are missing that a build compiles with.

    Takes a tenth of a second: asked before a build, not for one that is in the cache.
    """
    for header, packages in _HEADERS.items():
        argv = (tools.host_cc, "-E", "-x", "c", "-o", os.devnull, "-")
        source = f"#include <{header}>\n".encode()
        if run(argv, stdin=source, check=False, timeout_s=_PROBE_LIMIT_S).status != 0:
            raise RigError(
                f"no {header} on this host: the kernel's own build tools need it",
                hint=_install_hint(*packages),
            )


def write_pahole(folder: Path, tools: Tools) -> Path:
    """Write the pahole that make is given; return its path, which is the same for each build."""
    said = " ".join(tools.pahole_options)
    pahole = shlex.quote(tools.pahole)
    encode = f'{pahole} {said} "$@"' if said else f'{pahole} "$@"'
    text = (
        "#!/bin/sh\n"
        f'case " $* " in\n  *" -J"*|*" --btf_encode"*) exec {encode} ;;\nesac\n'
        f'exec {pahole} "$@"\n'
    )
    path = folder / "pahole"
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def _pahole_options(pahole: str, tree: Path) -> tuple[str, ...]:
    """What keeps pahole from writing kinds of types that the tree's own reader does not know."""
    try:
        known = (tree / _BTF_HEADER).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    if _ENUM64 in known:
        return ()
    said = run((pahole, "--help"), check=False, timeout_s=_PROBE_LIMIT_S)
    # One that does not have the option does not write the kind.
    return (_NO_ENUM64,) if _NO_ENUM64 in said.stdout + said.stderr else ()


def _need(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        packages = _PACKAGES.get(name, (name, name))
        raise RigError(
            f"no {name} on this host: a kernel cannot be built without it",
            hint=_install_hint(*packages),
        )
    return path


def _need_of_target(name: str, arch_spec: ArchSpec, cross_prefix: str) -> str:
    path = shutil.which(f"{cross_prefix}{name}")
    if path is None:
        package = "gcc" if name == "gcc" else "binutils"
        dashed = arch_spec.gnu_triple.replace("_", "-")  # Debian allows no underscore in a name
        names = (f"{package}-{dashed}", f"{package}-{arch_spec.gnu_triple}")
        raise RigError(
            f"no {cross_prefix}{name} on this host: kernels for {arch_spec.arch} need it",
            hint=_install_hint(*(names if cross_prefix else (package, package))),
        )
    return path


def _install_hint(debian: str, fedora: str) -> str:
    return f"install {debian} (Debian) or {fedora} (Fedora, CentOS)"


def _version(program: str) -> str:
    try:
        said = run((program, "--version"), timeout_s=_PROBE_LIMIT_S, check=False).stdout
    except CommandError as error:
        raise RigError(f"{program} cannot be run ({error})") from error
    return (said.splitlines() or [""])[0]
