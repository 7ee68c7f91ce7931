"""One build of a kernel in its work folder: configure, compile, leave out what fails, install."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from harness.host.cache import digest_of
from harness.kernel.btf import Btf, Kind, find_btf
from harness.kernel.build_cases import BuildCase, Facts, cases_of
from harness.kernel.build_errors import Failure
from harness.kernel.build_install import built_image, built_modules, install
from harness.kernel.build_make import Make
from harness.kernel.build_options import module_owner
from harness.kernel.build_source import missing_files, missing_warning
from harness.kernel.build_tools import Tools, check_headers, write_pahole
from harness.kernel.build_work import WorkFolder
from harness.kernel.kconfig import NotGranted, config_text, unmet, values_of
from harness.kernel.kconfig_tree import explain, read_options
from harness.kernel.progress import OnEvent, phase
from harness.kernel.recipe import Wanted
from harness.kernel.tree_index import TreeIndex
from harness.model.arch import ArchSpec
from harness.model.errors import KernelError
from harness.model.events import PhaseAdvanced
from harness.packages.elf import module_name, section_bytes

_PHASE = "build"
_MAX_ROUNDS = 20
"""Modules that do not compile are left out one after the other, at most so many times."""
_STARTS = {"nothing": "allnoconfig", "usual": "alldefconfig"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of it."""

    release: str | None
    """None when there is nothing to boot."""
    cases: tuple[BuildCase, ...]
    not_granted: tuple[NotGranted, ...]
    warnings: tuple[str, ...]
    seconds: float


class _Configured(msgspec.Struct):
    key: str
    not_granted: tuple[NotGranted, ...]


