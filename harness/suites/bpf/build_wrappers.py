"""What make is given for compilers, and what the caller's environment may not bring into a build.

make gets its compilers as small scripts, because what has to be said to them comes last: a warning
of a newer compiler is no error, and nobody in the guest reads debug sections.
"""

import shlex
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.model.arch import ArchSpec

_EMPTIED = (
    "ARCH", "CROSS_COMPILE", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "GNUMAKEFLAGS", "O", "OUTPUT",
    "KBUILD_OUTPUT", "KBUILD_SRC", "KBUILD_EXTMOD", "V", "W", "C", "M", "LLVM", "CFLAGS",
    "CPPFLAGS", "LDFLAGS", "LDLIBS", "EXTRA_CFLAGS", "SAN_CFLAGS", "BPF_CFLAGS", "BPF_GCC",
)  # fmt: skip


def path_maps(places: Mapping[Path, str]) -> tuple[str, ...]:
    """Flags that let programs name files below these folders by a name that is the same always."""
    return tuple(f"-ffile-prefix-map={place}={name}" for place, name in places.items())


def cc_script(command: Iterable[str], maps: Iterable[str]) -> str:
    """A C compiler whose warnings are no errors, and whose programs have no debug sections."""
    last = shlex.join(("-Wno-error", "-g0", *maps))
    return f'#!/bin/sh\nexec {shlex.join(command)} "$@" {last}\n'


def clang_script(
    clang: str, target: Iterable[str], maps: Iterable[str], object_flags: Iterable[str]
) -> str:
    """A clang for BPF objects, and for everything else a cross compiler."""
    last = shlex.join(("-Wno-error", *maps))
    return (
        "#!/bin/sh\n"
        'for word; do\n  case "$word" in\n'
        f'    bpf|bpfel|--target=bpf*) exec {shlex.quote(clang)} "$@" '
        f"{shlex.join(('-Wno-error', *object_flags))} ;;\n"
        "  esac\ndone\n"
        f'exec {shlex.join((clang, *target))} "$@" {last}\n'
    )


def quiet_environment() -> dict[str, str]:
    """Variables that change a kernel build, emptied; `make gate` has set some of them."""
    return dict.fromkeys(_EMPTIED, "") | {"MAKELEVEL": "0"}


def cross_environment(arch_spec: ArchSpec, sysroot: Path) -> dict[str, str]:
    """Let pkg-config speak of the sysroot's libraries and not of the host's."""
    library = sysroot / "usr/lib" / arch_spec.gnu_triple / "pkgconfig"
    return {"PKG_CONFIG_LIBDIR": str(library), "PKG_CONFIG_SYSROOT_DIR": str(sysroot)}


def write_script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path
