"""Parts of a kernel's build by themselves: owners of files, a tree's index, recipes, folders."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.host.cache import Cache
from harness.host.config import data_root
from harness.kernel.build_cases import Facts, cases_of
from harness.kernel.build_errors import Failure
from harness.kernel.build_install import built_modules
from harness.kernel.build_options import Owner, module_owner
from harness.kernel.build_source import missing_files
from harness.kernel.build_tools import find_tools, write_pahole
from harness.kernel.build_work import WorkFolder
from harness.kernel.kconfig import parse_wishes
from harness.kernel.recipe import load_recipe, release_suffix, wanted_of
from harness.kernel.tree_index import index_tree
from harness.kernel.vendor_config import vendor_wishes
from harness.model.arch import Arch
from harness.model.case import CaseId, Outcome
from harness.model.errors import UserError
from harness.vm.arches import load_arch
from tests.fakes import kernel_trees

_X86 = load_arch(Arch.X86_64)
_MAKEFILES = {
    # as in Linux 5.14
    "fs": "obj-$(CONFIG_BTRFS_FS)\t\t+= btrfs/\nobj-$(CONFIG_EXT4_FS) += ext4/\n",
    "fs/btrfs": (
        "obj-$(CONFIG_BTRFS_FS) := btrfs.o\n\nbtrfs-y += super.o ctree.o \\\n\t   inode.o\n"
        "btrfs-$(CONFIG_BTRFS_FS_POSIX_ACL) += acl.o\n"
    ),
    "fs/ext4": "obj-$(CONFIG_EXT4_FS) += ext4.o\next4-y := super.o\n",
    "drivers/block/null_blk": (
        "obj-$(CONFIG_BLK_DEV_NULL_BLK) += null_blk.o\nnull_blk-objs := main.o\n"
    ),
    "net": "obj-$(CONFIG_MAC80211) += mac80211/\n",
    "net/mac80211": "obj-$(CONFIG_OTHER) += other.o\nobj-y += odd/\n",
    "net/mac80211/odd": "",
    "lib": "obj-y += string.o\nobj-$(CONFIG_TEST_BPF) += test_bpf.o\n",
}
_CONFIG = {
    "BTRFS_FS": "m",
    "EXT4_FS": "y",
    "BLK_DEV_NULL_BLK": "m",
    "MAC80211": "m",
    "TEST_BPF": "m",
}


@pytest.mark.parametrize(
    ("target", "owner"),
    [
        ("fs/btrfs/inode.o", Owner(option="BTRFS_FS", modules=("btrfs",))),
        ("fs/btrfs/acl.o", Owner(option="BTRFS_FS", modules=("btrfs",))),
        ("fs/btrfs/btrfs.ko", Owner(option="BTRFS_FS", modules=("btrfs",))),
        ("fs/btrfs/btrfs.mod.o", Owner(option="BTRFS_FS", modules=("btrfs",))),
        ("drivers/block/null_blk/main.o", Owner(option="BLK_DEV_NULL_BLK", modules=("null_blk",))),
        ("lib/test_bpf.o", Owner(option="TEST_BPF", modules=("test_bpf",))),
        ("net/mac80211/odd/x.o", Owner(option="MAC80211", modules=())),
        ("fs/ext4/super.o", None),  # built in
        ("lib/string.o", None),
        ("vmlinux", None),
        ("init/main.o", None),
        ("/etc/passwd.o", None),
        ("../../x.o", None),
        ("", None),
    ],
)
def test_a_files_option_is_read_from_the_makefiles(target: str, owner: Owner | None) -> None:
    assert module_owner(target, _CONFIG, _MAKEFILES.get) == owner


@given(st.text(max_size=40))
def test_no_target_breaks_the_search_for_its_option(target: str) -> None:
    module_owner(target, _CONFIG, _MAKEFILES.get)


def red_hat_tree(root: Path) -> Path:
    """The configs of a tree as in 5.14.0-70.el9."""
    files = {
        "priority.rhel": (
            "# a comment=x\nORDER=common ark custom-overrides\nEMPTY=i686\n"
            "x86_64=generic:generic-x86:generic-x86-x86_64\naarch64=generic:generic-arm\n"
        ),
        "common/generic/CONFIG_BPF": "CONFIG_BPF=y\n",
        "common/generic/CONFIG_OF_RHEL": "# CONFIG_OF_RHEL is not set\n",
        "common/generic/CONFIG_BTRFS_FS": "# CONFIG_BTRFS_FS is not set\n",
        "common/generic/x86/x86_64/CONFIG_ONLY_X86": "CONFIG_ONLY_X86=m\n",
        "ark/generic/CONFIG_OF_RHEL": "CONFIG_OF_RHEL=y\n",
    }
    for name, text in files.items():
        path = root / "redhat/configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_vendors_release_is_put_together_as_its_spec_file_does(tmp_path: Path) -> None:
    assert release_suffix(tmp_path) == ""
    makefile = tmp_path / "Makefile.rhelver"
    text = "RHEL_MAJOR = 9\nRHEL_MINOR = 0\n# RHEL_RELEASE\nRHEL_RELEASE = 70.30.1\nZSTREAM = {}\n"
    makefile.write_text(text.format("yes"))
    assert release_suffix(tmp_path) == "-70.30.1.el9_0"
    makefile.write_text(text.format("no"))
    assert release_suffix(tmp_path) == "-70.30.1.el9"
    makefile.write_text("nothing\n")
    assert release_suffix(tmp_path) == ""


def test_all_recipes_and_their_lists_can_be_read(tmp_path: Path) -> None:
    recipes = sorted((data_root() / "configs/kernels/recipes").glob("*.toml"))
    assert {path.stem for path in recipes} >= {"small", "distribution"}
    for path in recipes:
        recipe = load_recipe(path.stem)
        for arch in Arch:
            wanted = wanted_of(recipe, red_hat_tree(tmp_path / path.stem), load_arch(arch))
            assert wanted.wishes
            assert set(recipe.modules.values()) <= wanted.wishes.keys()


def test_every_line_of_our_lists_is_a_wish_or_a_comment() -> None:
    for path in sorted((data_root() / "configs/kconfig").glob("*.config")):
        lines = path.read_text().splitlines()
        plain = [line for line in lines if line.startswith(("CONFIG_", "# CONFIG_"))]
        assert len(parse_wishes("\n".join(plain), "f")) == len(plain), f"{path}: one twice"
        others = [line for line in lines if line not in plain]
        assert all(not line or line.startswith("#") for line in others), path


def test_lists_of_the_red_hat_family_are_for_its_trees_only(tmp_path: Path) -> None:
    recipe = load_recipe("small")
    assert "RHEL_DIFFERENCES" not in wanted_of(recipe, tmp_path, _X86).wishes
    (tmp_path / "Kconfig.redhat").touch()
    assert wanted_of(recipe, tmp_path, _X86).wishes["RHEL_DIFFERENCES"].value == "y"


def test_the_trees_own_lists_count_for_their_architecture(tmp_path: Path) -> None:
    folder = tmp_path / "tools/testing/selftests/bpf"
    folder.mkdir(parents=True)
    for name in ("config", "config.x86_64", "config.aarch64", "config.vm"):
        (folder / name).write_text(f"CONFIG_{name.upper().replace('.', '_')}=y\n")
    wishes = wanted_of(load_recipe("small"), tmp_path, _X86).wishes
    assert {"CONFIG", "CONFIG_X86_64", "CONFIG_VM"} <= wishes.keys()
    assert "CONFIG_AARCH64" not in wishes


def test_a_shipped_config_is_put_together_in_the_vendors_order(tmp_path: Path) -> None:
    tree = red_hat_tree(tmp_path)
    values = {name: wish.value for name, wish in vendor_wishes(tree, _X86).items()}
    assert values == {"BPF": "y", "BTRFS_FS": "n", "ONLY_X86": "m", "OF_RHEL": "y"}
    assert "ONLY_X86" not in vendor_wishes(tree, load_arch(Arch.AARCH64))
    with pytest.raises(UserError, match="holds no config of a shipped kernel"):
        vendor_wishes(tmp_path / "elsewhere", _X86)


def test_an_unknown_recipe_names_those_that_there_are() -> None:
    with pytest.raises(UserError, match="no recipe 'nosuch'") as caught:
        load_recipe("nosuch")
    assert "small" in caught.value.hint


def test_what_is_no_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello\n")
    for path in (tmp_path / "x", tmp_path / "absent"):
        with pytest.raises(UserError, match=path.name):
            wanted_of(load_recipe("distribution"), tmp_path, _X86, path)


def test_a_tree_is_known_by_content_and_not_by_times(tmp_path: Path) -> None:
    tree, cache = kernel_trees.kernel_tree(tmp_path / "linux"), Cache(tmp_path / "cache")
    first = index_tree(tree, _X86, cache)
    (tree / "init/main.c").touch()
    assert index_tree(tree, _X86, cache).sha256 == first.sha256
    (tree / "init/main.c").write_text("int other;\n")
    assert index_tree(tree, _X86, cache).sha256 != first.sha256


def test_a_file_changed_behind_the_indexs_back_is_seen(tmp_path: Path) -> None:
    """Same size, same modification time: the inode's change time tells."""
    tree, cache = kernel_trees.kernel_tree(tmp_path / "linux"), Cache(tmp_path / "cache")
    file = tree / "init/main.c"
    os.utime(file, (1_000_000_000, 1_000_000_000))
    first = index_tree(tree, _X86, cache)
    file.write_text(file.read_text().swapcase())
    os.utime(file, (1_000_000_000, 1_000_000_000))
    assert index_tree(tree, _X86, cache).sha256 != first.sha256


