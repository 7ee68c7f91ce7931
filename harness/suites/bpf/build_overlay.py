"""What a failure costs: the tests that embed or open what did not compile, and no others.

The makefiles of every release want all objects before they compile the first test. So that one bad
object does not cost the whole program, it is taken out of the private copy, and with it each test
file that embeds it; the rest is built on. Which tests that are is decided here, without acting.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.model.kernel import NotBuilt
from harness.suites.bpf.build_errors import TargetFailure
from harness.suites.bpf.build_make import Database
from harness.suites.bpf.build_sources import SourceFile

RUNNER = "test_progs"

_BTFIDS_USER = "resolve_btfids.c"
# `FAILED: load BTF from btf_data.bpf.o: No such file or directory`, of the tool behind the linker
_BTFIDS_FAILED = re.compile(r"FAILED\b")
# `/usr/bin/ld: /w/bpf/tailcalls.test.o: in function `test_x':`, `x.test.o:(.text+0x1): undefined …`
_CULPRIT = re.compile(r"(?:^|[\s/])(?P<name>[\w.-]+)\.test\.o:")
_LISTS = ("LSKELS", "LSKELS_EXTRA", "LINKED_SKELS")


@dataclass(slots=True)
class Failed:
    """What failed so far, each with its first error line."""

    objects: dict[str, str] = field(default_factory=dict)
    """By program: `bpf_cubic` for progs/bpf_cubic.c."""
    skeletons: dict[str, str] = field(default_factory=dict)
    """By skeleton: `linked_funcs`."""
    tests: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By file of prog_tests: stage and error."""
    others: dict[str, str] = field(default_factory=dict)
    """By target: programs, libraries, generated headers."""

    @property
    def count(self) -> int:
        return len(self.objects) + len(self.skeletons) + len(self.tests)

    def add(self, failures: Iterable[TargetFailure], database: Database) -> None:
        """Sort failures by what they are failures of; the first error of each stays."""
        objects = database.made_from("progs", ".o")
        tests = database.made_from("prog_tests", ".test.o")
        for failure in failures:
            target, error = failure.target, failure.error
            if target in objects:
                self.objects.setdefault(objects[target].removesuffix(".c"), error)
            elif target.endswith((".skel.h", ".lskel.h")):
                self.skeletons.setdefault(skeleton_name(target), error)
            elif target in tests:
                self.tests.setdefault(tests[target], ("test object", error))
            elif target == RUNNER and (culprits := link_culprits(failure.output, tests)):
                for name in culprits:
                    self.tests.setdefault(name, ("link", error))
            else:
                self.others.setdefault(target, error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What has to leave the copy, and what is to be told of it."""

    programs: frozenset[str]
    """Files of progs to take out."""
    test_files: frozenset[str]
    """Files of prog_tests to take out."""
    hidden: Mapping[str, tuple[str, ...]]
    """Tests to hide in files of prog_tests that stay for their other tests."""
    not_built: tuple[NotBuilt, ...]


def losses(
    failed: Failed, files: Sequence[SourceFile], linked: Mapping[str, tuple[str, ...]]
) -> Losses:
    """Work out what the failures cost.

    `linked` names the programs of each skeleton that is linked of several. A test that opens
    missing objects at run time is lost when it opens no other; else it runs, and says so itself.
    """
    gone = dict(failed.skeletons)
    for skeleton, programs in linked.items():
        for program in programs:
            if program in failed.objects:
                gone.setdefault(skeleton, failed.objects[program])
    by_file = {file.name: _why(file, failed, gone, linked) for file in files}
    not_built = [entry for file in files for entry in _lost(file, by_file[file.name])]
    opened: list[NotBuilt] = []
    hidden: dict[str, tuple[str, ...]] = {}
    for file in files:
        if by_file[file.name] is None and (entries := _opened(file, failed)):
            opened += entries
            hidden[file.name] = tuple(entry.case_path[-1] for entry in entries)
    told = {entry.object_name for entry in (*not_built, *opened)}
    alone = [
        NotBuilt(case_path=("progs", f"{name}.c"), object_name=f"progs/{name}.c", stage=s, error=e)
        for s, errors in (("bpf object", failed.objects), ("skeleton", failed.skeletons))
        for name, e in errors.items()
        if f"progs/{name}.c" not in told
    ]
    # The parts of a skeleton that is gone have none of their own: they are no whole objects.
    parts = (part for skeleton in gone for part in linked.get(skeleton, ()))
    return Losses(
        programs=frozenset(f"{n}.c" for n in (*failed.objects, *failed.skeletons, *parts)),
        test_files=frozenset(name for name, why in by_file.items() if why),
        hidden=hidden,
        not_built=(*not_built, *opened, *alone),
    )


def without_tests(text: str, tests: Iterable[str]) -> str:
    """A file of prog_tests whose functions of these tests no longer look like tests."""
    for test in tests:
        pattern = rf"^(?:void|int) (?=(?:serial_)?test_{re.escape(test)}\((?:void)?\))"
        text = re.sub(pattern, r"__attribute__((unused)) static \g<0>", text, flags=re.MULTILINE)
    return text


def shortened_lists(
    database: Database, programs: frozenset[str], skeletons: Iterable[str]
) -> dict[str, str]:
    """Make variables that name programs or skeletons, without those that are gone."""
    gone = {*programs, *(f"{name}.skel.h" for name in skeletons)}
    return {
        name: " ".join(word for word in database.words(name) if word not in gone)
        for name in _LISTS
        if gone & set(database.words(name))
    }


def linked_programs(database: Database) -> dict[str, tuple[str, ...]]:
    """Programs of each skeleton that is linked of several: `linked_maps` to its two."""
    return {
        skeleton_name(header): tuple(
            word.removesuffix(".o").removesuffix(".bpf")
            for word in database.words(f"{header}-deps")
        )
        for header in database.words("LINKED_SKELS")
    }


def skeleton_name(header: str) -> str:
    return header.removesuffix(".skel.h").removesuffix(".lskel.h")


def link_culprits(output: Iterable[str], tests: Mapping[str, str]) -> tuple[str, ...]:
    """Files of prog_tests that the linker complains of. `tests` maps `x.test.o` to `x.c`."""
    named = {m["name"] for line in output for m in _CULPRIT.finditer(line)}
    return tuple(sorted(tests[f"{n}.test.o"] for n in named if f"{n}.test.o" in tests))


def btfids_failed(failed: Failed) -> bool:
    """Whether the runner was linked, and only its lists of BTF ids could not be filled in.

    One test is made of such a list; then that test is lost, and the others need no list.
    """
    error = failed.others.get(RUNNER, "")
    if _BTFIDS_FAILED.match(error) is None or _BTFIDS_USER in failed.tests:
        return False
    failed.tests[_BTFIDS_USER] = ("link", error)
    del failed.others[RUNNER]
    return True


def program_lost(tests: Iterable[str], program: str, error: str) -> tuple[NotBuilt, ...]:
    """All tests of a program that could not be linked at all."""
    return tuple(
        NotBuilt(case_path=(program, test), object_name=program, stage="link", error=error)
        for test in tests
    )


_Why = tuple[str, str, str]
"""Object name, stage, error."""


def _why(
    file: SourceFile,
    failed: Failed,
    gone: Mapping[str, str],
    linked: Mapping[str, tuple[str, ...]],
) -> _Why | None:
    """Why a whole file of tests has to go; None when it stays."""
    for skeleton in sorted(file.skeletons):
        if skeleton in failed.objects and skeleton not in linked:
            return f"progs/{skeleton}.c", "bpf object", failed.objects[skeleton]
        for program in linked.get(skeleton, ()):
            if program in failed.objects:
                return f"progs/{program}.c", "bpf object", failed.objects[program]
        if skeleton in gone:
            return f"progs/{skeleton}.c", "skeleton", gone[skeleton]
    if file.name in failed.tests:
        stage, error = failed.tests[file.name]
        return f"prog_tests/{file.name}", stage, error
    return None


def _lost(file: SourceFile, why: _Why | None) -> list[NotBuilt]:
    if why is None:
        return []
    name, stage, error = why
    return [
        NotBuilt(case_path=(RUNNER, test), object_name=name, stage=stage, error=error)
        for test in file.tests
    ]


def _opened(file: SourceFile, failed: Failed) -> list[NotBuilt]:
    """Tests, in a file that compiles, of which each object that they open is missing."""
    return [
        NotBuilt(
            case_path=(RUNNER, test),
            object_name=f"progs/{min(objects)}.c",
            stage="bpf object",
            error=failed.objects[min(objects)],
        )
        for test, objects in file.objects.items()
        if objects and objects <= set(failed.objects)
    ]


def remove_sources(folder: Path, lost: Losses) -> None:
    """Take what is lost out of the copy of the selftests; generated lists of tests go with it."""
    for name in lost.programs:
        (folder / "progs" / name).unlink(missing_ok=True)
    for name in lost.test_files:
        (folder / "prog_tests" / name).unlink(missing_ok=True)
    for name, tests in lost.hidden.items():
        path = folder / "prog_tests" / name
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        shown = without_tests(text, tests)
        if shown != text:
            path.write_text(shown, encoding="utf-8", errors="surrogateescape")
    (folder / "prog_tests/tests.h").unlink(missing_ok=True)
