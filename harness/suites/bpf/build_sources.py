"""What the selftests' sources say: tests, the objects they embed or open, and hashes. Reads only.

The text is C, but one convention is enough for every release: a test is a function `test_<name>`,
or `serial_test_<name>`, that stands at the beginning of a line.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.host.cache import digest_of

# `DEFINE_TEST(align)` in the generated tests.h; the same in the map_tests folder.
_DEFINED = re.compile(r"^DEFINE_TEST\((?P<name>\w+)\)", re.MULTILINE)
# `void serial_test_bpf_obj_id(void)`; in older releases also `int test_resolve_btfids(void)`
_FUNCTION = re.compile(r"^(?:void|int) (?:serial_)?test_(?P<name>\w+)\((?:void)?\)", re.MULTILINE)
# `#include "bpf_cubic.skel.h"`
_SKELETON = re.compile(r'^#include "(?P<name>[\w.-]+?)\.(?:skel|lskel|subskel)\.h"', re.MULTILINE)
_INCLUDE = re.compile(r'^\s*#\s*include "(?P<path>[\w./-]+)"', re.MULTILINE)
# `"./test_pkt_access.bpf.o"`, `"loop3.linked3.o"`, `"connect4_prog.o"`
_OBJECT = re.compile(r'"(?:\./)?(?P<name>\w+)(?:\.bpf)?(?:\.linked\d)?\.o"')
# `TRUNNER_EXTRA_FILES := $(OUTPUT)/urandom_read …`, with continuation lines
_EXTRA_FILES = re.compile(r"^TRUNNER_EXTRA_FILES\s*:?=\s*(?P<value>(?:.*\\\n)*.*)", re.MULTILINE)
_WILDCARD = re.compile(r"\$\(wildcard (?P<pattern>[^()]+)\)")
_RUNNER_HEADER = "test_progs.h"
"""Included by every test: a change in it changes the runner and no test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file of prog_tests."""

    name: str
    """`bpf_iter.c`"""
    tests: tuple[str, ...]
    skeletons: frozenset[str]
    """Embedded objects by the name of their skeleton, without suffix."""
    objects: Mapping[str, frozenset[str]]
    """Objects that each test opens by file name, without suffix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraFiles:
    """Files that test_progs wants beside it."""

    made: tuple[str, ...]
    """Goals, relative to the output folder: `urandom_read`, `bpf_testmod.ko`."""
    copied: tuple[str, ...]
    """Files of the tree, or patterns of files, relative to the selftests' folder."""


def defined_tests(header: Path) -> tuple[str, ...]:
    """Names in a generated tests.h, in order; () when there is none."""
    if not header.is_file():
        return ()
    return tuple(match["name"] for match in _DEFINED.finditer(_text(header)))


def read_source_files(folder: Path, promised: Iterable[str]) -> tuple[SourceFile, ...]:
    """Read prog_tests of a selftests folder; only names of `promised` are tests."""
    known = frozenset(promised)
    paths = sorted((folder / "prog_tests").glob("*.c"))
    return tuple(_source_file(path, folder, known) for path in paths)


def extra_files(makefile: str) -> ExtraFiles:
    """Read test_progs' extra files out of a Makefile's text."""
    match = _EXTRA_FILES.search(makefile)
    value = match["value"].replace("\\\n", " ") if match else ""
    patterns = [word for found in _WILDCARD.finditer(value) for word in found["pattern"].split()]
    words = _WILDCARD.sub(" ", value).split()
    made = tuple(w.removeprefix("$(OUTPUT)/") for w in words if w.startswith("$(OUTPUT)/"))
    copied = tuple(word for word in words if "$" not in word)
    return ExtraFiles(made=made, copied=(*copied, *patterns))


def source_hashes(
    files: Iterable[SourceFile], folder: Path, linked: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, str], ...]:
    """Return (test, hash of its sources), sorted.

    `linked` names the programs of each skeleton that is linked of several.
    """
    digests: dict[Path, str] = {}

    def digest(path: Path) -> str:
        if path not in digests:
            digests[path] = digest_of(path)
        return digests[path]

    def hash_of(file: SourceFile, test: str) -> str:
        names = {name for skeleton in file.skeletons for name in linked.get(skeleton, (skeleton,))}
        names |= file.objects[test]
        paths = local_closure(folder / "prog_tests" / file.name, folder)
        for name in sorted(names):
            paths |= local_closure(folder / "progs" / f"{name}.c", folder)
        return digest_of(*(f"{p.relative_to(folder)} {digest(p)}" for p in sorted(paths)))

    return tuple(sorted((test, hash_of(file, test)) for file in files for test in file.tests))


def local_closure(path: Path, folder: Path) -> set[Path]:
    """A source and the headers of the selftests' folder that it includes, over and over."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current in found or current.name == _RUNNER_HEADER or not current.is_file():
            continue
        found.add(current)
        for include in _INCLUDE.finditer(_text(current)):
            name = include["path"]
            for base in (current.parent, folder):
                candidate = Path(base, name).resolve()
                if candidate.is_relative_to(folder.resolve()) and candidate.is_file():
                    waiting.append(folder / candidate.relative_to(folder.resolve()))
                    break
    return found


def _source_file(path: Path, folder: Path, known: frozenset[str]) -> SourceFile:
    text = _text(path)
    skeletons = {
        match["name"]
        for source in local_closure(path, folder)
        if source.parent.name == "prog_tests"
        for match in _SKELETON.finditer(_text(source))
    }
    functions = [match for match in _FUNCTION.finditer(text) if match["name"] in known]
    objects = {match["name"]: _objects(text, match.start()) for match in functions}
    if not objects and path.stem in known:
        objects[path.stem] = frozenset()  # older releases name one test after each file
    if len(objects) == 1:
        everything = frozenset(match["name"] for match in _OBJECT.finditer(text))
        objects = dict.fromkeys(objects, everything)
    return SourceFile(
        name=path.name,
        tests=tuple(objects),
        skeletons=frozenset(skeletons),
        objects=objects,
    )


def _objects(text: str, start: int) -> frozenset[str]:
    """Objects named in the function that begins at `start`."""
    end = text.find("\n}", start)
    body = text[start : end if end >= 0 else len(text)]
    return frozenset(match["name"] for match in _OBJECT.finditer(body))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