def test_a_damaged_index_is_made_again(tmp_path: Path) -> None:
    tree, cache = kernel_trees.kernel_tree(tmp_path / "linux"), Cache(tmp_path / "cache")
    first = index_tree(tree, _X86, cache)
    (stored,) = (cache.root / "tree-index").iterdir()
    stored.write_bytes(b"\xc1 nonsense")
    assert index_tree(tree, _X86, cache) == first


def test_links_count_as_links_and_lead_nowhere(tmp_path: Path) -> None:
    tree, cache = kernel_trees.kernel_tree(tmp_path / "linux"), Cache(tmp_path / "cache")
    (tree / "scripts/outside").symlink_to("/")
    (tree / "scripts/broken").symlink_to("nosuch")
    first = index_tree(tree, _X86, cache)
    assert "scripts/outside" in first.marks
    (tree / "scripts/broken").unlink()
    (tree / "scripts/broken").symlink_to("elsewhere")
    assert index_tree(tree, _X86, cache).sha256 != first.sha256


def test_what_was_written_last_before_a_kill_is_made_again(tmp_path: Path) -> None:
    tree, cache = kernel_trees.kernel_tree(tmp_path / "linux"), Cache(tmp_path / "cache")
    index = index_tree(tree, _X86, cache)
    work = WorkFolder(tmp_path / "work")
    work.open(index)
    old, cut = work.out / "old.o", work.out / "fs/cut.o"
    cut.parent.mkdir()
    for path, time_s in ((old, 2_000_000_000), (cut, 2_000_000_100)):
        path.write_text("x")
        os.utime(path, (time_s, time_s))
    assert "interrupted" in WorkFolder(tmp_path / "work").open(index)
    assert old.exists()
    assert not cut.exists()


