"""A private place to build selftests in: the copied tree, and make with its variables."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from harness.host.command import run
from harness.model.arch import ArchSpec
from harness.model.kernel import KernelArtifact, SourceTree
from harness.suites.bpf.build_make import Make
from harness.suites.bpf.build_tools import HostTools
from harness.suites.bpf.build_tree import copy_tree
from harness.suites.bpf.build_wrappers import (
    cc_script,
    clang_script,
    cross_environment,
    path_maps,
    quiet_environment,
    write_script,
)
from harness.suites.bpf.toolchain import Toolchain

_SEARCH = re.compile(
    r"#include <\.\.\.> search starts here:\n(?P<folders>.*?)End of search list\.", re.DOTALL
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInputs:
    """Everything that one build is made of."""

    source: SourceTree
    kernel: KernelArtifact
    btf: Path
    """The kernel's types."""
    arch_spec: ArchSpec
    headers: Path | None
    """A folder for `make -C <it> M=…`; None when there is none for this kernel."""
    toolchain: Toolchain
    tools: HostTools
    sysroot: Path | None
    """Headers and libraries to link with; None for a native build, which takes the host's."""
    jobs: int


def open_workshop(folder: Path, inputs: BuildInputs, log: Path) -> Make:
    """Copy the tree below `folder` and return the make that builds in it.

    Raises UserError for a tree that is not whole.
    """
    tree = folder / "linux"
    selftests = copy_tree(inputs.source, tree)
    cc, clang = _compilers(folder / "bin", tree, inputs)
    shown = run((str(clang), "-v", "-E", "-x", "c", os.devnull), check=False).stderr
    includes = " ".join(f"-idirafter {path}" for path in system_includes(shown))
    toolchain, tools = inputs.toolchain, inputs.tools
    variables = {
        "SHELL": toolchain.bash,
        "ARCH": inputs.arch_spec.kernel_arch,
        "CROSS_COMPILE": toolchain.cross_prefix,
        "CC": str(cc),
        "CLANG": str(clang),
        "LLVM_STRIP": toolchain.llvm_strip,
        "LLD": toolchain.linker,
        "BPFTOOL": str(tools.bpftool),
        "RESOLVE_BTFIDS": str(tools.resolve_btfids),
        "VMLINUX_BTF": str(inputs.btf),
        "CLANG_SYS_INCLUDES": includes,  # else the makefiles ask clang for it with each object
        "MENDIAN": "-mlittle-endian",  # and this
        "TRUNNER_EXTRA_FILES": "",  # made one by one: none of them may stop the program
        "WERROR": "0",
    }
    environment = quiet_environment()
    if inputs.sysroot is not None:
        environment |= cross_environment(inputs.arch_spec, inputs.sysroot)
    return Make(
        folder=selftests,
        program=toolchain.make,
        variables=variables,
        settled=(str(tools.bpftool), str(tools.resolve_btfids)),
        environment=environment,
        jobs=inputs.jobs,
        log=log,
    )


def _compilers(folder: Path, tree: Path, inputs: BuildInputs) -> tuple[Path, Path]:
    """Write scripts for the C compiler and for clang; return their paths."""
    folder.mkdir()
    root = (f"--sysroot={inputs.sysroot}",) if inputs.sysroot else ()
    command = (inputs.toolchain.target_cc, *root)
    target = (f"--target={inputs.arch_spec.gnu_triple}", *root)
    maps = path_maps({tree: "linux"} | ({inputs.sysroot: "sysroot"} if inputs.sysroot else {}))
    clang = inputs.toolchain.clang
    script = clang_script(clang, target, maps, _object_flags(clang, maps))
    return (
        write_script(folder / "cc", cc_script(command, maps)),
        write_script(folder / "clang", script),
    )


def _object_flags(clang: str, maps: tuple[str, ...]) -> tuple[str, ...]:
    """Flags that keep this build's own paths out of BPF objects; () where clang has none.

    It writes lines of the sources into BTF, and finds them again only when they are embedded.
    """
    flags = ("-gembed-source", *maps)
    probe = (clang, "-g", *flags, "-target", "bpf", "-x", "c", "-c", "-o", os.devnull, os.devnull)
    return flags if run(probe, check=False).status == 0 else ()


def system_includes(said: str) -> tuple[str, ...]:
    """Folders that a compiler searches, out of what it says with `-v -E`; () when it says none."""
    match = _SEARCH.search(said)
    return tuple(line.strip() for line in match["folders"].splitlines()) if match else ()
