"""From a kernel source tree and a kernel to built BPF selftests: the door of the building part."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from harness.host.cache import Cache, digest_of, key_of
from harness.model.arch import ArchSpec
from harness.model.errors import HarnessError, KernelError
from harness.model.events import Event
from harness.model.kernel import (
    KernelArtifact,
    NotBuilt,
    RunnerListing,
    SelftestsArtifact,
    SourceTree,
)
from harness.suites.bpf.build_recipe import Recipe
from harness.suites.bpf.build_tools import host_tools
from harness.suites.bpf.build_tree import check_tree
from harness.suites.bpf.build_workshop import BuildInputs
from harness.suites.bpf.sysroot import target_sysroot
from harness.suites.bpf.toolchain import known_toolchain

_RECIPE = "2"
"""Raise it when the same inputs are built into something else."""

_MANIFEST = "manifest.json"
_LOG = "build.log"


class _Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """What a warm load needs to know of an artifact, beside its files."""

    runners: tuple[RunnerListing, ...]
    not_built: tuple[NotBuilt, ...]
    source_hashes: tuple[tuple[str, str], ...]
    compiler: str
    pahole: str


def build_selftests(
    source: SourceTree,
    kernel: KernelArtifact,
    arch_spec: ArchSpec,
    cache: Cache,
    on_event: Callable[[Event], None],
    *,
    headers: Path | None = None,
    jobs: int | None = None,
) -> SelftestsArtifact:
    """Return the BPF selftests of `source`, built against the types of `kernel`.

    `headers` is a folder for `make -C <it> M=…`, for the test modules; without it they are not
    built, and that is told in `not_built`, as is each test whose object does not compile; what is
    told there is in no runner's listing. The whole log is `build.log` beside the artifact's root.
    Nothing is ever written to `source`.

    Raises UserError for a tree that is not whole, KernelError when the kernel has no BTF or nothing
    of the tree can be built against it, RigError for a tool that is missing here.
    """
    check_tree(source)
    btf = kernel.btf
    if btf is None:
        raise KernelError(
            f"kernel {kernel.release} carries no BTF, which the selftests are built against",
            hint="it wants CONFIG_DEBUG_INFO_BTF=y, and pahole when it is built",
        )
    toolchain = known_toolchain(arch_spec, cache)
    key = key_of(
        recipe=_RECIPE,
        arch=arch_spec.arch,
        source=source.sha256,
        btf=digest_of(btf),
        release=kernel.release,
        headers=_headers_identity(headers),
        tools=toolchain.identity,
    )

    def make(folder: Path) -> None:
        count = jobs or os.cpu_count() or 1
        tools = host_tools(source, arch_spec, toolchain, cache, on_event, jobs=count)
        inputs = BuildInputs(
            source=source,
            kernel=kernel,
            btf=btf,
            arch_spec=arch_spec,
            headers=headers,
            toolchain=toolchain,
            tools=tools,
            sysroot=target_sysroot(arch_spec, cache, on_event) if toolchain.is_cross else None,
            jobs=count,
        )
        _make(folder, inputs, cache, key, on_event)

    entry = cache.entry("selftests", key, make)
    return _load(entry, source, arch_spec)


def _make(
    folder: Path,
    inputs: BuildInputs,
    cache: Cache,
    key: str,
    on_event: Callable[[Event], None],
) -> None:
    """Build into `folder`; a failed build leaves its log in the cache, and says where."""
    try:
        built = Recipe(inputs, folder, on_event).cook()
    except HarnessError as error:
        if (folder / _LOG).is_file():
            kept = cache.root / "logs" / f"selftests-{key[:16]}.log"
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / _LOG, kept)
            error.hint = f"{error.hint}; the whole log is {kept}".removeprefix("; ")
        raise
    identity = inputs.toolchain.identity
    manifest = _Manifest(
        runners=built.runners,
        not_built=built.not_built,
        source_hashes=built.source_hashes,
        compiler=identity["clang"],
        pahole=identity.get("pahole", ""),
    )
    (folder / _MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def _load(entry: Path, source: SourceTree, arch_spec: ArchSpec) -> SelftestsArtifact:
    manifest = msgspec.json.decode((entry / _MANIFEST).read_bytes(), type=_Manifest)
    return SelftestsArtifact(
        arch=arch_spec.arch,
        root=entry / "root",
        runners=manifest.runners,
        not_built=manifest.not_built,
        source_sha256=source.sha256,
        source_name=source.name,
        source_hashes=manifest.source_hashes,
        compiler=manifest.compiler,
        pahole=manifest.pahole,
    )


def _headers_identity(headers: Path | None) -> str:
    """What modules depend on: the symbols' checksums and the configuration."""
    if headers is None:
        return ""
    files = [headers / name for name in (".config", "Module.symvers")]
    return digest_of(*(file for file in files if file.is_file()))
