"""The userland's closure, over packages made by hand."""

import os
import tarfile
from pathlib import Path

import pytest

from harness.guest.closure import Listing, Package, Sysroot, canonical, closure
from harness.guest.newc import digest_of_entries, tree_entries
from harness.guest.userland import listing_path, make_root
from harness.host.config import load_toml, parse_toml
from harness.model.arch import Arch
from harness.model.errors import UserError
from harness.vm.arches import load_arch
from tests.fakes.packages import deb, elf, symlink, tar, tar_member

SPEC = load_arch(Arch.X86_64)
LOADER = "/lib64/ld-linux-x86-64.so.2"
AARCH64 = 183

Member = tuple[tarfile.TarInfo, bytes]


def program(name: str, *needed: str, run_path: str = "", machine: int = 62) -> Member:
    data = elf({}, needed=needed, loader=LOADER, run_path=run_path, machine=machine)
    return tar_member(name, data, mode=0o755)


def library(name: str, *needed: str) -> Member:
    return tar_member(f"./lib/x86_64-linux-gnu/{name}", elf({}, needed=needed))


LIBC = (
    library("libc.so.6"),
    library("ld-linux-x86-64.so.2"),
    symlink("./lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
)


def root_of(tmp_path: Path, listing: Listing, *packages: tuple[Member, ...]) -> Path:
    tmp_path.mkdir(exist_ok=True)
    debs = []
    for number, members in enumerate(packages):
        debs.append(tmp_path / f"{number}.deb")
        debs[-1].write_bytes(deb(tar(*members), compress=False))
    make_root(debs, listing, SPEC, tmp_path / "root")
    return tmp_path / "root"


def listing(
    programs: tuple[str, ...] = (),
    libraries: tuple[str, ...] = (),
    files: tuple[str, ...] = (),
    links: dict[str, str] | None = None,
) -> Listing:
    package = Package(name="p", why="", programs=programs, libraries=libraries, files=files)
    return Listing(package=(package,), links=links or {})


def names_in(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()}


def test_a_program_brings_its_libraries_all_the_way_down_and_nothing_else(tmp_path: Path) -> None:
    root = root_of(
        tmp_path,
        listing(programs=("ip",)),
        (program("./bin/ip", "libelf.so.1", "libc.so.6"), program("./bin/other", "libc.so.6")),
        (
            symlink("./usr/lib/x86_64-linux-gnu/libelf.so.1", "libelf-0.188.so"),
            tar_member("./usr/lib/x86_64-linux-gnu/libelf-0.188.so", elf({}, needed=["libz.so.1"])),
            library("libz.so.1", "libc.so.6"),
            library("libunused.so.1"),
        ),
        LIBC,
    )
    assert names_in(root) == {
        "usr/bin/ip",
        "usr/lib/x86_64-linux-gnu/libelf.so.1",
        "usr/lib/x86_64-linux-gnu/libelf-0.188.so",
        "usr/lib/x86_64-linux-gnu/libz.so.1",
        "usr/lib/x86_64-linux-gnu/libc.so.6",
        "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        "usr/lib64/ld-linux-x86-64.so.2",
    }
    assert os.access(root / "usr/bin/ip", os.X_OK)
    assert (root / "lib64").readlink() == Path("usr/lib64")
    # What the guest's loader would follow, seen from the guest's root.
    assert (root / "lib64/ld-linux-x86-64.so.2").resolve().is_relative_to(root)


def test_links_bring_their_targets_from_the_other_side_of_a_merged_folder(tmp_path: Path) -> None:
    root = root_of(
        tmp_path,
        listing(programs=("insmod",), links={"usr/bin/im": "../sbin/insmod"}),
        (symlink("./sbin/insmod", "/bin/kmod"), program("./bin/kmod", "libc.so.6")),
        LIBC,
    )
    assert (root / "sbin/insmod").resolve() == root / "usr/bin/kmod"
    assert (root / "bin/im").resolve() == root / "usr/bin/kmod"


def test_a_library_beside_its_program_is_found_by_runpath(tmp_path: Path) -> None:
    private = tar_member("./usr/lib/tool/libown.so", elf({}))
    members = (program("./usr/bin/tool", "libown.so", run_path="$ORIGIN/../lib/tool"), private)
    root = root_of(tmp_path, listing(programs=("tool",)), members, LIBC)
    assert "usr/lib/tool/libown.so" in names_in(root)


def test_patterns_take_what_is_there_and_plain_names_must_be_there(tmp_path: Path) -> None:
    members = (library("xtables/libxt_tcp.so"), library("xtables/libxt_udp.so"))
    root = root_of(tmp_path, listing(libraries=("xtables/*.so", "none/*.so")), members)
    assert len(names_in(root)) == 2
    with pytest.raises(UserError, match=r"package p has no libxt_tcp\.so .*/usr/lib/x86_64"):
        root_of(tmp_path / "again", listing(libraries=("libxt_tcp.so",)), members)


def test_the_program_called_bracket_is_no_pattern(tmp_path: Path) -> None:
    root = root_of(tmp_path, listing(programs=("[",)), (program("./usr/bin/["),), LIBC)
    assert "usr/bin/[" in names_in(root)


def test_a_library_that_no_package_has_is_named_with_who_wants_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"/usr/bin/ip needs libmnl\.so\.0"):
        root_of(tmp_path, listing(programs=("ip",)), (program("./bin/ip", "libmnl.so.0"),), LIBC)


def test_a_program_of_another_architecture_is_refused(tmp_path: Path) -> None:
    members = (program("./bin/ip", machine=AARCH64),)
    with pytest.raises(UserError, match="for EM_AARCH64, not for EM_X86_64"):
        root_of(tmp_path, listing(programs=("ip",)), members, LIBC)


def test_a_link_without_a_target_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"usr/bin/sh"):
        root_of(tmp_path, listing(links={"usr/bin/sh": "bash"}), LIBC)


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/a").symlink_to("b")
    (tmp_path / "bin/b").symlink_to("a")
    assert closure(Sysroot(tmp_path, SPEC), ["usr/bin/a"]) == ("usr/bin/a", "usr/bin/b")


def test_the_same_packages_give_the_same_root(tmp_path: Path) -> None:
    packages = ((program("./bin/ip", "libc.so.6"),), LIBC)
    first = root_of(tmp_path / "one", listing(programs=("ip",)), *packages)
    second = root_of(tmp_path / "two", listing(programs=("ip",)), *reversed(packages))
    assert digest_of_entries(tree_entries(first)) == digest_of_entries(tree_entries(second))


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("/bin/sh", "usr/bin/sh"),
        ("lib/x/../y", "usr/lib/y"),
        ("lib64", "usr/lib64"),
        ("libexec/a", "libexec/a"),
        ("usr/lib/a", "usr/lib/a"),
        ("/../../etc/passwd", "etc/passwd"),
    ],
)
def test_a_path_has_one_name(name: str, same: str) -> None:
    assert canonical(name) == same


def test_the_listing_names_each_package_once_and_says_why() -> None:
    packages = load_toml(listing_path(), Listing).package
    assert len({package.name for package in packages}) == len(packages)
    for package in packages:
        assert package.why
        assert package.programs or package.libraries or package.files
        assert len(set(package.programs)) == len(package.programs)


def test_a_misspelled_key_of_the_listing_is_an_error() -> None:
    with pytest.raises(UserError, match="progams"):
        parse_toml('[[package]]\nname = "a"\nwhy = ""\nprogams = []\n', Listing, "listing")