@dataclass(slots=True, kw_only=True)
class Build:
    """Holds all that one build needs; `run` once."""

    tree: Path
    wanted: Wanted
    wanted_modules: Mapping[str, str]
    suffix: str
    objects: int
    tools: Tools
    index: TreeIndex
    arch_spec: ArchSpec
    jobs: int
    work: WorkFolder
    log: Path
    on_event: OnEvent
    _warnings: list[str] = field(default_factory=list)
    _steps: int = 0
    _total: int = 0
    _lost_options: dict[str, str] = field(default_factory=dict)
    _lost_modules: dict[str, str] = field(default_factory=dict)

    def run(self, folder: Path) -> Result:
        """Build, and install below `folder` when there is a kernel to boot.

        Raises RigError when the host is at fault, KernelError when the tree cannot be configured.
        """
        begin_s = time.monotonic()
        check_headers(self.tools)
        said = self.work.open(self.index)
        self._warnings += [said] if said else []
        lost_files = missing_files(self.tree)
        self._warnings += [missing_warning(lost_files)] if lost_files else []
        self._total = self.work.steps() or self.objects
        make = self._make()
        not_granted = self._configure(make)
        with phase(self.on_event, self.arch_spec.arch, _PHASE, f"kernel {self.tree.name}"):
            failures = self._compile(make)
        is_whole = not failures and not self._lost_options
        self.work.close(self.index, self._steps if is_whole else 0)
        facts = self._facts(make, failures, not_granted)
        release = None
        if facts.has_image:
            release = make.release()
            with phase(self.on_event, self.arch_spec.arch, "install", release):
                install(make.work, folder, release, self.tools, self.arch_spec)
        return Result(
            release=release,
            cases=cases_of(facts),
            not_granted=not_granted,
            warnings=tuple(self._warnings),
            seconds=time.monotonic() - begin_s,
        )

    def _make(self) -> Make:
        return Make(
            tree=self.tree,
            work=self.work.out,
            tools=self.tools,
            pahole=write_pahole(self.work.folder, self.tools),
            arch_spec=self.arch_spec,
            suffix=self.suffix,
            jobs=self.jobs,
            log=self.log,
        )

    def _configure(self, make: Make) -> tuple[NotGranted, ...]:
        """Make the .config; return the options that it does not grant.

        What Kconfig was asked before, for the same tree and tools, is not asked again.
        """
        stored = self.work.configured
        text = config_text(self.wanted.wishes)
        key = digest_of(text, self.wanted.start, self._kconfig_digest(), *self.tools.choices)
        if (self.work.out / ".config").is_file() and stored.is_file():
            known = msgspec.json.decode(stored.read_bytes(), type=_Configured)
            if known.key == key:
                return known.not_granted
        stored.unlink(missing_ok=True)
        with phase(self.on_event, self.arch_spec.arch, "configure", self.tree.name):
            wishes = self.work.folder / "wanted.config"
            wishes.write_text(text, encoding="utf-8")
            result = make.build(_STARTS[self.wanted.start], KCONFIG_ALLCONFIG=str(wishes))
            if result.status != 0:
                failure = result.failures[0]
                raise KernelError(
                    f"{self.tree}: the tree cannot be configured: {failure.error}",
                    evidence=failure.output[-6:],
                )
            not_granted = self._denied()
        stored.write_bytes(msgspec.json.encode(_Configured(key=key, not_granted=not_granted)))
        return not_granted

    def _kconfig_digest(self) -> str:
        parts = (
            name.encode(errors="surrogateescape") + mark.digest
            for name, mark in self.index.marks.items()
            if "Kconfig" in name or name.startswith("scripts/")
        )
        return digest_of(*parts)

    def _denied(self) -> tuple[NotGranted, ...]:
        config = self._config()
        denied = unmet(self.wanted.wishes, config)
        if not denied:
            return ()
        variables = {"SRCARCH": self.arch_spec.kernel_arch}
        return explain(denied, config, read_options(self._read, variables))

    def _compile(self, make: Make) -> tuple[Failure, ...]:
        """Make everything; return the failures of the kernel itself.

        A module that fails is left out, and the rest made again.
        """
        config = self._config()
        result = make.build("all", on_step=self._step)
        for _ in range(_MAX_ROUNDS):
            if not result.failures:
                return ()
            known = frozenset(self._lost_options)
            kernel = [item for item in result.failures if not self._leave_out(item, config, known)]
            if kernel:
                return tuple(kernel)
            left_out = tuple(f"CONFIG_{option}=" for option in sorted(self._lost_options))
            result = make.build("all", on_step=self._step, variables=left_out)
        return result.failures

    def _leave_out(
        self, failure: Failure, config: Mapping[str, str], known: frozenset[str]
    ) -> bool:
        """Note a module that failed; False for what is none, or was left out in vain."""
        owner = module_owner(failure.target, config, self._makefile)
        if owner is None or owner.option in known:
            return False
        self._lost_options.setdefault(owner.option, failure.error)
        names = owner.modules or tuple(
            name for name, option in self.wanted_modules.items() if option == owner.option
        )
        for name in names or (Path(failure.target).parent.name,):
            self._lost_modules.setdefault(name, failure.error)
        return True

    def _facts(
        self, make: Make, failures: tuple[Failure, ...], not_granted: tuple[NotGranted, ...]
    ) -> Facts:
        config = self._config()
        boot = f"arch/{self.arch_spec.kernel_arch}/boot/"
        is_of_image = all(item.target.startswith(boot) for item in failures)
        has_vmlinux = is_of_image and (make.work / "vmlinux").is_file()
        image = built_image(make.work, self.arch_spec) if not failures else None
        modules = built_modules(make.work) if has_vmlinux else ()
        return Facts(
            required=self.wanted.required,
            not_granted=not_granted,
            kernel_failures=failures,
            has_vmlinux=has_vmlinux,
            has_image=image is not None,
            btf_problem=self._btf_problem(make.work / "vmlinux") if has_vmlinux else "",
            modules={module_name(Path(name)) for name in modules} - self._lost_modules.keys(),
            lost_modules=self._lost_modules,
            wanted_modules=self.wanted_modules,
            builtin={name for name, value in config.items() if value == "y"},
        )

    def _btf_problem(self, vmlinux: Path) -> str:
        """Why the kernel's types cannot be used; "" when they can."""
        data = section_bytes(vmlinux, ".BTF")
        if data is None or find_btf(data) is None:
            return "vmlinux has no section .BTF"
        known = self._read("include/uapi/linux/btf.h") or ""
        names = [_name_of(kind) for kind in sorted(Btf(data).kinds())]
        unknown = [name for name in names if f"BTF_KIND_{name}" not in known]
        if unknown:
            return f"its types hold {', '.join(unknown)}, which the tree cannot read"
        return ""

    def _step(self, target: str) -> None:
        self._steps += 1
        total = self._total
        self.on_event(
            PhaseAdvanced(
                arch=self.arch_spec.arch,
                phase=_PHASE,
                done=min(self._steps, total) if total else self._steps,
                total=total,
                current=target,
            )
        )

    def _config(self) -> dict[str, str]:
        return values_of((self.work.out / ".config").read_text(encoding="utf-8"))

    def _read(self, name: str) -> str | None:
        try:
            return (self.tree / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def _makefile(self, folder: str) -> str | None:
        return self._read(f"{folder}/Kbuild") or self._read(f"{folder}/Makefile")


def _name_of(kind: int) -> str:
    try:
        return Kind(kind).name
    except ValueError:
        return f"kind {kind}"
