"""A file system or driver of one tree as a module for another kernel, and what does not fit.

The Kmods SIG's case: fs/btrfs of the candidate's tree against the kernel-devel folder of a released
kernel. What the module shares with nobody (its own headers) comes from its own tree.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.host.cache import Cache, digest_of, file_lock
from harness.host.command import run, run_lines
from harness.kernel.build_cases import BuildCase, case_id
from harness.kernel.build_errors import Failure, Paths, read_failures
from harness.kernel.build_tools import Tools, find_tools, write_pahole
from harness.kernel.kconfig import NO, Wish, values_of
from harness.kernel.kconfig_expr import value_of
from harness.kernel.kconfig_tree import Options, ReadFile, read_options
from harness.kernel.progress import OnEvent, phase
from harness.kernel.recipe import fragment_wishes
from harness.model.arch import ArchSpec
from harness.model.case import Outcome
from harness.model.errors import RigError, UserError

_OWN_HEADERS = ("linux", "uapi/linux", "trace/events")
_MAKEFILES = ("Kbuild", "Makefile")
_MAX_MISFITS = 200
_ORIGINAL = "Kbuild.original"
# /src/fs/btrfs/inode.c:6441:12: error: initialization of … from incompatible pointer type
_ERROR = re.compile(r"(?P<where>[^\s:]+:\d+)(?::\d+)?: (?:fatal )?error: (?P<what>.+)")
_UNDEFINED = re.compile(r"ERROR: (?:modpost: )?(?P<what>\"[^\"]+\" \[[^\]]+\] undefined!)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """One thing that the module wants of the kernel, and the kernel has otherwise or not at all."""

    kind: str
    """`option` (not set in the kernel's config), `interface` (does not compile), `symbol`."""
    what: str
    where: str = ""
    """File and line in the module's tree; "" where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalBuild:
    """What came of it."""

    modules: tuple[Path, ...]
    cases: tuple[BuildCase, ...]
    misfits: tuple[Misfit, ...]
    log: Path


def build_external(
    tree: Path,
    module: str,
    headers: Path,
    arch_spec: ArchSpec,
    cache: Cache,
    on_event: OnEvent,
    *,
    jobs: int,
) -> ExternalBuild:
    """Build `module` (a folder of `tree`: `fs/btrfs`) against `headers`, a folder for make M=….

    Neither folder is written to. What does not fit is no exception: it is the answer. Raises
    UserError for folders that are not what they should be, RigError for a missing tool.
    """
    source = _source_folder(tree, module)
    config = _config_of(headers)
    btf_header = headers / "source" if (headers / "source").is_dir() else headers
    tools = find_tools(arch_spec, btf_header)
    key = digest_of(str(tree.resolve()), module, str(headers.resolve()), arch_spec.arch)
    place = cache.root / "kernel-external" / key[:40]
    name = Path(module).name
    with file_lock(place.with_name(f"{place.name}.lock")):
        shutil.rmtree(place, ignore_errors=True)
        work = place / name
        _copy(tree, source, place, name)
        variables = {"SRCARCH": arch_spec.kernel_arch}
        options = read_options(_reader(tree), variables, f"{module}/Kconfig")
        chosen = _chosen(options, config)
        _write_kbuild(work, place / "include", chosen)
        log = place / "build.log"
        lines: list[str] = []
        with phase(on_event, arch_spec.arch, "build", f"{module} against {headers}"):
            argv = _argv(headers, work, tools, write_pahole(place, tools), arch_spec, jobs)
            status = run_lines(argv, lines.append, log=log)
        built = tuple(sorted(work.rglob("*.ko"))) if status == 0 else ()
        if built:
            run((tools.strip, "--strip-debug", "--", *map(str, built)))
    failures = read_failures(lines, Paths(tree=str(work), work=str(headers))) if status else ()
    for failure in failures:
        if failure.is_of_the_rig:
            raise RigError(f"{module}: {failure.error}", hint="run `harness doctor`")
    return ExternalBuild(
        modules=built,
        cases=_cases(name, built, failures),
        misfits=(*_unset(options, chosen, config), *_misfits(lines, place)),
        log=log,
    )


def _source_folder(tree: Path, module: str) -> Path:
    path = Path(module)
    folder = tree / module
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"{module}: not a folder of the tree", hint="name it as fs/btrfs")
    if not any((folder / name).is_file() for name in _MAKEFILES) or not path.name:
        raise UserError(f"{folder}: no Makefile in it", hint="name a folder as fs/btrfs")
    if not (folder / "Kconfig").is_file():
        raise UserError(f"{folder}: no Kconfig in it: its options are not known")
    return folder


def _config_of(headers: Path) -> dict[str, str]:
    """The kernel's options: of .config, or of auto.conf where a package leaves that out."""
    if not (headers / "Makefile").is_file():
        raise UserError(
            f"{headers}: not a folder to build modules with: it has no Makefile",
            hint="name /usr/src/kernels/<release>, or the folder that a kernel was built in",
        )
    for name in (".config", "include/config/auto.conf"):
        if (headers / name).is_file():
            return values_of((headers / name).read_text(encoding="utf-8", errors="replace"))
    raise UserError(f"{headers}: no config in it (.config, include/config/auto.conf)")


def _copy(tree: Path, source: Path, place: Path, name: str) -> None:
    shutil.copytree(source, place / name, symlinks=True)
    for folder in _OWN_HEADERS:
        for header in sorted((tree / "include" / folder).glob(f"{name}*.h")):
            target = place / "include" / folder / header.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(header, target)


def _chosen(options: Options, config: Mapping[str, str]) -> dict[str, Wish]:
    """Values of the module's own options: what our list says, else what the kernel has."""
    wanted = fragment_wishes("guest")
    chosen = {name: Wish(value=config.get(name, NO), origin="") for name in options.definitions}
    return chosen | {name: wish for name, wish in wanted.items() if name in chosen}


def _write_kbuild(work: Path, include: Path, chosen: Mapping[str, Wish]) -> None:
    """Put a makefile before the module's own: its options, and its own headers first of all."""
    original = next(work / name for name in _MAKEFILES if (work / name).is_file())
    original.rename(work / _ORIGINAL)
    lines = [f"NOSTDINC_FLAGS += -I{include} -I{include}/uapi"]
    for name, wish in sorted(chosen.items()):
        lines.append(f"override CONFIG_{name} := {'' if wish.value == NO else wish.value}")
        macro = f"CONFIG_{name}{'_MODULE' if wish.value == 'm' else ''}"
        if wish.value in ("y", "m"):
            lines.append(f"subdir-ccflags-y += -U{macro} -D{macro}=1")
        else:
            lines.append(f"subdir-ccflags-y += -UCONFIG_{name} -UCONFIG_{name}_MODULE")
    text = "\n".join((*lines, f"include $(src)/{_ORIGINAL}", ""))
    (work / "Kbuild").write_text(text, encoding="utf-8")


def _argv(
    headers: Path, work: Path, tools: Tools, pahole: Path, arch_spec: ArchSpec, jobs: int
) -> tuple[str, ...]:
    return (
        tools.make, "-C", str(headers), f"M={work}", f"--jobs={jobs}", "--keep-going",
        "--no-print-directory", "--output-sync=target", f"ARCH={arch_spec.kernel_arch}",
        f"CROSS_COMPILE={tools.cross_prefix}", f"CC={tools.target_cc}", f"HOSTCC={tools.host_cc}",
        f"PAHOLE={pahole}", f"SHELL={tools.bash}", "KCFLAGS=-Wno-error", "modules",
    )  # fmt: skip


def _cases(name: str, built: Sequence[Path], failures: Sequence[Failure]) -> tuple[BuildCase, ...]:
    if built:
        return tuple(
            BuildCase(case=case_id(f"{path.stem}.ko"), outcome=Outcome.PASS) for path in built
        )
    error = failures[0].error if failures else "make built no module"
    return (BuildCase(case=case_id(f"{name}.ko"), outcome=Outcome.FAIL, error=error),)


def _unset(options: Options, chosen: Mapping[str, Wish], config: Mapping[str, str]) -> list[Misfit]:
    """Options of the kernel that the module would switch on, if it were built with the kernel."""
    values = {**config, **{name: wish.value for name, wish in chosen.items() if wish.value != NO}}
    return [
        Misfit(kind="option", what=f"CONFIG_{name} is not set, and CONFIG_{by} selects it")
        for name, selectors in sorted(options.selected_by.items())
        if name not in values
        for by, condition in selectors[:1]
        if chosen[by].value != NO and value_of(condition, values) != 0
    ]


def _misfits(lines: Sequence[str], place: Path) -> list[Misfit]:
    found: dict[Misfit, None] = {}
    for line in lines:
        if match := _ERROR.fullmatch(line):
            where = match["where"].removeprefix(f"{place}/")
            found[Misfit(kind="interface", what=match["what"], where=where)] = None
        elif match := _UNDEFINED.fullmatch(line):
            what = match["what"].replace(f"{place}/", "")
            found[Misfit(kind="symbol", what=what)] = None
    return list(found)[:_MAX_MISFITS]


def _reader(tree: Path) -> ReadFile:
    def read(name: str) -> str | None:
        try:
            return (tree / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    return read
