"""What this host can do, found by trying; and the command that installs what it lacks."""

import os
import platform
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from harness.host.cache import Cache
from harness.host.config import data_root, load_toml
from harness.model.arch import AccelKind, Arch, ArchSpec
from harness.model.check import Check, CheckState, Diagnosis
from harness.model.errors import HarnessError
from harness.suites.bpf.toolchain import check_host_libraries, find_toolchain
from harness.vm.accel import probe_accelerator
from harness.vm.arches import load_arch
from harness.vm.qemu import find_qemu

_CACHE_GIB = 10  # kernels, sources, selftests and initramfs of both architectures, and room
_MEMORY_GIB = 7.0  # two guests of 3 GiB side by side
_GIB = 2**30
_OS_RELEASE = Path("/etc/os-release")
_MEMINFO = Path("/proc/meminfo")


class Need(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One thing that the host needs from its distribution."""

    purpose: str
    package: str
    proofs: tuple[str, ...]
    """Programs or absolute paths; one of them is enough."""
    hosts: tuple[str, ...] = ()
    """Machines, as `uname -m` prints them, that need it; empty for all."""

    def proof(self, which: Callable[[str], str | None] = shutil.which) -> str:
        """Return the path that shows that the need is met, "" when nothing shows it."""
        for proof in self.proofs:
            found = which(proof) if "/" not in proof else proof
            if found and Path(found).exists():
                return found
        return ""


class PackageTable(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The needs of a host by the names of one package manager: `configs/packages/host-*.toml`."""

    manager: str
    systems: tuple[str, ...]
    """Words of ID and ID_LIKE in /etc/os-release."""
    refresh: tuple[str, ...]
    install: tuple[str, ...]
    need: tuple[Need, ...]

    def needs_of(self, machine: str) -> tuple[Need, ...]:
        """What a host of this architecture needs."""
        return tuple(need for need in self.need if not need.hosts or machine in need.hosts)

    def commands(self, packages: Sequence[str]) -> tuple[str, ...]:
        """What root runs to install packages; nothing for no packages."""
        if not packages:
            return ()
        refresh = (shlex.join(self.refresh),) if self.refresh else ()
        return (*refresh, shlex.join((*self.install, *packages)))


def examine(
    cache: Cache,
    arches: Sequence[Arch] = tuple(Arch),
    *,
    fresh: bool = False,
    env: Mapping[str, str] = os.environ,
) -> Diagnosis:
    """Look at everything that a run needs. Raises UserError only for a broken table of ours.

    Accelerators are tried once after each boot of the host, or now with `fresh` (10 s).
    """
    table = package_table(_system_ids())
    needs = table.needs_of(platform.machine()) if table else ()
    missing = [need for need in needs if not need.proof()]
    return Diagnosis(
        checks=(
            *_package_checks(table, needs, missing),
            *(check for arch in arches for check in _arch_checks(arch, cache, env, fresh=fresh)),
            *_room_checks(cache, len(arches)),
        ),
        install=table.commands([need.package for need in missing]) if table else (),
    )


def package_table(system: Sequence[str], folder: Path | None = None) -> PackageTable | None:
    """The table for a system, given by its os-release words; None when there is none for it."""
    for path in sorted((folder or data_root() / "configs" / "packages").glob("host-*.toml")):
        table = load_toml(path, PackageTable)
        if set(system) & set(table.systems):
            return table
    return None


def system_ids(os_release: str) -> tuple[str, ...]:
    """The words by which /etc/os-release says which distribution this is."""
    fields = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    words = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}"
    return tuple(words.replace('"', "").split())


def _system_ids() -> tuple[str, ...]:
    return system_ids(_OS_RELEASE.read_text(encoding="utf-8")) if _OS_RELEASE.exists() else ()


