"""What a kernel's make prints: which file failed, and why. Corpus: real logs."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.kernel.build_errors import Failure, Paths, read_failures, step_of

_CORPUS = Path(__file__).parent.parent / "corpus" / "kernel_build"
_KEY = re.compile(r"# (?P<key>tree|work|failure): (?P<value>.*)")
_PATHS = Paths(tree="/src/linux", work="/build/out")


@pytest.mark.parametrize("log", sorted(_CORPUS.glob("*.log")), ids=lambda path: path.stem)
def test_each_log_of_the_corpus_tells_its_failures(
    log: Path, request: pytest.FixtureRequest
) -> None:
    header, _, text = log.read_text().partition("---\n")
    keys = [(match["key"], match["value"]) for match in _KEY.finditer(header)]
    paths = Paths(tree=dict(keys)["tree"], work=dict(keys)["work"])
    found = [f"{item.target} | {item.error}" for item in read_failures(text.splitlines(), paths)]
    if request.config.getoption("--update-corpus"):
        kept = [line for line in header.splitlines() if not line.startswith("# failure: ")]
        lines = [*kept, *(f"# failure: {line}" for line in found), "---"]
        log.write_text("\n".join(lines) + "\n" + text)
        return
    assert found == [value for key, value in keys if key == "failure"]


def _only(text: str) -> Failure:
    (failure,) = read_failures(text.splitlines(), _PATHS)
    return failure


def test_the_folders_and_makes_around_a_failed_file_are_not_told() -> None:
    failure = _only("""\
  CC      fs/btrfs/inode.o
/src/linux/fs/btrfs/inode.c:59:1: error: expected ';' before 'static'
make[3]: *** [/src/linux/scripts/Makefile.build:272: fs/btrfs/inode.o] Error 1
make[2]: *** [/src/linux/scripts/Makefile.build:515: fs/btrfs] Error 2
make[1]: *** [/src/linux/Makefile:1868: fs] Error 2
  CC      net/core/dev.o
make: *** [Makefile:220: __sub-make] Error 2
""")
    assert failure.target == "fs/btrfs/inode.o"
    assert failure.error == "fs/btrfs/inode.c:59:1: error: expected ';' before 'static'"


def test_each_module_with_undefined_symbols_fails_by_itself() -> None:
    failures = read_failures(
        """\
  MODPOST modules-only.symvers
ERROR: modpost: "nosuch" [fs/btrfs/btrfs.ko] undefined!
ERROR: modpost: "other" [fs/btrfs/btrfs.ko] undefined!
ERROR: modpost: "third" [lib/test_bpf.ko] undefined!
make[1]: *** [/src/linux/scripts/Makefile.modpost:150: modules-only.symvers] Error 1
make: *** [Makefile:1713: modules] Error 2
""".splitlines(),
        _PATHS,
    )
    assert [item.target for item in failures] == ["fs/btrfs/btrfs.ko", "lib/test_bpf.ko"]
    assert failures[0].error == 'ERROR: modpost: "nosuch" [fs/btrfs/btrfs.ko] undefined!'


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (
            "FAILED: load BTF from vmlinux: Invalid argument",
            "FAILED: load BTF from vmlinux: Invalid argument",
        ),
        (
            "ld: init/main.o: in function `start_kernel':\n"
            "/src/linux/init/main.c:9: undefined reference to `nosuch'",
            "init/main.c:9: undefined reference to `nosuch'",
        ),
        (
            "ld: drivers/a.o:(.bss+0x0): multiple definition of `x'; drivers/b.o:first defined",
            "ld: drivers/a.o:(.bss+0x0): multiple definition of `x'; drivers/b.o:first defined",
        ),
        ("", "vmlinux: Error 255"),
    ],
)
def test_the_line_that_tells_why_vmlinux_was_not_made(said: str, error: str) -> None:
    failure = _only(
        f"  BTFIDS  vmlinux\n{said}\n"
        "make[1]: *** [/src/linux/Makefile:1213: vmlinux] Error 255\n"
        "make[1]: *** Deleting file 'vmlinux'\nmake: *** [Makefile:220: __sub-make] Error 2\n"
    )
    assert (failure.target, failure.error) == ("vmlinux", error)


def test_a_missing_source_is_the_failure_of_what_needs_it() -> None:
    failure = _only(
        "make[4]: *** No rule to make target 'fs/btrfs/gone.o', needed by 'fs/btrfs/btrfs.o'.  "
        "Stop.\nmake[3]: *** [/src/linux/scripts/Makefile.build:515: fs/btrfs] Error 2\n"
    )
    assert failure.target == "fs/btrfs/btrfs.o"
    assert failure.error.startswith("No rule to make target 'fs/btrfs/gone.o'")


def test_a_tree_that_is_not_clean_is_told_in_makes_words() -> None:
    failure = _only(
        "***\n*** The source tree is not clean, please run 'make ARCH=x86_64 mrproper'\n***\n"
        "make[1]: *** [/src/linux/Makefile:569: outputmakefile] Error 1\n"
    )
    assert "The source tree is not clean" in failure.error


@pytest.mark.parametrize(
    "line",
    [
        "/src/linux/scripts/extract-cert.c:21:10: fatal error: openssl/bio.h: No such file or d",
        "as: BFD: fs/x.o: No space left on device",
        "cc1: out of memory allocating 65536 bytes: Cannot allocate memory",
        "gcc: fatal error: Killed signal terminated program cc1",
        "/bin/sh: 1: bc: not found",
        "/bin/bash: line 1: flex: command not found",
    ],
)
def test_what_the_host_lacks_is_not_the_kernels_fault(line: str) -> None:
    failure = _only(f"  CC      a.o\n{line}\nmake[1]: *** [/src/linux/Makefile:1: a.o] Error 1\n")
    assert failure.is_of_the_rig


def test_what_the_kernel_gets_wrong_is_not_the_hosts_fault() -> None:
    failure = _only(
        "  CC      a.o\n/src/linux/a.c:1:10: fatal error: linux/x.h: No such file or directory\n"
        "make[1]: *** [/src/linux/Makefile:1: a.o] Error 1\n"
    )
    assert not failure.is_of_the_rig


@pytest.mark.parametrize(
    ("line", "target"),
    [
        ("  CC [M]  fs/btrfs/inode.o", "fs/btrfs/inode.o"),
        ("  LD      .tmp_vmlinux.btf", ".tmp_vmlinux.btf"),
        ("  HOSTCC  scripts/basic/fixdep", "scripts/basic/fixdep"),
        ("make[1]: Entering directory '/x'", None),
        ("  warning: unused", None),
    ],
)
def test_steps_are_told_from_other_lines(line: str, target: str | None) -> None:
    assert step_of(line) == target


@given(st.lists(st.text(max_size=60), max_size=20))
def test_no_output_breaks_the_reader(lines: list[str]) -> None:
    for failure in read_failures(lines, _PATHS):
        assert failure.error
        assert "\x1b" not in failure.error


@given(st.sampled_from(["CC", "LD"]), st.text(min_size=1, max_size=40))
def test_a_failed_make_line_always_gives_a_failure(step: str, noise: str) -> None:
    lines = [f"  {step}      a.o", noise, "make[1]: *** [/src/linux/Makefile:1: a.o] Error 1"]
    assert [item.target for item in read_failures(lines, _PATHS)][-1:] == ["a.o"]