def test_modules_are_found_in_each_form_of_their_list(tmp_path: Path) -> None:
    for name in ("fs/btrfs/btrfs.ko", "kernel/test.ko", "lib/x.ko"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    order = "fs/btrfs/btrfs.o\nkernel/test.ko\nkernel/lib/x.ko\nnot/built.ko\n"
    (tmp_path / "modules.order").write_text(order)
    assert built_modules(tmp_path) == ("fs/btrfs/btrfs.ko", "kernel/test.ko", "lib/x.ko")
    assert built_modules(tmp_path / "nowhere") == ()


def _facts(**changes: object) -> Facts:
    known: dict[str, object] = {
        "required": (), "not_granted": (), "kernel_failures": (), "has_vmlinux": True,
        "has_image": True, "btf_problem": "", "modules": (), "lost_modules": {},
        "wanted_modules": {"btrfs": "BTRFS_FS"}, "builtin": (),
    }  # fmt: skip
    return Facts(**(known | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        (_facts(modules=("btrfs",)), Outcome.PASS),
        (_facts(builtin=("BTRFS_FS",)), Outcome.PASS),
        (_facts(lost_modules={"btrfs": "x.c:1:1: error: y"}), Outcome.FAIL),
        (_facts(), Outcome.NOT_BUILT),
        (_facts(has_vmlinux=False, has_image=False), Outcome.NOT_BUILT),
    ],
)
def test_a_module_that_is_asked_for_always_has_a_case(facts: Facts, outcome: Outcome) -> None:
    found = {item.case: item.outcome for item in cases_of(facts)}
    assert found[CaseId.parse("build/kernel/btrfs.ko")] is outcome


def test_an_image_that_failed_after_vmlinux_is_the_images_failure() -> None:
    failure = Failure(target="arch/x86/boot/bzImage", error="objcopy: no")
    facts = _facts(has_image=False, kernel_failures=(failure,))
    cases = {item.case.path[-1]: item for item in cases_of(facts)}
    assert cases["vmlinux"].outcome is Outcome.PASS
    assert (cases["image"].outcome, cases["image"].error) == (Outcome.FAIL, "objcopy: no")


@pytest.mark.parametrize(
    ("line", "added"),
    [
        ("-J --lang_exclude=rust .tmp_vmlinux.btf", True),
        ("--btf_encode_detached=x vmlinux", True),
        ("--version", False),
        ("-J", True),
    ],
)
def test_the_pahole_shim_adds_its_option_where_types_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, added: bool
) -> None:
    programs = kernel_trees.programs(tmp_path / "programs")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    tree = kernel_trees.kernel_tree(tmp_path / "linux")
    tools = find_tools(_X86, tree)
    shim = write_pahole(tmp_path, tools)
    (programs / "pahole").write_text('#!/bin/sh\necho "$@"\n')
    said = subprocess.run((shim, *line.split()), capture_output=True, text=True, check=True).stdout
    assert said.strip() == ("--skip_encoding_btf_enum64 " * added + line)


def test_files_that_a_checkout_lacks_are_named(tmp_path: Path) -> None:
    def git(*args: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(("git", "-C", tmp_path, *identity, *args), check=True, capture_output=True)

    for name in ("kept.c", "lost.c"):
        (tmp_path / name).write_text("x\n")
    assert missing_files(tmp_path) == ()  # no checkout
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "x")
    assert missing_files(tmp_path) == ()
    (tmp_path / "lost.c").unlink()
    assert missing_files(tmp_path) == ("lost.c",)
