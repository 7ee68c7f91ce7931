"""The QEMU of this host, and what it can do by its own account.

Distributions leave out devices, accelerators and the sandbox, and keep the version number: so
nothing is concluded from a version, and each feature is asked for or tried.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.host.cache import Cache, key_of, write_atomically
from harness.host.command import CommandError, run
from harness.model.arch import ArchSpec
from harness.model.errors import RigError

_PROBE_TIMEOUT_S = 30.0
_PROBE_SCHEMA = 1  # part of the cache key: raise it when _Probed or a question changes

# -sandbox as we use it. Without `resourcecontrol=deny`: glib's thread pool sets a scheduling
# policy, and some builds of QEMU are killed for that.
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny"

_MACHINE_NONE = ("-nodefaults", "-no-user-config", "-display", "none", "-machine", "none")
_QMP_HELLO_AND_QUIT = b'{"execute":"qmp_capabilities"}\n{"execute":"quit"}\n'

# QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)
_VERSION = re.compile(r"version (?P<version>\d+(?:\.\d+)+)")
# name "pvpanic-pci", bus PCI, desc "..."
_DEVICE = re.compile(r'^name "(?P<name>[^"]+)"', re.MULTILINE)
# q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)
_MACHINE = re.compile(r"^(?P<name>[\w.+-]+) {2,}\S", re.MULTILINE)
# -action reboot=reset|shutdown
_OPTION = re.compile(r"^-(?P<name>[\w-]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuBinary:
    """One QEMU program and what it says of itself."""

    path: Path
    version: str
    """`7.2.22`: for people and for a record's world, never to decide by."""
    description: str
    """The whole first line of `-version`, with the distribution's package."""
    identity: str
    """Differs for another file at the same path."""
    accels: frozenset[str]
    devices: frozenset[str]
    machines: frozenset[str]
    options: frozenset[str]
    """Command line options without the dash."""
    has_sandbox: bool
    """`-sandbox` was tried and worked."""


class _Probed(msgspec.Struct, forbid_unknown_fields=True):
    version: str
    description: str
    accels: list[str]
    devices: list[str]
    machines: list[str]
    options: list[str]
    has_sandbox: bool


def find_qemu(
    spec: ArchSpec, cache: Cache, which: Callable[[str], str | None] = shutil.which
) -> QemuBinary:
    """Return the first of the architecture's QEMU programs that is there and has its board.

    Raises RigError, with what to install, when there is none, and CommandError for one that does
    not run. `which` finds a program as `shutil.which` does.
    """
    unfit: list[str] = []
    for name in spec.qemu_binaries:
        found = which(name)
        if found is None:
            continue
        qemu = _described(Path(found).resolve(), cache)
        board = spec.machine.partition(",")[0]
        if board in qemu.machines:
            return qemu
        unfit.append(f"{found} is there, and has no board {board}")
    raise RigError(
        f"no QEMU for {spec.arch} (looked for {', '.join(spec.qemu_binaries)})",
        hint=f"install it ({_package_names(spec)}), then run `harness doctor`",
        evidence=tuple(unfit),
    )


def _package_names(spec: ArchSpec) -> str:
    debian = "qemu-system-x86" if spec.debian_arch == "amd64" else "qemu-system-arm"
    return f"Debian: {debian}; Fedora: qemu-system-{spec.rpm_arch}; CentOS: qemu-kvm"


def _described(path: Path, cache: Cache) -> QemuBinary:
    status = path.stat()
    identity = key_of(
        schema=_PROBE_SCHEMA, path=str(path), size=status.st_size, mtime_ns=status.st_mtime_ns
    )

    def probe(folder: Path) -> None:
        write_atomically(folder / "qemu.json", msgspec.json.encode(_probed(path)))

    entry = cache.entry("qemu", identity, probe)
    try:
        probed = msgspec.json.decode((entry / "qemu.json").read_bytes(), type=_Probed)
    except (OSError, msgspec.MsgspecError):  # somebody else's bytes in the cache: ask again
        probed = _probed(path)
    return QemuBinary(
        path=path,
        version=probed.version,
        description=probed.description,
        identity=identity,
        accels=frozenset(probed.accels),
        devices=frozenset(probed.devices),
        machines=frozenset(probed.machines),
        options=frozenset(probed.options),
        has_sandbox=probed.has_sandbox,
    )


def _probed(path: Path) -> _Probed:
    description = _said(path, "-version").strip().partition("\n")[0]
    version = _VERSION.search(description)
    if version is None:
        raise RigError(f"{path} is not QEMU: it calls itself {description[:80]!r}")
    options = parse_options(_said(path, "-help"))
    return _Probed(
        version=version["version"],
        description=description,
        accels=sorted(parse_accels(_said(path, "-accel", "help"))),
        devices=sorted(parse_devices(_said(path, "-machine", "none", "-device", "help"))),
        machines=sorted(parse_machines(_said(path, "-machine", "help"))),
        options=sorted(options),
        has_sandbox="sandbox" in options and _runs_sandboxed(path),
    )


def _said(path: Path, *arguments: str) -> str:
    return run((str(path), *arguments), timeout_s=_PROBE_TIMEOUT_S).stdout


def _runs_sandboxed(path: Path) -> bool:
    # The option may be listed and refused (built without seccomp), or kill its own process.
    argv = (str(path), *_MACHINE_NONE, "-sandbox", SANDBOX, "-qmp", "stdio")
    try:
        finished = run(argv, timeout_s=_PROBE_TIMEOUT_S, stdin=_QMP_HELLO_AND_QUIT, check=False)
    except CommandError:
        return False
    return finished.status == 0


def parse_accels(text: str) -> frozenset[str]:
    """Names that `-accel help` lists, one a line below its heading."""
    return frozenset(line.strip() for line in text.splitlines()[1:] if line.strip())


def parse_devices(text: str) -> frozenset[str]:
    """Names that `-device help` lists."""
    return frozenset(match["name"] for match in _DEVICE.finditer(text))


def parse_machines(text: str) -> frozenset[str]:
    """Names that `-machine help` lists, aliases too."""
    return frozenset(match["name"] for match in _MACHINE.finditer(text))


def parse_options(text: str) -> frozenset[str]:
    """Options that `-help` lists, without their dash."""
    return frozenset(match["name"] for match in _OPTION.finditer(text))
