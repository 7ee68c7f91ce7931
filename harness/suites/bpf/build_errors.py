"""Reads what make and compilers print: which target failed, and the line that tells why. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.model.text import inert_line

_ERROR_CHARS = 300

# `make: *** [Makefile:531: /tmp/w/bpf/loop6.bpf.o] Error 1`, `make[2]: *** [/x/Makefile.build:99:
# /x/bpf.o] Error 1`, `make: *** [Makefile:9: x.o] Segmentation fault`; make 3 names no file
_FAILED = re.compile(
    r"(?:\S*/)?make(?:\[\d+\])?: \*\*\* \[(?:[^\[\]]+:\d+: )?(?P<target>[^\[\]]+)\] (?P<how>.+)"
)
# `make: *** No rule to make target '/x/y.o', needed by '/x/z'.  Stop.`
_NO_RULE = re.compile(
    r"(?:\S*/)?make(?:\[\d+\])?: \*\*\* (?P<what>No rule to make target '(?P<target>[^']+)'.*)"
)
# `  CLNG-BPF [test_progs] bpf_cubic.bpf.o`: the first line of each target's output.
_STEP = re.compile(r"  [A-Z][A-Z-]+ +(?:\[\S+\] +)?\S+")

# From the line that tells most to the one that tells least.
_TELLING = (
    # `/usr/bin/ld: x.test.o: in function `f': x.c:1: undefined reference to `g'`, `multiple …`
    re.compile(r".*(?:undefined reference to|multiple definition of) .*"),
    # `progs/bpf_dctcp.c:259:10: fatal error: 'nosuch.h' file not found`
    re.compile(r"[^\s:]+:\d+(?::\d+)?: (?:fatal )?error: .+"),
    # `fatal error: error in backend: Branch target out of insn range`, `clang: error: …`
    re.compile(r"(?:\S+: )?(?:fatal )?error: .+"),
    # `ld: cannot find -lcap: No such file or directory`
    re.compile(r"\S*ld(?:\.lld|\.bfd)?: (?:error: )?(?!warning)(?:cannot find .+|.*: .+)"),
    # `libbpf: failed to find BTF for extern 'tcp_slow_start' [25] section: -2`
    re.compile(r"libbpf: .+"),
    re.compile(r"Error: .+"),
    # `FAILED: load BTF from vmlinux: Invalid argument`
    re.compile(r"FAILED:? .+"),
    re.compile(r".*(?:No such file or directory|[Cc]ommand not found).*"),
    # `diff: x.linked2.o x.linked3.o differ`
    re.compile(r".*\bdiffer$"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFailure:
    """A target that make gave up."""

    target: str
    """Relative to the build's folder where it lies in it; "" when make named none."""
    error: str
    """The first line that tells why, free of the build's own paths."""
    output: tuple[str, ...] = ()
    """All that was printed for the target."""


def target_failures(lines: Sequence[str], folder: Path) -> tuple[TargetFailure, ...]:
    """Find the failed targets in the output of `make --keep-going --output-sync=target`.

    A failure of a make that was called by make is that of the inner target and again of the outer
    one; both are returned, inner first, the outer with the inner one's error.
    """
    failures: list[TargetFailure] = []
    output: list[str] = []
    has_failed = False
    for line in lines:
        if match := _FAILED.fullmatch(line):
            failures.append(
                TargetFailure(
                    target=match["target"].removeprefix(f"{folder}/"),
                    error=_error(output, match["how"], folder),
                    output=tuple(output),
                )
            )
            has_failed = True
        elif match := _NO_RULE.fullmatch(line):
            what = inert_line(match["what"].replace(f"{folder}/", ""), _ERROR_CHARS)
            target = match["target"].removeprefix(f"{folder}/")
            failures.append(TargetFailure(target=target, error=what))
        else:
            if has_failed or _STEP.match(line):
                output, has_failed = [], False
            output.append(line)
    return tuple(failures)


def telling_line(lines: Sequence[str]) -> str:
    """Return the line that says most about why a command failed; "" when none says anything."""
    for pattern in _TELLING:
        for line in lines:
            if pattern.fullmatch(line.strip()):
                return line.strip()
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else ""


def _error(output: Sequence[str], how: str, folder: Path) -> str:
    text = telling_line(output).replace(f"{folder}/", "")
    return inert_line(text or how, _ERROR_CHARS)
