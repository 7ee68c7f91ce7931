"""The compilers and tools that build BPF selftests, found on this host and named in full.

Nothing here is chosen by its version: a compiler is asked which targets it has, a library is
compiled against.
"""

import os
import platform
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.host.cache import Cache, key_of
from harness.host.command import CommandError, run
from harness.model.arch import ArchSpec
from harness.model.errors import RigError

_CLANG_NAMES = ("clang", *(f"clang-{number}" for number in range(30, 9, -1)))
_VERSION = re.compile(r"-(?P<number>\d+)$")
_PROBE_LIMIT_S = 60.0
_FORMAT = 1  # of what is remembered
_HOST_LIBRARIES = b"#include <libelf.h>\n#include <zlib.h>\nint main(void)\n{\nreturn 0;\n}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """Absolute paths of what a build for one architecture calls."""

    make: str
    bash: str
    clang: str
    llvm_strip: str
    host_cc: str
    target_cc: str
    cross_prefix: str
    """CROSS_COMPILE: `aarch64-linux-gnu-`; "" for a native build."""
    strip: str
    linker: str
    """`-fuse-ld=` for clang's links of target programs: a path, or `lld`."""
    pahole: str | None
    """None where the host has none: then no module with BTF can be built."""
    identity: Mapping[str, str]
    """First line of `--version` by tool."""

    @property
    def is_cross(self) -> bool:
        return bool(self.cross_prefix)


def find_toolchain(arch_spec: ArchSpec, env: Mapping[str, str] = os.environ) -> Toolchain:
    """Return the tools for an architecture; `CLANG` and `PAHOLE` in `env` name others.

    Raises RigError, naming the packages to install, for the first one that is missing.
    """
    cross_prefix = "" if arch_spec.arch == platform.machine() else f"{arch_spec.gnu_triple}-"
    clang = _find_clang(env)
    pahole = shutil.which(env.get("PAHOLE") or "pahole")
    cc = f"{cross_prefix}gcc"
    tools = {
        "make": _need("make", "make", "make"),
        "bash": _need("bash", "bash", "bash"),
        "host_cc": _need("gcc", "gcc", "gcc"),
        "target_cc": _need(cc, *_cc_packages(arch_spec, cross_prefix)),
        "strip": _need(f"{cross_prefix}strip", *_binutils_packages(arch_spec, cross_prefix)),
    }
    return Toolchain(
        clang=clang,
        llvm_strip=_find_llvm_strip(clang),
        cross_prefix=cross_prefix,
        linker=_find_linker(clang, cross_prefix),
        pahole=pahole,
        identity=_identities(
            {"clang": clang, "cc": tools["target_cc"], "host_cc": tools["host_cc"]}
            | ({"pahole": pahole} if pahole else {})
        ),
        **tools,
    )


def known_toolchain(
    arch_spec: ArchSpec, cache: Cache, env: Mapping[str, str] = os.environ
) -> Toolchain:
    """The same as `find_toolchain`, remembered for as long as the programs are the same files."""
    triple = arch_spec.gnu_triple
    names = (
        *_CLANG_NAMES, "ld.lld", "llvm-strip", "make", "bash", "gcc", "strip", "pahole",
        f"{triple}-gcc", f"{triple}-strip", f"{triple}-ld",
    )  # fmt: skip
    named = {name: env.get(name, "") for name in ("CLANG", "PAHOLE")}
    stamps = {name: _stamp(name) for name in (*names, *named.values())}
    key = key_of(format=_FORMAT, arch=arch_spec.arch, named=named, stamps=stamps)

    def make(folder: Path) -> None:
        toolchain = find_toolchain(arch_spec, env)
        (folder / "toolchain.json").write_bytes(msgspec.json.encode(toolchain))

    entry = cache.entry("toolchain", key, make)
    return msgspec.json.decode((entry / "toolchain.json").read_bytes(), type=Toolchain)


