"""A guest's machine as a value, and the QEMU command line made from it.

Nothing here asks the host: whoever calls brings the QEMU's features and the ends of its channels.
"""

from dataclasses import dataclass
from pathlib import Path

from harness.model.arch import AccelKind, ArchSpec
from harness.model.errors import RigError
from harness.vm.accel import Accelerator
from harness.vm.qemu import SANDBOX, QemuBinary

CONTROL_PORT = "org.harness.control"
OUTPUT_PORT = "org.harness.output"

# QEMU's default for the cache of translated code is a share of the host's memory, up to 1 GiB for
# each guest; no guest of ours fills this much.
_TCG_CODE_CACHE_MIB = 512

_SUN_PATH_MAX_B = 107  # sockaddr_un.sun_path less its final zero


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """What a guest gets. Two equal values make the same guest."""

    arch_spec: ArchSpec
    kernel_image: Path
    initrd: Path | None
    cmdline: str
    memory_mib: int
    cpus: int
    accel: Accelerator
    sandbox: bool = True
    """Run QEMU in its sandbox, where it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """The far end of each channel.

    A number is a connected socket that QEMU inherits: nothing on disk, no byte lost before we
    connect, and the end of QEMU is the end of the stream. A path is a socket that QEMU makes and
    listens on: for a command that a person pastes into a shell.
    """

    monitor: int | Path
    console: int | Path
    control: int | Path
    output: int | Path

    @classmethod
    def in_folder(cls, folder: Path) -> "Sockets":
        return cls(
            monitor=folder / "monitor",
            console=folder / "console",
            control=folder / "control",
            output=folder / "output",
        )


def machine_argv(spec: MachineSpec, sockets: Sockets, qemu: QemuBinary) -> tuple[str, ...]:
    """The whole command that runs this guest.

    Raises RigError for a socket path that no socket can have.
    """
    arch = spec.arch_spec
    return (
        str(qemu.path),
        "-nodefaults",
        "-no-user-config",
        *(("-sandbox", SANDBOX) if spec.sandbox and qemu.has_sandbox else ()),
        "-display", "none",
        "-nic", "none",
        "-machine", arch.machine,
        "-accel", _accel_text(spec.accel.kind),
        "-cpu", spec.accel.cpu_model,
        "-smp", str(spec.cpus),
        "-m", f"size={spec.memory_mib}M",
        *_ending_args(qemu),
        "-kernel", str(spec.kernel_image),
        *(("-initrd", str(spec.initrd)) if spec.initrd else ()),
        "-append", spec.cmdline,
        "-chardev", _chardev_text("monitor", sockets.monitor),
        "-mon", "chardev=monitor,mode=control",
        "-chardev", _chardev_text("console", sockets.console),
        "-serial", "chardev:console",
        "-device", "virtio-serial-pci,id=ports",
        "-chardev", _chardev_text("control", sockets.control),
        "-device", f"virtserialport,bus=ports.0,nr=1,chardev=control,name={CONTROL_PORT}",
        "-chardev", _chardev_text("output", sockets.output),
        "-device", f"virtserialport,bus=ports.0,nr=2,chardev=output,name={OUTPUT_PORT}",
        *_optional_device("virtio-rng-pci", qemu),
        *_optional_device("pvpanic-pci", qemu),
        *arch.extra_qemu_args,
    )  # fmt: skip


def _accel_text(kind: AccelKind) -> str:
    # Not `thread=multi`: it is QEMU's default wherever host and guest allow it, and where they do
    # not (an x86 guest on a host that orders memory more weakly) asking for it breaks the guest.
    if kind is AccelKind.TCG:
        return f"tcg,tb-size={_TCG_CODE_CACHE_MIB}"
    return str(kind)


def _ending_args(qemu: QemuBinary) -> tuple[str, ...]:
    # A panicking guest runs on to its own end, so that its last lines reach the console; its
    # command line makes it reboot then, and a reboot is the end of QEMU.
    if "action" in qemu.options:
        return ("-action", "reboot=shutdown,shutdown=poweroff,panic=none")
    return ("-no-reboot",)


def _optional_device(name: str, qemu: QemuBinary) -> tuple[str, ...]:
    return ("-device", name) if name in qemu.devices else ()


def _chardev_text(name: str, end: int | Path) -> str:
    if isinstance(end, int):
        return f"socket,id={name},fd={end}"
    if len(str(end).encode()) > _SUN_PATH_MAX_B:
        raise RigError(f"a socket's path has at most {_SUN_PATH_MAX_B} bytes: {end}")
    # QEMU splits option values at commas and reads a doubled one as itself.
    return f"socket,id={name},server=on,wait=off,path={str(end).replace(',', ',,')}"


def kernel_cmdline(spec: ArchSpec, accel: AccelKind, extra: tuple[str, ...] = ()) -> str:
    """The guest's kernel command line; `extra` comes last, so that it can overrule."""
    return " ".join(
        (
            f"console={spec.console}",
            "loglevel=7",
            "printk.time=1",
            "printk.devkmsg=on",
            "log_buf_len=4M",
            "panic=-1",
            "oops=panic",
            *_patience(accel),
            *spec.extra_cmdline,
            *(spec.tcg_cmdline if accel is AccelKind.TCG else ()),
            *extra,
        )
    )


def _patience(accel: AccelKind) -> tuple[str, ...]:
    # An emulated CPU that the host does not schedule looks like a stalled one to its kernel, and
    # it is late for each grace period: most of a test's time would go by in synchronize_rcu().
    if accel is AccelKind.TCG:
        return (
            "nosoftlockup",
            "rcupdate.rcu_cpu_stall_timeout=300",
            "rcupdate.rcu_expedited=1",
        )
    return ("rcupdate.rcu_cpu_stall_timeout=60",)
