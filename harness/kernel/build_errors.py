"""Reads what a kernel's make prints: which file failed, and the line that tells why. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.model.text import inert_line

_ERROR_CHARS = 300

# `make[3]: *** [/src/scripts/Makefile.build:272: fs/btrfs/inode.o] Error 1`
# `make[1]: *** [/src/Makefile:1178: vmlinux] Error 255`, `… [x.o] Segmentation fault`
# make 4.4 on a whole folder: `make[2]: *** [/src/scripts/Makefile.build:500: fs/btrfs] Error 2`
_FAILED = re.compile(
    r"(?:\S*/)?make(?:\[\d+\])?: \*\*\* \[(?:[^\[\]]+:\d+: )?(?P<target>[^\[\]]+)\] (?P<how>.+)"
)
# `make[2]: *** No rule to make target 'fs/btrfs/nosuch.o', needed by 'fs/btrfs/btrfs.o'.  Stop.`
_NO_RULE = re.compile(
    r"(?:\S*/)?make(?:\[\d+\])?: \*\*\* "
    r"(?P<what>No rule to make target '(?P<target>[^']+)'(?:, needed by '(?P<by>[^']+)')?.*)"
)
# `***` of a makefile itself: `Makefile:1183: *** The source tree is not clean, please run …`
_STOPPED = re.compile(r"(?:\S+:\d+: )?\*\*\* (?P<what>.+)")
# `  CC [M]  fs/btrfs/inode.o`, `  BTFIDS  vmlinux`, `  LD      .tmp_vmlinux.btf`
_STEP = re.compile(r"  (?P<how>[A-Z][A-Z0-9_]*(?: \[M\])?) +(?P<target>\S+)")
# `ERROR: modpost: "btf_nosuch" [fs/btrfs/btrfs.ko] undefined!`; before 5.8 without `modpost: `
_UNDEFINED = re.compile(
    r"ERROR: (?:modpost: )?\"(?P<symbol>[^\"]+)\" \[(?P<module>[^\]]+)\] undefined!"
)

# From the line that tells most to the one that tells least.
_TELLING = (
    # `ld: x.o: in function `f': x.c:1: undefined reference to `g'`, `multiple definition of `h'`
    re.compile(r".*(?:undefined reference to|multiple definition of) .*"),
    # `/src/fs/btrfs/inode.c:59:10: fatal error: nosuch.h: No such file or directory`
    re.compile(r"[^\s:]+:\d+(?::\d+)?: (?:fatal )?error: .+"),
    _UNDEFINED,
    # `ERROR: modpost: module x.ko uses symbol y from namespace Z, but does not import it.`
    re.compile(r"ERROR: .+"),
    # `FAILED: load BTF from vmlinux: Invalid argument`, `FAILED unresolved symbol x`
    re.compile(r"FAILED:? .+"),
    # `BTF: .tmp_vmlinux.btf: pahole (pahole) is not available`
    re.compile(r"BTF: .+ (?:not available|too old).*"),
    re.compile(r"(?:\S+: )?(?:fatal )?error: .+"),
    # `/src/fs/x.S:12: Error: unknown mnemonic`
    re.compile(r"(?:[^\s:]+:\d+: )?Error: .+"),
    # `ld: cannot find foo.o`, `aarch64-linux-gnu-ld: x.o: relocation … out of range`
    re.compile(r"\S*ld(?:\.lld|\.bfd)?: (?!warning)(?:cannot find .+|.*: .+)"),
    # `init/Kconfig:12: syntax error`
    re.compile(r"\S*Kconfig\S*:\d+: .+"),
    re.compile(r".*(?:No such file or directory|[Cc]ommand not found|: not found).*"),
    re.compile(r".*No space left on device.*"),
    # `*** Error during writing of the configuration.`
    re.compile(r"\*\*\* .+"),
)
_OF_THE_RIG = re.compile(
    r"No space left on device|Cannot allocate memory|virtual memory exhausted|Killed"
    r"|Error 137|Read-only file system|internal compiler error: Segmentation"
    # Headers of the host's own libraries: openssl/…, gelf.h, libelf.h, zlib.h
    r"|fatal error: (?:openssl/\S+|gelf\.h|libelf\.h|zlib\.h|curses\.h): No such file"
    r"|(?:bc|flex|bison|pahole|perl|python3|cpio|openssl|lz4\w*|zstd|xz|rsync): (?:command )?not "
    r"found"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A file that could not be made."""

    target: str
    """As make calls it, in the build's folder: `fs/btrfs/inode.o`, `vmlinux`, `x/y.ko`."""
    error: str
    """The first line that tells why, free of the build's own paths."""
    output: tuple[str, ...] = ()
    """All that was printed for the target."""

    @property
    def is_of_the_rig(self) -> bool:
        """The host is to blame: a full disk, memory, a missing tool or library."""
        return any(_OF_THE_RIG.search(line) for line in (*self.output, self.error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Folders whose names are left out of messages."""

    tree: str
    work: str

    def without(self, text: str) -> str:
        return text.replace(f"{self.tree}/", "").replace(f"{self.work}/", "")


def step_of(line: str) -> str | None:
    """Return the file that a line of make says is being made; None for any other line."""
    match = _STEP.fullmatch(line)
    return match["target"] if match else None


def read_failures(lines: Sequence[str], paths: Paths) -> tuple[Failure, ...]:
    """Find what failed in the output of `make --keep-going --output-sync=target`, innermost only.

    A folder that failed because of a file in it, and a make that failed because of an inner one,
    are not told. Undefined symbols of modules are failures of those modules.
    """
    failures: list[Failure] = []
    output: list[str] = []
    for line in lines:
        if match := _FAILED.fullmatch(line):
            told = _told(output, match["target"], match["how"], paths)
            failures += [item for item in told if not _is_outer(item, failures)]
            output = []
        elif match := _NO_RULE.fullmatch(line):
            what = paths.without(match["what"]).removesuffix("  Stop.")
            target = match["by"] or match["target"]
            failures.append(Failure(target=paths.without(target), error=_cut(what)))
            output = []
        elif _STEP.fullmatch(line):
            # With synchronised output a step begins a target's block.
            output = [line]
        else:
            output.append(line)
    if not failures:
        failures += _stopped(lines, paths)
    return tuple(failures)


def telling_line(output: Sequence[str], paths: Paths) -> str:
    """Return the line of a failed step that tells why; "" when none looks like it."""
    for pattern in _TELLING:
        for line in output:
            if pattern.fullmatch(line):
                return _cut(paths.without(line))
    return ""


def _told(output: Sequence[str], target: str, how: str, paths: Paths) -> list[Failure]:
    modules: dict[str, Failure] = {}
    for line in output:
        if match := _UNDEFINED.fullmatch(line):
            module = match["module"]
            modules.setdefault(
                module, Failure(target=module, error=_cut(line), output=tuple(output))
            )
    if modules:
        return list(modules.values())
    error = telling_line(output, paths)
    name = paths.without(target)
    return [Failure(target=name, error=error or f"{name}: {how}", output=tuple(output))]


def _is_outer(item: Failure, known: Sequence[Failure]) -> bool:
    """A failure without a word of its own, after others: the make around them."""
    return bool(known) and not any(_says_something(line) for line in item.output)


def _says_something(line: str) -> bool:
    return any(pattern.fullmatch(line) for pattern in _TELLING)


def _stopped(lines: Sequence[str], paths: Paths) -> list[Failure]:
    for line in lines:
        if match := _STOPPED.fullmatch(line):
            what = paths.without(match["what"]).removesuffix("  Stop.")
            return [Failure(target="", error=_cut(what), output=tuple(lines[-40:]))]
    error = telling_line(lines, paths)
    return [Failure(target="", error=error, output=tuple(lines[-40:]))] if error else []


def _cut(text: str) -> str:
    return inert_line(text, _ERROR_CHARS)