def _package_checks(
    table: PackageTable | None, needs: Sequence[Need], missing: Sequence[Need]
) -> Iterator[Check]:
    if table is None:
        yield Check(
            subject="host",
            name="packages",
            state=CheckState.WARNING,
            found="no table of packages for this distribution",
            hint="configs/packages/host-apt.toml names what is needed",
        )
        return
    yield Check(
        subject="host",
        name="packages",
        state=CheckState.MISSING if missing else CheckState.OK,
        found=f"{len(needs) - len(missing)} of {len(needs)} needs met ({table.manager})",
    )
    for need in missing:
        yield Check(
            subject="host",
            name=need.package,
            state=CheckState.MISSING,
            found=f"{need.purpose}: not found",
        )


def _arch_checks(
    arch: Arch, cache: Cache, env: Mapping[str, str], *, fresh: bool
) -> Iterator[Check]:
    spec = load_arch(arch)
    yield from _tried(arch, "QEMU", lambda: _guest_checks(spec, cache, fresh=fresh))
    yield from _tried(arch, "compilers", lambda: _compiler_checks(spec, env))


def _tried(arch: Arch, name: str, look: Callable[[], list[Check]]) -> list[Check]:
    """What was found, or the error that looking for it met as a check that failed."""
    try:
        return look()
    except HarnessError as error:
        state = CheckState.MISSING
        return [Check(subject=arch, name=name, state=state, found=str(error), hint=error.hint)]


def _guest_checks(spec: ArchSpec, cache: Cache, *, fresh: bool) -> list[Check]:
    qemu = find_qemu(spec, cache)
    accel = probe_accelerator(spec, qemu, cache, fresh=fresh)
    sandbox = "with" if qemu.has_sandbox else "without"
    emulated = accel.kind is AccelKind.TCG and spec.arch == platform.machine()
    return [
        Check(
            subject=spec.arch,
            name="QEMU",
            state=CheckState.OK if qemu.has_sandbox else CheckState.WARNING,
            found=f"{qemu.path} {qemu.version}, {sandbox} sandbox",
        ),
        Check(
            subject=spec.arch,
            name="accelerator",
            # Emulation of the other architecture is as good as it gets.
            state=CheckState.WARNING if emulated else CheckState.OK,
            found=f"{accel.kind}, CPU model {accel.cpu_model}: {accel.reason}",
        ),
    ]


def _compiler_checks(spec: ArchSpec, env: Mapping[str, str]) -> list[Check]:
    tools = find_toolchain(spec, env)
    found = [
        Check(subject=spec.arch, name=name, state=CheckState.OK, found=line)
        for name, line in sorted(tools.identity.items())
        if name != "host_cc"
    ]
    if tools.pahole is None:
        found.append(
            Check(
                subject=spec.arch,
                name="pahole",
                state=CheckState.WARNING,
                found="not found: no module with BTF can be built",
            )
        )
    check_host_libraries(tools)
    return found


def _room_checks(cache: Cache, guests: int) -> Iterator[Check]:
    folder = next(path for path in (cache.root, *cache.root.parents) if path.exists())
    free_gib = shutil.disk_usage(folder).free / _GIB
    if not os.access(folder, os.W_OK):
        state, note = CheckState.MISSING, "not writable"
    else:
        state = CheckState.OK if free_gib >= _CACHE_GIB else CheckState.WARNING
        note = f"{free_gib:.0f} GiB free, {_CACHE_GIB} are enough"
    yield Check(
        subject="host",
        name="cache",
        state=state,
        found=f"{cache.root}: {note}",
        hint="" if state is CheckState.OK else "HARNESS_CACHE names another place",
    )
    memory_gib = available_gib(_MEMINFO.read_text(encoding="ascii")) if _MEMINFO.exists() else 0.0
    is_enough = memory_gib >= _MEMORY_GIB * guests / len(Arch)
    yield Check(
        subject="host",
        name="memory",
        state=CheckState.OK if is_enough else CheckState.WARNING,
        found=f"{memory_gib:.1f} GiB free, {os.cpu_count()} CPUs",
        hint="" if is_enough else "`harness run --serial` runs one guest at a time",
    )


def available_gib(meminfo: str) -> float:
    """MemAvailable of /proc/meminfo; 0.0 where it is not told."""
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024 / _GIB
    return 0.0
