"""From a kernel source tree to a kernel: the door of the building part."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.host.cache import Cache, digest_of, file_lock, key_of
from harness.kernel.build_cases import BuildCase, case_id
from harness.kernel.build_install import headers_folder
from harness.kernel.build_run import Build, Result
from harness.kernel.build_source import check_source, commit_of
from harness.kernel.build_tools import Tools, find_tools
from harness.kernel.build_work import WorkFolder
from harness.kernel.kconfig import NotGranted, config_text
from harness.kernel.progress import OnEvent, phase
from harness.kernel.recipe import DEFAULT_RECIPE, Wanted, load_recipe, release_suffix, wanted_of
from harness.kernel.tree_index import TreeIndex, index_tree
from harness.kernel.unpacked import Parts, artifact_of
from harness.model.arch import ArchSpec
from harness.model.case import Outcome
from harness.model.errors import HarnessError
from harness.model.kernel import KernelArtifact, Provenance, SourceTree

_LAYOUT = 1
"""Raise it when the same inputs are built into something else."""

_MANIFEST = "manifest.json"
_LOG = "build.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelBuild:
    """A kernel built from source, or why there is none."""

    kernel: KernelArtifact | None
    """None when there is nothing to boot: the cases say what failed."""
    cases: tuple[BuildCase, ...]
    """Each part with its outcome, sorted: the findings of a build."""
    not_granted: tuple[NotGranted, ...]
    """Options that were asked for in vain, with the unmet dependency."""
    warnings: tuple[str, ...]
    choices: tuple[str, ...]
    """The tools that were chosen, and what they are told, for people."""
    headers: Path | None
    """A folder for `make -C <it> M=…`; None without a kernel."""
    log: Path
    """All that make printed."""


class _StoredCase(msgspec.Struct):
    part: str
    outcome: Outcome
    error: str


class _Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """What a warm load needs to know of an artifact, beside its files."""

    release: str
    cases: list[_StoredCase]
    not_granted: list[NotGranted]
    warnings: list[str]
    choices: list[str]
    seconds: float
    recipe: str


class _NothingToBootError(HarnessError):
    """Carries the cases of a build without a kernel out of the cache, which then keeps nothing."""

    def __init__(self, result: Result, log: Path) -> None:
        super().__init__("no kernel was built")
        self.result = result
        self.log = log


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """One call, looked up."""

    tree: Path
    name: str
    version: str
    suffix: str
    recipe: str
    objects: int
    wanted: Wanted
    modules: Mapping[str, str]
    tools: Tools
    index: TreeIndex
    arch_spec: ArchSpec
    jobs: int

    @property
    def key(self) -> str:
        return key_of(
            layout=_LAYOUT,
            arch=self.arch_spec.arch,
            source=self.index.sha256,
            wishes=config_text(self.wanted.wishes),
            start=self.wanted.start,
            suffix=self.suffix,
            tools=self.tools.identity,
            pahole=self.tools.pahole_options,
        )

    def work(self, cache: Cache) -> WorkFolder:
        key = digest_of(str(self.tree), self.arch_spec.arch, self.recipe)
        return WorkFolder(cache.root / "kernel-work" / key[:40])


def build_kernel(
    source: SourceTree | Path,
    arch_spec: ArchSpec,
    cache: Cache,
    on_event: OnEvent,
    *,
    recipe: str = DEFAULT_RECIPE,
    config: Path | None = None,
    jobs: int | None = None,
) -> KernelBuild:
    """Build a kernel with its modules, or take it from the cache when nothing changed.

    With `config` the build starts from that file, and the recipe's lists come on top. The source is
    never written to; a build that was interrupted goes on where it was; one that failed leaves no
    artifact. What does not compile is told in the cases, and is no exception: as much as can be
    built is built.

    Raises UserError for a tree or a config that cannot be used, RigError for a missing tool, a full
    disk and the like.
    """
    order = _order(source, arch_spec, cache, on_event, recipe, config, jobs)

    def make(folder: Path) -> None:
        _make(order, folder, cache, on_event)

    try:
        entry = cache.entry("kernel-build", order.key, make)
    except _NothingToBootError as error:
        return KernelBuild(
            kernel=None,
            cases=error.result.cases,
            not_granted=error.result.not_granted,
            warnings=error.result.warnings,
            choices=order.tools.choices,
            headers=None,
            log=error.log,
        )
    return _load(entry, order, cache)


def _order(
    source: SourceTree | Path,
    arch_spec: ArchSpec,
    cache: Cache,
    on_event: OnEvent,
    recipe: str,
    config: Path | None,
    jobs: int | None,
) -> _Order:
    tree = (source if isinstance(source, Path) else source.path).resolve()
    version = check_source(tree, arch_spec)
    known = load_recipe(recipe)
    with phase(on_event, arch_spec.arch, "read", str(tree)):
        index = index_tree(tree, arch_spec, cache)
    return _Order(
        tree=tree,
        name=str(tree) if isinstance(source, Path) else source.name,
        version=version,
        suffix=release_suffix(tree),
        recipe=f"{recipe},{config.name}" if config else recipe,
        objects=0 if config else known.objects,
        wanted=wanted_of(known, tree, arch_spec, config),
        modules=known.modules,
        tools=find_tools(arch_spec, tree),
        index=index,
        arch_spec=arch_spec,
        jobs=jobs or os.cpu_count() or 1,
    )


def _make(order: _Order, folder: Path, cache: Cache, on_event: OnEvent) -> None:
    """Build in the work folder, then fill the entry; the log outlives a failure."""
    work = order.work(cache)
    log = cache.root / "logs" / f"kernel-{order.arch_spec.arch}-{order.key[:16]}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    build = Build(
        tree=order.tree,
        wanted=order.wanted,
        wanted_modules=order.modules,
        suffix=order.suffix,
        objects=order.objects,
        tools=order.tools,
        index=order.index,
        arch_spec=order.arch_spec,
        jobs=order.jobs,
        work=work,
        log=log,
        on_event=on_event,
    )
    try:
        with file_lock(work.lock):
            result = build.run(folder)
    except HarnessError as error:
        error.hint = f"{error.hint}; the whole log is {log}".removeprefix("; ")
        raise
    if result.release is None:
        raise _NothingToBootError(result, log)
    _store(result, order, folder)
    shutil.move(log, folder / _LOG)


def _store(result: Result, order: _Order, folder: Path) -> None:
    manifest = _Manifest(
        release=result.release or "",
        cases=[
            _StoredCase(part=item.case.path[-1], outcome=item.outcome, error=item.error)
            for item in result.cases
        ],
        not_granted=list(result.not_granted),
        warnings=list(result.warnings),
        choices=list(order.tools.choices),
        seconds=result.seconds,
        recipe=order.recipe,
    )
    (folder / _MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def _load(entry: Path, order: _Order, cache: Cache) -> KernelBuild:
    manifest = msgspec.json.decode((entry / _MANIFEST).read_bytes(), type=_Manifest)
    release = manifest.release
    modules = entry / "lib" / "modules" / release
    boot = entry / "boot"
    parts = Parts(
        image=boot / f"vmlinuz-{release}",
        modules=modules if modules.is_dir() else None,
        config=boot / f"config-{release}",
        vmlinux=boot / f"vmlinux-{release}",
        symvers=boot / f"symvers-{release}",
    )
    provenance = Provenance(
        kind="build",
        name=f"{order.name} ({order.recipe})",
        version=commit_of(order.tree) or order.version,
        sha256=order.index.sha256,
    )
    headers = cache.entry(
        "kernel-devel",
        key_of(build=order.key, tree=str(order.tree)),
        lambda folder: headers_folder(entry / "devel", order.tree, folder),
    )
    return KernelBuild(
        kernel=artifact_of(parts, provenance, order.arch_spec, cache),
        cases=tuple(
            BuildCase(case=case_id(item.part), outcome=item.outcome, error=item.error)
            for item in manifest.cases
        ),
        not_granted=tuple(manifest.not_granted),
        warnings=tuple(manifest.warnings),
        choices=tuple(manifest.choices),
        headers=headers,
        log=entry / _LOG,
    )
