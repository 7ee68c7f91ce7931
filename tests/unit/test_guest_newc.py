import io
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.guest.newc import (
    SEGMENT_ALIGNMENT_B,
    Entry,
    character_device,
    directory,
    file_copy,
    read_newc,
    regular,
    symlink,
    tree_entries,
    write_newc,
)
from harness.model.errors import RigError

_PART = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
_NAMES = st.lists(_PART.filter(lambda part: part not in (".", "..")), min_size=1, max_size=3)


def archive(*entries: Entry) -> bytes:
    file = io.BytesIO()
    write_newc(entries, file)
    return file.getvalue()


@given(st.dictionaries(_NAMES.map("|".join), st.binary(max_size=99), max_size=8))
def test_what_is_written_is_read_back(files: dict[str, bytes]) -> None:
    entries = [regular(name, data) for name, data in sorted(files.items()) if name != "TRAILER!!!"]
    assert list(read_newc(io.BytesIO(archive(*entries)))) == entries


def test_every_kind_of_entry_survives() -> None:
    entries = (
        directory("dev"),
        character_device("dev/console", 5, 1),
        symlink("lib", "usr/lib"),
        regular("run.sh", b"#!/bin/sh\n", 0o755),
    )
    assert tuple(read_newc(io.BytesIO(archive(*entries)))) == entries


def test_missing_parents_come_before_their_children() -> None:
    names = [entry.name for entry in read_newc(io.BytesIO(archive(regular("a/b/c", b""))))]
    assert names == ["a", "a/b", "a/b/c"]


def test_the_order_of_entries_does_not_matter() -> None:
    one, two = regular("one", b"1"), regular("two", b"2")
    assert archive(one, two) == archive(two, one)


def test_archives_in_a_row_are_read_as_one() -> None:
    first, second = archive(regular("one", b"1")), archive(regular("two", b"22"))
    assert len(first) % SEGMENT_ALIGNMENT_B == 0
    assert [entry.name for entry in read_newc(io.BytesIO(first + second))] == ["one", "two"]


@pytest.mark.parametrize("name", ["/etc", "../etc", "a//b", "a/./b", "", "TRAILER!!!", "a\0b"])
def test_a_name_outside_the_root_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"root|ends"):
        regular(name, b"")


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        archive(regular("a", b"1"), regular("a", b"2"))


def test_a_file_below_a_file_is_refused() -> None:
    with pytest.raises(ValueError, match="no folder"):
        archive(regular("a", b"1"), regular("a/b", b"2"))


@pytest.mark.parametrize("cut_b", [1, 100, 111, 200])
def test_a_cut_archive_is_an_error(cut_b: int) -> None:
    whole = archive(regular("name", b"content")).rstrip(b"\0")
    with pytest.raises(ValueError, match="ends in the middle"):
        list(read_newc(io.BytesIO(whole[:-cut_b])))


def test_a_tree_gives_the_same_bytes_whatever_its_times_owners_and_order(tmp_path: Path) -> None:
    for folder, names in (("one", "abc"), ("two", "cba")):
        (tmp_path / folder / "sub").mkdir(parents=True)
        for name in names:
            file = tmp_path / folder / "sub" / name
            file.write_text(name)
            file.chmod(0o755 if name == "b" else 0o600 if folder == "one" else 0o664)
            os.utime(file, (len(folder), ord(name)))
        (tmp_path / folder / "link").symlink_to("sub/a")
    one = archive(*tree_entries(tmp_path / "one", "opt/tests"))
    assert one == archive(*tree_entries(tmp_path / "two", "opt/tests"))
    by_name = {entry.name: entry for entry in read_newc(io.BytesIO(one))}
    assert stat.S_IMODE(by_name["opt/tests/sub/b"].mode) == 0o755
    assert by_name["opt/tests/link"].data == b"sub/a"


def test_hard_links_are_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("same")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    read = read_newc(io.BytesIO(archive(*tree_entries(tmp_path))))
    assert [entry.data for entry in read] == [b"same", b"same"]


def test_a_pipe_in_a_tree_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RigError, match="pipe"):
        list(tree_entries(tmp_path))


def test_a_file_that_vanishes_in_part_is_an_error_not_a_broken_archive(tmp_path: Path) -> None:
    # Files of /proc say that their size is 0 and are not empty.
    with pytest.raises(RigError, match="changed"):
        archive(file_copy("stat", Path("/proc/self/stat")))
