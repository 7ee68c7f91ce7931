"""The selftests' kernel modules, built against packaged headers and the kernel's BTF.

Headers packages hold no vmlinux, and without one the kernel's makefiles leave a module's BTF out.
All that is wanted of it is its types, which every reader of `vmlinux` also takes as a bare blob.
"""

import re
import shutil
from pathlib import Path

from harness.host.command import run_lines
from harness.packages.elf import section_headers
from harness.suites.bpf.build_errors import target_failures, telling_line
from harness.suites.bpf.build_workshop import BuildInputs
from harness.suites.bpf.build_wrappers import path_maps, quiet_environment

# `obj-m += bpf_testmod.o`, `MODULES = bpf_testmod.ko bpf_test_no_cfi.ko`
_MAKES = r"\b{name}\.k?o\b"


def build_module(
    name: str, selftests: Path, inputs: BuildInputs, *, work: Path, log: Path
) -> tuple[Path | None, str]:
    """Build `name`.ko in the copy of the selftests; `work` is a folder to make things in.

    Returns its path and "", or None and the reason why there is none.
    """
    if inputs.headers is None:
        return None, f"no headers to build modules for kernel {inputs.kernel.release}"
    if inputs.toolchain.pahole is None:
        return None, "no pahole on this host to write the module's BTF"
    folder = _folder_of(name, selftests)
    if folder is None:
        return None, f"no makefile below {selftests.name} makes {name}.ko"
    built = folder / f"{name}.ko"
    if not built.is_file():
        kdir = _with_types(inputs.headers, inputs.btf, work / "kdir")
        lines: list[str] = []
        argv = (*_argv(kdir, folder, inputs), _flags(work, inputs.headers))
        status = run_lines(argv, lines.append, log=log, env=quiet_environment())
        if not built.is_file() or status != 0:
            failures = target_failures(lines, folder)
            return None, failures[0].error if failures else telling_line(lines)
    if ".BTF" not in {section.name for section in section_headers(built)}:
        return None, "the module has no BTF: pahole could not write it"
    return built, ""


def _argv(kdir: Path, folder: Path, inputs: BuildInputs) -> tuple[str, ...]:
    tools = inputs.toolchain
    return (
        tools.make, "-C", str(kdir), "--no-print-directory", f"M={folder}",
        f"ARCH={inputs.arch_spec.kernel_arch}", f"CROSS_COMPILE={tools.cross_prefix}",
        f"CC={tools.target_cc}", f"HOSTCC={tools.host_cc}", f"PAHOLE={tools.pahole}",
        f"RESOLVE_BTFIDS={inputs.tools.resolve_btfids}", "modules",
    )  # fmt: skip


def _flags(work: Path, headers: Path) -> str:
    """Keep this build's own paths out of the module: they would change its build-id."""
    return "KCFLAGS=" + " ".join(path_maps({work: "linux", headers.parent: "headers"}))


def _folder_of(name: str, selftests: Path) -> Path | None:
    pattern = re.compile(_MAKES.format(name=re.escape(name)))
    for makefile in sorted(selftests.glob("*/Makefile")):
        if pattern.search(makefile.read_text(encoding="utf-8", errors="replace")):
            return makefile.parent
    return None


def _with_types(headers: Path, btf: Path, kdir: Path) -> Path:
    """A folder that looks like `headers`, and has the kernel's types for a vmlinux."""
    if kdir.is_dir():
        return kdir
    kdir.mkdir()
    for path in headers.iterdir():
        if path.name != "Makefile":
            (kdir / path.name).symlink_to(path.absolute())
    (kdir / "Makefile").write_text(f"include {headers.absolute()}/Makefile\n")
    if not (kdir / "vmlinux").exists():
        shutil.copyfile(btf, kdir / "vmlinux")
    return kdir