def check_host_libraries(toolchain: Toolchain) -> None:
    """Raise RigError when the host's own libelf and zlib cannot be compiled against."""
    argv = (toolchain.host_cc, "-x", "c", "-o", os.devnull, "-", "-lelf", "-lz")
    result = run(argv, stdin=_HOST_LIBRARIES, check=False, timeout_s=_PROBE_LIMIT_S)
    if result.status != 0:
        lines = [line for line in result.stderr.splitlines() if "error" in line or "cannot" in line]
        raise RigError(
            "the headers of libelf and zlib are missing: the selftests' own tools need them",
            hint=_install_hint("libelf-dev zlib1g-dev", "elfutils-libelf-devel zlib-devel"),
            evidence=tuple(lines[:3]),
        )


def llvm_strip_names(clang: str) -> tuple[str, ...]:
    """Names under which the llvm-strip that belongs to a clang may be found, best first."""
    match = _VERSION.search(Path(clang).name)
    suffixes = (f"-{match['number']}", "") if match else ("",)
    return tuple(f"llvm-strip{suffix}" for suffix in suffixes)


def _find_clang(env: Mapping[str, str]) -> str:
    named = env.get("CLANG")
    found = [path for name in ((named,) if named else _CLANG_NAMES) if (path := shutil.which(name))]
    for path in found:
        if re.search(r"^\s+bpf(el)?\s", _said(path, "--print-targets"), re.MULTILINE):
            return path
    if named:
        raise RigError(f"CLANG={named} is no clang with a BPF back end")
    what = "no clang with a BPF back end" if found else "no clang"
    raise RigError(
        f"{what} on this host: BPF objects need it", hint=_install_hint("clang-16", "clang")
    )


def _find_llvm_strip(clang: str) -> str:
    beside = Path(clang).resolve().parent / "llvm-strip"
    for name in (*llvm_strip_names(clang), str(beside)):
        if path := shutil.which(name):
            return path
    raise RigError(
        "no llvm-strip on this host: BPF objects are stripped with it",
        hint=_install_hint("llvm-16", "llvm"),
    )


def _find_linker(clang: str, cross_prefix: str) -> str:
    """LLD where clang finds one: it serves every architecture; else GNU's linker by its path."""
    if Path(_said(clang, "-print-prog-name=ld.lld").strip()).is_absolute():
        return "lld"
    return shutil.which(f"{cross_prefix}ld") or "bfd"


def _stamp(name: str) -> tuple[str, int, int] | None:
    """What tells a program from its next version without running it; None for one not here."""
    path = shutil.which(name) if name else None
    if path is None:
        return None
    info = Path(path).stat()
    return path, info.st_size, info.st_mtime_ns


def _need(name: str, debian: str, fedora: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise RigError(f"no {name} on this host", hint=_install_hint(debian, fedora))
    return path


def _cc_packages(arch_spec: ArchSpec, cross_prefix: str) -> tuple[str, str]:
    if not cross_prefix:
        return "gcc", "gcc"
    return f"gcc-{_dashed(arch_spec)}", f"gcc-{arch_spec.gnu_triple}"


def _binutils_packages(arch_spec: ArchSpec, cross_prefix: str) -> tuple[str, str]:
    if not cross_prefix:
        return "binutils", "binutils"
    return f"binutils-{_dashed(arch_spec)}", f"binutils-{arch_spec.gnu_triple}"


def _dashed(arch_spec: ArchSpec) -> str:
    return arch_spec.gnu_triple.replace("_", "-")  # Debian allows no underscore in a name


def _install_hint(debian: str, fedora: str) -> str:
    return f"install {debian} (Debian) or {fedora} (Fedora, CentOS)"


def _identities(tools: Mapping[str, str]) -> Mapping[str, str]:
    with ThreadPoolExecutor(max_workers=len(tools)) as pool:
        texts = pool.map(lambda path: _said(path, "--version"), tools.values())
        return {
            name: (text.splitlines() or [""])[0] for name, text in zip(tools, texts, strict=True)
        }


def _said(path: str, option: str) -> str:
    try:
        result = run((path, option), timeout_s=_PROBE_LIMIT_S, check=False)
    except CommandError as error:
        raise RigError(f"{path} cannot be run ({error})") from error
    return result.stdout
