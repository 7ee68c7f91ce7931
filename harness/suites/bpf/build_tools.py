"""The tree's own bpftool and resolve_btfids for this host, made once for all architectures."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.host.cache import Cache, key_of
from harness.host.command import run_lines
from harness.model.arch import ArchSpec
from harness.model.errors import RigError
from harness.model.events import Event, PhaseEnded, PhaseStarted
from harness.model.kernel import SourceTree
from harness.suites.bpf.build_errors import target_failures, telling_line
from harness.suites.bpf.build_tree import copy_tree
from harness.suites.bpf.build_wrappers import (
    cc_script,
    path_maps,
    quiet_environment,
    write_script,
)
from harness.suites.bpf.toolchain import Toolchain, check_host_libraries

_RECIPE = "1"
"""Raise it when the same sources and tools are built in another way."""

_FEATURES = ("libelf", "zlib", "bpf", "reallocarray", "libelf-mmap", "libelf-getphdrnum")
"""What the makefiles would find out by compiling, for many seconds; `check_host_libraries` did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTools:
    """Programs for this host, from the sources that the selftests come from."""

    bpftool: Path
    resolve_btfids: Path


def host_tools(
    source: SourceTree,
    arch_spec: ArchSpec,
    toolchain: Toolchain,
    cache: Cache,
    on_event: Callable[[Event], None],
    *,
    jobs: int,
) -> HostTools:
    """Return the host's tools, built when the cache lacks them.

    Raises RigError when they cannot be built: without them nothing can be said about the selftests.
    """
    key = key_of(
        recipe=_RECIPE,
        source=source.sha256,
        cc=toolchain.identity["host_cc"],
        path=toolchain.host_cc,
    )

    def make(folder: Path) -> None:
        check_host_libraries(toolchain)
        start_s = time.monotonic()
        phase = "build"
        on_event(PhaseStarted(arch=arch_spec.arch, phase=phase, detail="bpftool for this host"))
        work = folder / "work"
        copy_tree(source, work)
        cc = write_script(
            folder / "cc", cc_script((toolchain.host_cc,), path_maps({work: "linux"}))
        )
        libbpf = _build_bpftool(work, folder, toolchain, cc, jobs=jobs)
        _build_resolve_btfids(work, libbpf, folder, toolchain, cc, jobs=jobs)
        shutil.copy2(folder / "bpftool-out/bootstrap/bpftool", folder / "bpftool")
        shutil.copy2(folder / "resolve/resolve_btfids", folder / "resolve_btfids")
        for name in ("work", "bpftool-out", "resolve"):
            shutil.rmtree(folder / name)
        duration_s = time.monotonic() - start_s
        on_event(PhaseEnded(arch=arch_spec.arch, phase=phase, duration_s=duration_s))

    entry = cache.entry("bpf-host-tools", key, make)
    return HostTools(bpftool=entry / "bpftool", resolve_btfids=entry / "resolve_btfids")


def _build_bpftool(tree: Path, folder: Path, toolchain: Toolchain, cc: Path, *, jobs: int) -> Path:
    """Build the small bpftool that generates headers; return the libbpf.a that it was linked to."""
    out = folder / "bpftool-out"
    out.mkdir()
    features = folder / "features"
    features.write_text("".join(f"feature-{name}=1\n" for name in _FEATURES))
    argv = (
        toolchain.make, "-C", str(tree / "tools/bpf/bpftool"), f"--jobs={jobs}",
        f"OUTPUT={out}/", f"HOSTCC={cc}", f"CC={cc}", "WERROR=0",
        "BPFTOOL_VERSION=0.0.0", f"FEATURES_DUMP={features}", "VMLINUX_BTF=", "bootstrap",
    )  # fmt: skip
    _run_make(argv, folder, "the tree's bpftool")
    archives = sorted(out.rglob("libbpf.a"))  # beside bootstrap/bpftool, or in its parent folder
    if not archives:
        raise RigError("the tree's bpftool was built without a libbpf.a")
    return archives[0]


def _build_resolve_btfids(
    tree: Path, libbpf: Path, folder: Path, toolchain: Toolchain, cc: Path, *, jobs: int
) -> None:
    out = folder / "resolve"
    out.mkdir()
    argv = (
        toolchain.make, "-C", str(tree / "tools/bpf/resolve_btfids"), f"--jobs={jobs}",
        f"OUTPUT={out}/", f"CC={cc}", f"HOSTCC={cc}",
        "LD=ld", "AR=ar", "HOSTLD=ld", "HOSTAR=ar", "WERROR=0",
        f"BPFOBJ={libbpf}", f"LIBBPF_INCLUDE={libbpf.parent}/include", f"--old-file={libbpf}",
    )  # fmt: skip
    _run_make(argv, folder, "the tree's resolve_btfids")


def _run_make(argv: tuple[str, ...], folder: Path, what: str) -> None:
    lines: list[str] = []
    log = folder / "build.log"
    status = run_lines(argv, lines.append, log=log, env=quiet_environment())
    if status != 0:
        failures = target_failures(lines, folder)
        error = failures[0].error if failures else telling_line(lines)
        raise RigError(
            f"{what} does not build on this host: {error}",
            hint="the host's compiler may be too new for this tree, or a library is missing",
            evidence=tuple(lines[-6:]),
        )
