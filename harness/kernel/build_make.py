"""make's side of a kernel build: its command line, its environment, and running it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.host.command import run_lines
from harness.kernel.build_errors import Failure, Paths, read_failures, step_of
from harness.kernel.build_tools import Tools
from harness.model.arch import ArchSpec
from harness.model.errors import RigError

_EMPTIED = (
    "ARCH", "SRCARCH", "CROSS_COMPILE", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "GNUMAKEFLAGS",
    "O", "KBUILD_OUTPUT", "KBUILD_SRC", "KBUILD_EXTMOD", "KBUILD_VERBOSE", "KCONFIG_ALLCONFIG",
    "V", "W", "C", "M", "LLVM", "LLVM_IAS", "CFLAGS", "CPPFLAGS", "LDFLAGS",
    "LDLIBS", "KCPPFLAGS", "KAFLAGS", "HOSTCFLAGS", "HOSTLDFLAGS", "CFLAGS_KERNEL",
    "CFLAGS_MODULE", "LD", "AS", "AR", "NM", "OBJCOPY", "OBJDUMP", "READELF",
)  # fmt: skip
"""Variables that change a build, when the caller's environment has them."""
_FIXED = {
    # The same inputs give the same bytes: linux_banner says who built a kernel, where and when.
    "KBUILD_BUILD_USER": "harness",
    "KBUILD_BUILD_HOST": "harness",
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_VERSION": "1",
}
_ORDERLY = {"MAKELEVEL": "0", "KCONFIG_CONFIG": ".config"}
_KEPT_LINES = 20_000
# KERNELRELEASE in include/config/kernel.release
_RELEASE = re.compile(r"[\w.+~-]{1,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Make:
    """Calls make for one tree in one folder, always with the same variables."""

    tree: Path
    work: Path
    """O=: everything is made here."""
    tools: Tools
    pahole: Path
    arch_spec: ArchSpec
    suffix: str
    """LOCALVERSION: what is added to the version of the tree's Makefile."""
    jobs: int
    log: Path

    def argv(self, *goals: str) -> tuple[str, ...]:
        """The command line; pasteable."""
        return (
            self.tools.make, "-C", str(self.tree), f"O={self.work}", f"--jobs={self.jobs}",
            "--keep-going", "--no-print-directory", "--output-sync=target",
            *(f"{name}={value}" for name, value in self.variables().items()), *goals,
        )  # fmt: skip

    def variables(self) -> Mapping[str, str]:
        """What is said on make's command line."""
        tools = self.tools
        cc = tools.target_cc
        maps = f"-ffile-prefix-map={self.work}=build -ffile-prefix-map={self.tree}=source"
        return {
            "ARCH": self.arch_spec.kernel_arch,
            "CROSS_COMPILE": tools.cross_prefix,
            "CC": f"{tools.ccache} {cc}" if tools.ccache else cc,
            "HOSTCC": tools.host_cc,
            "PAHOLE": str(self.pahole),
            "SHELL": tools.bash,  # RHEL's makefiles use [[
            # A warning that the tree's compiler did not have yet is no error; these come last.
            "WERROR": "0",
            "KCFLAGS": f"-Wno-error {maps}",
            "LOCALVERSION": self.suffix,
            **_FIXED,
        }

    def environment(self, **extra: str) -> dict[str, str]:
        return dict.fromkeys(_EMPTIED, "") | _ORDERLY | extra

    def build(
        self,
        *goals: str,
        on_step: Callable[[str], None] = lambda target: None,
        variables: tuple[str, ...] = (),
        **environment: str,
    ) -> "MakeResult":
        """Make the goals, going on past failures. Raises RigError when the host is at fault."""
        lines: list[str] = []

        def take(line: str) -> None:
            lines.append(line)
            if len(lines) > 2 * _KEPT_LINES:
                del lines[:_KEPT_LINES]
            if target := step_of(line):
                on_step(target.removeprefix(f"{self.work}/"))

        argv = (*self.argv(), *variables, *goals)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"\n+ make {' '.join((*variables, *goals))}\n")
        status = run_lines(argv, take, log=self.log, env=self.environment(**environment))
        failures: tuple[Failure, ...] = ()
        if status != 0:
            failures = read_failures(lines, Paths(tree=str(self.tree), work=str(self.work)))
            failures = failures or (Failure(target="", error=_last_words(lines, status)),)
            self._check_rig(failures)
        return MakeResult(status=status, failures=failures, lines=tuple(lines))

    def release(self) -> str:
        """What `uname -r` will print. Raises RigError when the build did not get that far."""
        try:
            text = (self.work / "include/config/kernel.release").read_text().strip()
        except OSError as error:
            raise RigError("the build did not write include/config/kernel.release") from error
        if not _RELEASE.fullmatch(text):
            raise RigError(f"not a kernel release: {text!r}")
        return text

    def _check_rig(self, failures: tuple[Failure, ...]) -> None:
        for failure in failures:
            if failure.is_of_the_rig:
                raise RigError(
                    f"the kernel's build stopped at {failure.target or 'its begin'}: "
                    f"{failure.error}",
                    hint="run `harness doctor`; what was built is kept, the next call goes on",
                    evidence=failure.output[-6:],
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeResult:
    """How a make ended."""

    status: int
    failures: tuple[Failure, ...]
    lines: tuple[str, ...] = field(default=(), repr=False)


def _last_words(lines: list[str], status: int) -> str:
    said = [line for line in lines if line.strip()]
    return said[-1] if said else f"make ended with status {status}"
