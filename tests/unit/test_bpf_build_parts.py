"""The pure parts of a build: make's database, sources, listings, losses, scripts, tools."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.arch import Arch
from harness.model.errors import RigError
from harness.suites.bpf.build_install import make_sparse
from harness.suites.bpf.build_listing import preprocessor_argv, verifier_descriptors
from harness.suites.bpf.build_make import parse_database
from harness.suites.bpf.build_overlay import (
    Failed,
    link_culprits,
    linked_programs,
    losses,
    shortened_lists,
    without_tests,
)
from harness.suites.bpf.build_sources import SourceFile, extra_files
from harness.suites.bpf.build_workshop import system_includes
from harness.suites.bpf.build_wrappers import clang_script
from harness.suites.bpf.sysroot import make_links_relative
from harness.suites.bpf.toolchain import find_toolchain, llvm_strip_names
from harness.vm.arches import load_arch

OUT = Path("/out")

DATABASE = """\
# GNU Make 4.3
LSKELS := atomics.c trace_printk.c
LINKED_SKELS := linked_maps.skel.h
linked_maps.skel.h-deps := linked_maps1.bpf.o linked_maps2.bpf.o
CFLAGS = -g -O0 $(GENFLAGS)

/out/atomics.bpf.o: progs/atomics.c progs/bpf_iter.h | /out /out/tools/libbpf.a
#  Implicit rule search has not been done.
/out/no_alu32/atomics.bpf.o: progs/atomics.c
/out/bpf_cubic.bpf.o: BPF_CFLAGS := -x
/out/bpf_cubic.bpf.o: progs/bpf_cubic.c
/out/bpf_cubic.skel.h: /out/bpf_cubic.bpf.o /tools/bpftool
/out/atomics.lskel.h: /out/atomics.bpf.o
/out/align.test.o: prog_tests/align.c test_progs.h
/out/batch.test.o: map_tests/batch.c
other: x
"""


def test_targets_are_known_by_what_they_are_made_from() -> None:
    known = parse_database(DATABASE.splitlines(keepends=True), OUT)
    assert known.made_from("progs", ".o") == {
        "atomics.bpf.o": "atomics.c",
        "bpf_cubic.bpf.o": "bpf_cubic.c",
    }
    assert known.made_from("progs", ".o", below="no_alu32") == {
        "no_alu32/atomics.bpf.o": "atomics.c"
    }
    assert known.made_from("prog_tests", ".test.o") == {"align.test.o": "align.c"}
    assert known.headers_of_skeletons() == ("atomics.lskel.h", "bpf_cubic.skel.h")
    assert linked_programs(known) == {"linked_maps": ("linked_maps1", "linked_maps2")}


def test_a_rule_with_thousands_of_prerequisites_is_read_by_its_first_ones() -> None:
    many = " ".join(f"/out/p{number}.bpf.o" for number in range(5000))
    known = parse_database([f"/out/x.test.o: prog_tests/x.c {many}\n"], OUT)
    assert known.rules["x.test.o"][0] == "prog_tests/x.c"
    assert len(known.rules["x.test.o"]) < 100


@given(st.lists(st.text(max_size=80)))
def test_any_database_is_read_without_an_exception(lines: list[str]) -> None:
    parse_database(lines, OUT)
    parse_database([f"/out/{line}" for line in lines], OUT)


def test_names_of_lost_programs_leave_the_lists_of_the_makefile() -> None:
    known = parse_database(DATABASE.splitlines(keepends=True), OUT)
    shorter = shortened_lists(known, frozenset({"atomics.c"}), ["linked_maps"])
    assert shorter == {"LSKELS": "trace_printk.c", "LINKED_SKELS": ""}
    assert shortened_lists(known, frozenset({"bpf_cubic.c"}), ()) == {}


def test_extra_files_of_a_release_are_read_from_its_makefile() -> None:
    text = (
        "TRUNNER_EXTRA_FILES := $(OUTPUT)/urandom_read $(OUTPUT)/bpf_testmod.ko\t\\\n"
        "\t\t       ima_setup.sh verify_sig_setup.sh\t\t\\\n"
        "\t\t       $(wildcard progs/btf_dump_test_case_*.c)\n"
        "TRUNNER_BPF_BUILD_RULE := X\nTRUNNER_EXTRA_FILES :=\n"
    )
    extras = extra_files(text)
    assert extras.made == ("urandom_read", "bpf_testmod.ko")
    assert extras.copied == (
        "ima_setup.sh",
        "verify_sig_setup.sh",
        "progs/btf_dump_test_case_*.c",
    )
    assert extra_files("all:\n").made == ()


VERIFIER = r"""
# 1 "test_verifier.c"
struct bpf_test { const char *descr; struct { int code; } insns[5]; };
static struct bpf_test tests[] = {
{
 "and: " "one \"two\"",
 .insns = { ((struct { int code; }) { .code = '{' }), },
 .errstr = "not a } descriptor",
},
{ "tab\there \x41\101", .fixup = { 1, 2 }, },
{
 .descr = "named",
},
};
static int unused[] = { 1 };
"""


def test_descriptors_are_the_first_field_of_each_element() -> None:
    assert verifier_descriptors(VERIFIER) == ('and: one "two"', "tab\there AA", "named")


def test_no_array_gives_no_descriptors() -> None:
    assert verifier_descriptors("int main(void) { return 0; }") == ()


@given(st.text())
def test_any_text_is_searched_for_descriptors_without_an_exception(text: str) -> None:
    verifier_descriptors("struct bpf_test tests[] = {" + text)


def test_the_compiler_call_becomes_one_of_the_preprocessor() -> None:
    commands = [
        'printf \'  %-8s%s %s%s\\n\' "BINARY" "" "test_verifier" "";',
        "it's no command",
        "/w/cc -g -I/w test_verifier.c /w/libbpf.a /w/cap.o -lelf -lz -o /w/test_verifier",
    ]
    assert preprocessor_argv(commands, "test_verifier.c") == (
        *("/w/cc", "-g", "-I/w", "test_verifier.c", "-E", "-P"),
    )
    assert preprocessor_argv(commands[:2], "test_verifier.c") is None


def _file(name: str, *skeletons: str, **objects: tuple[str, ...]) -> SourceFile:
    return SourceFile(
        name=name,
        tests=tuple(objects),
        skeletons=frozenset(skeletons),
        objects={test: frozenset(names) for test, names in objects.items()},
    )


FILES = (
    _file("embeds.c", "cubic", embeds=()),
    _file("opens.c", opens_one=("loop",), opens_two=("loop", "other"), opens_none=()),
    _file("links.c", "maps", links=()),
)
LINKED = {"maps": ("maps1", "maps2")}


def _lost(failed: Failed) -> dict[str, str]:
    return {
        entry.case_path[-1]: entry.object_name for entry in losses(failed, FILES, LINKED).not_built
    }


def test_nothing_failed_means_nothing_lost() -> None:
    lost = losses(Failed(), FILES, LINKED)
    assert (lost.programs, lost.test_files, lost.not_built) == (frozenset(), frozenset(), ())


def test_a_test_is_lost_only_when_everything_that_it_opens_is_missing() -> None:
    failed = Failed(objects={"loop": "error: x"})
    assert _lost(failed) == {"opens_one": "progs/loop.c"}
    assert losses(failed, FILES, LINKED).hidden == {"opens.c": ("opens_one",)}
    assert losses(failed, FILES, LINKED).test_files == frozenset()


def test_one_part_of_a_linked_skeleton_takes_the_tests_of_the_whole() -> None:
    failed = Failed(objects={"maps2": "error: x"})
    assert _lost(failed) == {"links": "progs/maps2.c"}
    assert losses(failed, FILES, LINKED).test_files == {"links.c"}


def test_a_failed_skeleton_is_told_as_such() -> None:
    (entry,) = losses(Failed(skeletons={"cubic": "libbpf: x"}), FILES, LINKED).not_built
    assert (entry.case_path, entry.stage) == (("test_progs", "embeds"), "skeleton")


def test_a_lost_object_is_told_exactly_once_by_its_tests_or_by_itself() -> None:
    failed = Failed(objects={"cubic": "error: a", "nobody": "error: b"})
    assert _lost(failed) == {"embeds": "progs/cubic.c", "nobody.c": "progs/nobody.c"}


def test_hidden_tests_no_longer_look_like_tests() -> None:
    text = "void test_a(void)\n{\n}\nvoid serial_test_ab(void)\n{\n}\nvoid test_b()\n{\n}\n"
    shown = without_tests(text, ["ab", "b"])
    assert "\nvoid serial_test_ab" not in shown
    assert "void test_b" in shown
    assert "\nvoid test_b" not in shown
    assert shown.startswith("void test_a(void)")
    assert without_tests(shown, ["ab", "b"]) == shown


def test_the_linker_names_its_culprits() -> None:
    output = [
        "/usr/bin/ld: /w/bpf/tailcalls.test.o: in function `test_x':",
        "/w/bpf/other.test.o:(.text+0x1): undefined reference to `y'",
        "/usr/bin/ld: test_progs.o:(.data.rel+0x8): undefined reference to `test_z'",
    ]
    tests = {"tailcalls.test.o": "tailcalls.c", "other.test.o": "other.c"}
    assert link_culprits(output, tests) == ("other.c", "tailcalls.c")


def test_a_compiler_tells_where_it_searches() -> None:
    said = (
        'clang version 16\nignoring nonexistent directory "/x"\n'
        '#include "..." search starts here:\n#include <...> search starts here:\n'
        " /usr/lib/llvm-16/lib/clang/16/include\n /s/usr/include/aarch64-linux-gnu\n"
        "End of search list.\n"
    )
    assert system_includes(said) == (
        "/usr/lib/llvm-16/lib/clang/16/include",
        "/s/usr/include/aarch64-linux-gnu",
    )
    assert system_includes("") == ()


def test_clang_gets_a_target_for_programs_and_none_for_objects() -> None:
    script = clang_script(
        "/usr/bin/clang-16", ("--target=aarch64-linux-gnu",), ("-m=t",), ("-o=b",)
    )
    for_objects, for_programs = script.split("esac")
    assert "--target=aarch64-linux-gnu" not in for_objects
    assert for_objects.rstrip().endswith("-Wno-error -o=b ;;")
    assert 'clang-16 --target=aarch64-linux-gnu "$@"' in for_programs


def test_links_of_a_sysroot_stay_inside_it(tmp_path: Path) -> None:
    library = tmp_path / "usr/lib/aarch64-linux-gnu"
    library.mkdir(parents=True)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/libz.so.1").write_text("target's")
    (library / "libz.so").symlink_to("/lib/libz.so.1")
    make_links_relative(tmp_path)
    assert (library / "libz.so").read_text() == "target's"
    assert not (library / "libz.so").readlink().is_absolute()


def test_a_sparse_copy_has_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "program"
    data = b"\x7fELF" + bytes(3_000_000) + b"end" + bytes(8192)
    path.write_bytes(data)
    path.chmod(0o755)
    make_sparse(path)
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o111
    assert path.stat().st_blocks * 512 < len(data)


def test_the_strip_of_a_numbered_clang_is_tried_first() -> None:
    assert llvm_strip_names("/usr/bin/clang-16") == ("llvm-strip-16", "llvm-strip")
    assert llvm_strip_names("/usr/bin/clang") == ("llvm-strip",)


def test_a_host_without_clang_is_told_which_packages_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RigError, match="no clang on this host") as raised:
        find_toolchain(load_arch(Arch.X86_64), {})
    assert "(Debian)" in raised.value.hint
    assert "(Fedora, CentOS)" in raised.value.hint


def test_a_clang_that_was_named_and_cannot_make_bpf_is_told(tmp_path: Path) -> None:
    other = tmp_path / "clang"
    other.write_text("#!/bin/sh\necho '    x86-64 - 64-bit X86'\n")
    other.chmod(0o755)
    with pytest.raises(RigError, match="is no clang with a BPF back end"):
        find_toolchain(load_arch(Arch.X86_64), {"CLANG": str(other)})
