"""Kernel complaints are found on both architectures, named alike, and damage is never a match."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.host.config import data_root, load_toml
from harness.model.errors import UserError
from harness.model.record import Splat
from harness.triage.families import SplatsFile, default_families, load_families
from harness.triage.signature import can_match
from harness.triage.splat import SplatScanner, scan_splats, splat_lines

_CORPUS = sorted((Path(__file__).parent.parent / "corpus" / "splats").glob("*.log"))
_FOLDER = data_root() / "configs" / "splats"
_FAMILIES = default_families()
_FILES = [load_toml(path, SplatsFile) for path in sorted(_FOLDER.glob("*.toml"))]


def _read(path: Path) -> tuple[list[str], list[str]]:
    """A log with expectations above it: `#: kind | whole | title | first frames`."""
    lines = path.read_text().splitlines()
    wanted = [line.removeprefix("#: ") for line in lines if line.startswith("#: ")]
    return wanted, [line for line in lines if not line.startswith(("#: ", "#! "))]


def _log(name: str) -> list[str]:
    (path,) = [path for path in _CORPUS if path.stem == name]
    return _read(path)[1]


def _told(splat: Splat) -> str:
    state = "whole" if splat.is_whole else "damaged"
    return f"{splat.kind} | {state} | {splat.title} | {' '.join(splat.frames[:3])}".strip()


@pytest.mark.parametrize("path", _CORPUS, ids=lambda path: path.stem)
def test_a_log_of_the_corpus_has_its_complaints_and_no_others(
    path: Path, request: pytest.FixtureRequest
) -> None:
    wanted, lines = _read(path)
    found = [_told(splat) for splat in scan_splats(lines)]
    if request.config.getoption("--update-corpus"):
        note = path.read_text().splitlines()[0]
        path.write_text("\n".join([note, *(f"#: {text}" for text in found), *lines]) + "\n")
        return
    assert found == wanted


@pytest.mark.parametrize("path", _CORPUS, ids=lambda path: path.stem)
def test_a_complaint_says_where_its_text_stands(path: Path) -> None:
    lines = _read(path)[1]
    offsets, at = [], 0
    for line in lines:
        offsets.append((at, line))
        at += len(line.encode()) + 1
    for splat in scan_splats(lines):
        text = splat_lines(splat, offsets)
        assert text
        assert any(_FAMILIES.match(line.partition("] ")[2]) for line in text[:3])


@pytest.mark.parametrize(
    "name", ["survive", "oops-panic", "panic", "warn-panic", "sysrq", "init-exit"]
)
def test_one_bug_has_one_signature_on_both_architectures(name: str) -> None:
    x86, arm = (
        {splat.signature: splat.title for splat in scan_splats(_log(f"{arch}-{name}"))}
        for arch in ("x86_64", "aarch64")
    )
    shared = set(x86) & set(arm)
    assert len(shared) >= min(len(x86), len(arm), 5)
    assert all(x86[key] == arm[key] for key in shared)


def test_what_follows_from_an_oops_is_no_complaint_of_its_own() -> None:
    for arch in ("x86_64", "aarch64"):
        kinds = [splat.kind for splat in scan_splats(_log(f"{arch}-oops-panic"))]
        assert kinds == ["warn", "oops"]


def test_a_consequence_without_its_reason_is_told() -> None:
    (splat,) = scan_splats(["[    1.0] Kernel panic - not syncing: Fatal exception in interrupt"])
    assert splat.title == "kernel panic: Fatal exception in interrupt"


@pytest.mark.parametrize(
    "family", _FAMILIES.families, ids=lambda family: family.config.example[:40]
)
def test_each_family_takes_its_own_example(family: object) -> None:
    example = family.config.example  # type: ignore[attr-defined]
    for stamped in (example, f"[   12.345678] {example}", f"[   12.345678][  T211] {example}"):
        found = scan_splats([stamped])
        assert len(found) == 1
    match = _FAMILIES.match(example)
    assert match is not None
    assert match[0] is family


@pytest.mark.parametrize(
    "noise", [item for file in _FILES for item in file.noise], ids=lambda item: item.example[:40]
)
def test_ordinary_text_is_no_complaint(noise: object) -> None:
    assert scan_splats([f"[    1.0] {noise.example}"]) == ()  # type: ignore[attr-defined]


# -- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x86_64-oops-panic", "aarch64-oops-panic"])
def test_an_oops_that_was_cut_before_its_function_matches_nothing(name: str) -> None:
    lines = _log(name)
    begin = next(i for i, line in enumerate(lines) if "Unable to handle" in line or "BUG: " in line)
    (splat,) = scan_splats(lines[begin : begin + 2])
    assert not splat.is_whole
    assert not can_match(splat.signature)


def test_an_oops_that_was_cut_after_its_function_is_the_same_one() -> None:
    lines = _log("aarch64-oops-panic")
    pc = next(i for i, line in enumerate(lines) if "pc : wild_reader" in line)
    whole, cut = scan_splats(lines), scan_splats(lines[: pc + 1])
    assert cut[-1].signature == whole[-1].signature


def test_mixed_complaints_match_nothing() -> None:
    assert not any(can_match(splat.signature) for splat in scan_splats(_log("x86_64-two-writers")))


def test_a_line_that_two_writers_share_is_damage() -> None:
    torn = "[    1.000001] WARNING: CPU: 0 PID: 1 at f.c:1 f+0x1/0x2[    1.000002] hello"
    (splat,) = scan_splats([torn])
    assert not splat.is_whole


# -- line by line --------------------------------------------------------------------------------


def test_a_complaint_belongs_to_the_case_in_which_it_began() -> None:
    scanner = SplatScanner(log="vm1/console.log")
    found: list[Splat] = []
    for number, line in enumerate(_log("x86_64-warn-panic")):
        during = "late" if "Call Trace" in line or found else "early"
        found += scanner.feed(line, number, number + 1, during=during)
    found += scanner.finish()
    assert found[0].during == "early"
    assert found[0].log is not None
    assert found[0].log.log == "vm1/console.log"


def test_a_panic_that_the_guest_does_not_survive_is_told_at_the_end() -> None:
    scanner = SplatScanner(log="c")
    line = "[    1.0] Kernel panic - not syncing: out of coffee"
    assert scanner.feed(line, 0, 10, during="boot") == ()
    (splat,) = scanner.finish()
    assert (splat.kind, splat.during, splat.is_whole) == ("panic", "boot", True)
    assert scanner.finish() == ()


def test_a_flood_of_one_complaint_is_told_a_few_times() -> None:
    lines = _log("x86_64-warn-panic") * 200
    found = [splat for splat in scan_splats(lines) if splat.is_whole]
    assert 1 <= len(found) <= 20


def test_a_flood_of_different_complaints_ends() -> None:
    lines = [
        f"[    1.0] Kernel panic - not syncing: no {chr(97 + n % 26)}{'x' * n}" for n in range(900)
    ]
    assert len(scan_splats(lines)) <= 500


def test_titles_of_a_hostile_kernel_are_inert() -> None:
    (splat,) = scan_splats(["Kernel panic - not syncing: \x1b[2J\x1b]0;x\x07{frame}\u202e[red]"])
    assert "\x1b" not in splat.title
    assert "\u202e" not in splat.title


_WORDS = st.sampled_from(
    [
        *("BUG: ", "WARNING: CPU: 0 PID: 1 at ", "Call Trace:", "Call trace:", " f+0x1/0x2", "\n"),
        *("Kernel panic - not syncing: ", "---[ end trace 0 ]---", "Unable to handle kernel "),
        *("KASAN: x in f+0x1", "INFO: task a:1 blocked for more than", "RIP: 0010:f+0x1/0x2"),
        *("[    1.0] ", "]---", "{", "}"),
    ]
)


@settings(max_examples=60)
@given(st.lists(st.lists(_WORDS | st.text(max_size=9), max_size=5).map("".join), max_size=40))
def test_any_log_is_read(lines: list[str]) -> None:
    for splat in scan_splats(lines):
        assert splat.title
        assert can_match(splat.signature) is splat.is_whole
        assert splat.log is not None
        assert splat.log.begin_b < splat.log.end_b


# -- the table -----------------------------------------------------------------------------------

_FAMILY = (
    '[[family]]\nkind = "x"\nstart = "BUG"\ntitle = "t"\nend = "line"\nframe = "none"\n'
    'example = "BUG"\n'
)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"BUG"\ntitle', '"("\ntitle', "no regular expression"),
        ('title = "t"', 'title = "{what}"', "what"),
        ('title = "t"', 'title = "in {frame}"', "go together"),
        ('frame = "none"', 'frame = "guilty"', "go together"),
        ('end = "line"', 'end = "never"', "never"),
        ('kind = "x"', 'kin = "x"', "kin"),
        (_FAMILY, "", "no family"),
    ],
)
def test_a_wrong_table_is_the_persons_mistake(tmp_path: Path, old: str, new: str, why: str) -> None:
    (tmp_path / "a.toml").write_text(_FAMILY)
    assert load_families(tmp_path).kinds == {"x"}
    assert old in _FAMILY
    (tmp_path / "a.toml").write_text(_FAMILY.replace(old, new))
    with pytest.raises(UserError, match=why):
        load_families(tmp_path)
