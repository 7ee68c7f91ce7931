"""Debian packages of strangers: what is in them comes out, and only into the folder."""

import contextlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.errors import HarnessError, UserError
from harness.packages.deb import parse_control, read_ar, read_control, unpack_deb
from harness.packages.unpack import unpack_tar
from tests.fakes import packages as fake
from tests.fakes.packages import folder, hard_link, symlink, tar_member

WriteDeb = Callable[..., Path]


@pytest.fixture
def write_deb(tmp_path: Path) -> WriteDeb:
    def write(*members: tuple[tarfile.TarInfo, bytes], **options: object) -> Path:
        path = tmp_path / "sample.deb"
        path.write_bytes(fake.deb(fake.tar(*members), **options))  # type: ignore[arg-type]
        return path

    return write


@pytest.fixture
def into(tmp_path: Path) -> Iterator[Path]:
    """A folder to unpack into; nothing beside it may appear or change."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    yield tmp_path / "into"
    assert (outside / "precious").read_text() == "mine"
    assert [path.name for path in outside.iterdir()] == ["precious"]
    assert {path.name for path in tmp_path.iterdir()} <= {"outside", "into", "sample.deb"}


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


# What is in a package


def test_files_folders_and_links_come_out(write_deb: WriteDeb, into: Path) -> None:
    deb = write_deb(
        folder("./"),
        folder("./usr/"),
        folder("./usr/bin/"),
        tar_member("./usr/bin/awk", b"#!/bin/sh\n", mode=0o755),
        symlink("./usr/bin/nawk", "awk"),
        hard_link("./usr/bin/mawk", "./usr/bin/awk"),
    )
    unpack_deb(deb, into)
    awk = into / "usr/bin/awk"
    assert names(into) == ["usr", "usr/bin", "usr/bin/awk", "usr/bin/mawk", "usr/bin/nawk"]
    assert awk.read_bytes() == b"#!/bin/sh\n"
    assert awk.stat().st_mode & 0o7777 == 0o755
    assert awk.stat().st_mtime == 1_700_000_000
    assert (into / "usr/bin/nawk").readlink() == Path("awk")
    assert (into / "usr/bin/mawk").stat().st_ino == awk.stat().st_ino


def test_an_uncompressed_package_comes_out_too(write_deb: WriteDeb, into: Path) -> None:
    unpack_deb(write_deb(tar_member("./a", b"1"), compress=False), into)
    assert (into / "a").read_bytes() == b"1"


def test_only_what_was_asked_for_comes_out(write_deb: WriteDeb, into: Path) -> None:
    deb = write_deb(folder("./usr/"), tar_member("./usr/a", b"a"), tar_member("./usr/deep/b", b"b"))
    asked: list[str] = []

    def only(name: str) -> bool:
        asked.append(name)
        return name.endswith("/b")

    unpack_deb(deb, into, only=only)
    assert asked == ["usr", "usr/a", "usr/deep/b"]
    assert names(into) == ["usr", "usr/deep", "usr/deep/b"]


def test_a_hard_link_keeps_its_data_when_its_target_is_left_out(
    write_deb: WriteDeb, into: Path
) -> None:
    deb = write_deb(
        tar_member("./usr/bin/perl5.36.0", b"ELF", mode=0o755),
        hard_link("./usr/bin/perl", "./usr/bin/perl5.36.0"),
        hard_link("./usr/bin/pearl", "./usr/bin/perl5.36.0"),
    )
    unpack_deb(deb, into, only=lambda name: "5.36" not in name)
    assert names(into) == ["usr", "usr/bin", "usr/bin/pearl", "usr/bin/perl"]
    assert (into / "usr/bin/perl").read_bytes() == b"ELF"
    assert (into / "usr/bin/perl").samefile(into / "usr/bin/pearl")


def test_a_long_name_comes_out_whole(write_deb: WriteDeb, into: Path) -> None:
    long = "/".join(["a-folder-with-quite-a-long-name"] * 8) + "/file"
    unpack_deb(write_deb(tar_member(long, b"x"), symlink("link", long)), into)
    assert (into / long).read_bytes() == b"x"
    assert str((into / "link").readlink()) == long


def test_pax_names_are_read_where_a_source_archive_has_them(tmp_path: Path) -> None:
    long = "linux-6.1/" + "é" * 60 + "/" + "f" * 120
    archive = tmp_path / "linux.tar"
    archive.write_bytes(fake.tar(tar_member(long, b"x"), form=tarfile.PAX_FORMAT))
    unpack_tar(archive, tmp_path / "tree", strip=1)
    assert (tmp_path / "tree" / long.partition("/")[2]).read_bytes() == b"x"


def test_a_name_that_is_not_unicode_is_kept_byte_for_byte(write_deb: WriteDeb, into: Path) -> None:
    raw = os.fsdecode(b"caf\xe9")
    unpack_deb(write_deb(tar_member(raw, b"x")), into)
    assert [os.fsencode(path.name) for path in into.iterdir()] == [b"caf\xe9"]


def test_set_user_id_is_dropped_and_a_locked_folder_can_be_filled(
    write_deb: WriteDeb, into: Path
) -> None:
    unpack_deb(write_deb(folder("./d", mode=0o555), tar_member("./d/su", b"", mode=0o6755)), into)
    assert (into / "d/su").stat().st_mode & 0o7777 == 0o755
    assert (into / "d").stat().st_mode & 0o7777 == 0o755


def test_what_is_there_is_replaced_but_its_other_names_are_not(
    write_deb: WriteDeb, into: Path
) -> None:
    into.mkdir()
    (into / "a").write_text("old")
    (into / "other-name").hardlink_to(into / "a")
    unpack_deb(write_deb(tar_member("a", b"new")), into)
    assert (into / "a").read_text() == "new"
    assert (into / "other-name").read_text() == "old"


def test_the_control_file_is_read(write_deb: WriteDeb) -> None:
    text = fake.control_text("libelf1", "0.188-2.1", "arm64", "libc6 (>= 2.34), zlib1g")
    fields = read_control(write_deb(control=text))
    assert fields["Package"] == "libelf1"
    assert fields["Version"] == "0.188-2.1"
    assert fields["Depends"] == "libc6 (>= 2.34), zlib1g"
    assert fields["Description"] == "made by hand\nfor tests"


# Merged /usr: a folder of the package may be a symlink here


@pytest.mark.parametrize("target", ["usr/lib", "/usr/lib", "./usr/../usr/lib"])
def test_a_symlink_inside_is_followed_as_in_a_chroot(
    target: str, write_deb: WriteDeb, into: Path
) -> None:
    into.mkdir()
    (into / "lib").symlink_to(target)
    unpack_deb(write_deb(folder("./lib/"), tar_member("./lib/libc.so.6", b"libc")), into)
    assert (into / "usr/lib/libc.so.6").read_bytes() == b"libc"
    assert (into / "lib").is_symlink()


def test_a_folder_never_gives_way_to_a_symlink(write_deb: WriteDeb, into: Path) -> None:
    unpack_deb(write_deb(tar_member("lib/a", b"a"), symlink("lib", "usr/lib")), into)
    assert (into / "lib/a").read_bytes() == b"a"
    assert not (into / "lib").is_symlink()


# Nothing leaves the folder


@pytest.mark.parametrize(
    "name", ["/outside/new", "../outside/new", "a/../../outside/new", "./../outside/precious"]
)
def test_a_name_that_leads_out_is_refused(name: str, write_deb: WriteDeb, into: Path) -> None:
    with pytest.raises(UserError, match="outside of its folder"):
        unpack_deb(write_deb(tar_member(name, b"evil")), into)


def test_an_absolute_name_is_refused_even_where_it_was_not_asked_for(
    write_deb: WriteDeb, into: Path
) -> None:
    with pytest.raises(UserError, match="absolute"):
        unpack_deb(write_deb(tar_member("/etc/passwd", b"evil")), into, only=lambda _: False)


@pytest.mark.parametrize(
    "target", ["../outside", "{outside}", "x/../../outside", "../into/../outside"]
)
def test_a_write_through_a_symlink_stays_inside(
    target: str, write_deb: WriteDeb, into: Path
) -> None:
    there = target.format(outside=into.parent / "outside")
    unpack_deb(write_deb(symlink("out", there), tar_member("out/precious", b"evil")), into)
    assert into.resolve() in (into / "out").resolve().parents


@pytest.mark.parametrize("target", ["../outside", "{outside}"])
def test_a_write_through_the_callers_own_symlink_stays_inside(
    target: str, write_deb: WriteDeb, into: Path
) -> None:
    into.mkdir()
    (into / "out").symlink_to(target.format(outside=into.parent / "outside"))
    unpack_deb(write_deb(tar_member("out/precious", b"evil")), into)


def test_a_file_replaces_a_symlink_and_does_not_write_through_it(
    write_deb: WriteDeb, into: Path
) -> None:
    precious = str(into.parent / "outside/precious")
    unpack_deb(write_deb(symlink("x", precious), tar_member("x", b"evil")), into)
    assert (into / "x").read_bytes() == b"evil"


def test_a_symlink_to_the_root_and_up_is_no_way_out(write_deb: WriteDeb, into: Path) -> None:
    # Each link looks harmless by its letters: `here` is the folder itself, so here/.. is outside.
    deb = write_deb(
        folder("deep"),
        symlink("deep/here", ".."),
        symlink("out", "deep/here/../outside"),
        tar_member("out/precious", b"evil"),
    )
    unpack_deb(deb, into)
    assert (into / "out").resolve().is_relative_to(into.resolve())


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../etc/passwd", "a/../../../x"])
def test_whoever_follows_a_symlink_later_stays_inside(
    target: str, write_deb: WriteDeb, into: Path
) -> None:
    unpack_deb(write_deb(symlink("usr/share/link", target)), into)
    assert (into / "usr/share/link").resolve().is_relative_to(into.resolve())


def test_an_absolute_symlink_still_leads_to_the_same_file(write_deb: WriteDeb, into: Path) -> None:
    deb = write_deb(
        tar_member("lib/x86_64-linux-gnu/ld.so", b"ld"),
        symlink("lib64/ld-linux.so.2", "/lib/x86_64-linux-gnu/ld.so"),
    )
    unpack_deb(deb, into)
    assert (into / "lib64/ld-linux.so.2").read_bytes() == b"ld"


@pytest.mark.parametrize("target", ["../outside/precious", "/outside/precious"])
def test_a_hard_link_to_the_outside_is_refused(
    target: str, write_deb: WriteDeb, into: Path
) -> None:
    with pytest.raises(UserError, match="outside of its folder"):
        unpack_deb(write_deb(hard_link("mine", target)), into)


def test_a_hard_link_through_a_symlink_cannot_reach_the_outside(
    write_deb: WriteDeb, into: Path
) -> None:
    outside = str(into.parent / "outside")
    deb = write_deb(symlink("out", outside), hard_link("mine", "out/precious"))
    with pytest.raises(UserError, match="which it lacks"):
        unpack_deb(deb, into)


def test_a_hard_link_to_a_symlink_is_refused(write_deb: WriteDeb, into: Path) -> None:
    deb = write_deb(symlink("out", "/outside/precious"), hard_link("mine", "out"))
    with pytest.raises(UserError, match="not a file"):
        unpack_deb(deb, into)


def test_a_hard_link_to_itself_or_to_nothing_is_refused(write_deb: WriteDeb, into: Path) -> None:
    with pytest.raises(UserError, match="which it lacks"):
        unpack_deb(write_deb(hard_link("a", "a")), into)
    with pytest.raises(UserError, match="to itself"):
        unpack_deb(write_deb(tar_member("a", b"1"), hard_link("a", "./a")), into)
    assert (into / "a").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.CHRTYPE, "character device"),
        (tarfile.BLKTYPE, "block device"),
        (tarfile.FIFOTYPE, "named pipe"),
        (tarfile.GNUTYPE_SPARSE, "sparse file"),
        (b"M", "of type"),
    ],
)
def test_what_is_neither_file_nor_folder_nor_link_is_refused(
    kind: bytes, what: str, write_deb: WriteDeb, into: Path
) -> None:
    with pytest.raises(UserError, match=what):
        unpack_deb(write_deb(tar_member("odd", kind=kind)), into)
    assert not (into / "odd").exists()


def test_a_loop_of_symlinks_ends(write_deb: WriteDeb, into: Path) -> None:
    deb = write_deb(symlink("a", "b"), symlink("b", "a"), tar_member("a/x", b""))
    with pytest.raises(UserError, match="loop of symlinks"):
        unpack_deb(deb, into)


@pytest.mark.parametrize(
    "members",
    [
        [tar_member("f", b""), tar_member("f/below", b"")],
        [tar_member("f", b""), folder("f")],
        [folder("d"), tar_member("d", b"")],
        [tar_member("n" * 300, b"")],
        [tar_member("/".join(["d" * 200] * 30), b"")],
        [symlink("empty", "")],
        [symlink("long", "t" * 5000)],
    ],
    ids=["below a file", "file to folder", "folder to file", "name", "path", "empty", "target"],
)
def test_what_the_file_system_cannot_hold_is_our_error(
    members: list[tuple[tarfile.TarInfo, bytes]], write_deb: WriteDeb, into: Path
) -> None:
    with pytest.raises(UserError, match=r"sample\.deb"):
        unpack_deb(write_deb(*members), into)


# Damage


def test_another_file_is_not_a_package(tmp_path: Path) -> None:
    path = tmp_path / "x.deb"
    for data in (b"", b"hello", b"\x7fELF" + bytes(100), b"!<arch>\n"):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"x\.deb: not a Debian package"):
            unpack_deb(path, tmp_path / "into")
    with pytest.raises(UserError, match="cannot be read"):
        read_control(tmp_path / "none.deb")
    with pytest.raises(UserError, match="cannot be read"):
        read_control(tmp_path)


def test_an_archive_of_objects_is_not_a_package(tmp_path: Path) -> None:
    path = tmp_path / "libx.a"
    path.write_bytes(fake.AR_MAGIC + fake.ar_member("x.o/", b"\x7fELF"))
    with pytest.raises(UserError, match="archive of another kind"):
        read_control(path)


@pytest.mark.parametrize("compress", [True, False])
def test_a_package_cut_anywhere_says_so_and_writes_nothing_outside(
    compress: bool, write_deb: WriteDeb, into: Path
) -> None:
    deb = write_deb(
        folder("./usr"),
        tar_member("./usr/a", b"a" * 700),
        symlink("./l", "usr/a"),
        compress=compress,
    )
    whole = deb.read_bytes()
    step = 1 if compress else 13
    for length in range(0, len(whole), step):
        deb.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"sample\.deb"):
            unpack_deb(deb, into)
        with contextlib.suppress(HarnessError):
            read_control(deb)


def test_an_archive_without_its_end_mark_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(fake.tar(tar_member("a", b"1"), end=False))
    with pytest.raises(UserError, match="truncated"):
        unpack_tar(path, tmp_path / "into")


def test_a_damaged_header_in_the_middle_is_not_the_end(tmp_path: Path) -> None:
    whole = bytearray(fake.tar(tar_member("a", b"1"), tar_member("b", b"2")))
    whole[1024 + 5] ^= 0xFF
    path = tmp_path / "x.tar"
    path.write_bytes(bytes(whole))
    with pytest.raises(UserError, match="header"):
        unpack_tar(path, tmp_path / "into")


def test_a_package_without_control_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.deb"
    start = fake.AR_MAGIC + fake.ar_member("debian-binary", b"2.0\n")
    path.write_bytes(start + fake.ar_member("control.tar", fake.tar(tar_member("md5sums", b""))))
    with pytest.raises(UserError, match="no control file"):
        read_control(path)
    with pytest.raises(UserError, match=r"no data\.tar"):
        unpack_deb(path, tmp_path / "into")


@given(st.binary(max_size=400))
def test_any_bytes_after_the_magic_are_members_or_our_error(rest: bytes) -> None:
    data = fake.AR_MAGIC + rest
    try:
        members = read_ar(io.BytesIO(data), name="x")
    except UserError:
        return
    assert all(member.offset + member.size_b <= len(data) for member in members)


@given(
    st.lists(
        st.tuples(st.text("abcdefghijklmnop.-_", min_size=1, max_size=15), st.binary(max_size=50)),
        max_size=8,
    )
)
def test_members_come_back_as_they_were_written(written: list[tuple[str, bytes]]) -> None:
    data = fake.AR_MAGIC + b"".join(fake.ar_member(name, body) for name, body in written)
    members = read_ar(io.BytesIO(data), name="x")
    assert [
        (member.name, data[member.offset : member.offset + member.size_b]) for member in members
    ] == written


@given(st.text(max_size=300))
def test_any_control_text_is_read(text: str) -> None:
    assert all(isinstance(value, str) for value in parse_control(text).values())
