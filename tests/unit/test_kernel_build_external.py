"""A module of one tree against another kernel's headers, with a makefile that plays kbuild."""

from pathlib import Path

import pytest

from harness.host.cache import Cache
from harness.kernel.build_external import ExternalBuild, Misfit, build_external
from harness.model.arch import Arch
from harness.model.case import Outcome
from harness.model.errors import UserError
from harness.vm.arches import load_arch
from tests.fakes import kernel_trees

_MAKEFILE = """\
modules:
\t@echo '  CC [M]  $(M)/super.o'
\t@if grep -q BROKEN $(M)/super.c; then \\
\t  echo "$(M)/super.c:3:9: error: too few arguments to function bio_alloc()"; \\
\t  echo "$(M)/super.c:9:1: error: implicit declaration of function sync_inode()"; \\
\t  echo "make[1]: *** [/h/scripts/Makefile.build:255: $(M)/super.o] Error 1"; exit 2; fi
\t@if grep -q LINKLESS $(M)/super.c; then \\
\t  echo 'ERROR: modpost: "nosuch" [$(M)/btrfs.ko] undefined!'; \\
\t  echo "make[1]: *** [/h/scripts/Makefile.modpost:126: $(M)/Module.symvers] Error 1"; exit 2; fi
\t@cp $(dir $(firstword $(MAKEFILE_LIST)))btrfs.ko $(M)/btrfs.ko
"""
_KCONFIG = """\
config BTRFS_FS
\ttristate "btrfs"
\tselect XXHASH
\tselect RAID6 if BTRFS_FS_POSIX_ACL
config BTRFS_FS_POSIX_ACL
\tbool "acl"
config BTRFS_DEBUG
\tbool "debug"
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = kernel_trees.programs(tmp_path / "programs")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    tree = kernel_trees.kernel_tree(tmp_path / "linux")
    (tree / "fs/btrfs/Kconfig").write_text(_KCONFIG)
    (tree / "include/trace/events").mkdir(parents=True)
    (tree / "include/trace/events/btrfs.h").write_text("/* own */\n")
    return tree


@pytest.fixture
def headers(tmp_path: Path, tree: Path) -> Path:
    folder = tmp_path / "headers"
    folder.mkdir()
    (folder / "Makefile").write_text(_MAKEFILE)
    (folder / ".config").write_text("CONFIG_MODULES=y\nCONFIG_RAID6=m\nCONFIG_BTRFS_DEBUG=y\n")
    (folder / "btrfs.ko").write_bytes((tree / "made/btrfs.ko").read_bytes())
    return folder


def build(tree: Path, headers: Path, module: str = "fs/btrfs") -> ExternalBuild:
    cache = Cache(tree.parent / "cache")
    spec = load_arch(Arch.X86_64)
    return build_external(tree, module, headers, spec, cache, lambda event: None, jobs=2)


def test_a_module_that_fits_is_built_and_its_unset_selects_are_told(
    tree: Path, headers: Path
) -> None:
    built = build(tree, headers)
    assert [path.name for path in built.modules] == ["btrfs.ko"]
    assert [(str(item.case), item.outcome) for item in built.cases] == [
        ("build/kernel/btrfs.ko", Outcome.PASS)
    ]
    what = "CONFIG_XXHASH is not set, and CONFIG_BTRFS_FS selects it"
    assert built.misfits == (Misfit(kind="option", what=what),)


def test_its_own_options_and_headers_come_before_the_kernels(tree: Path, headers: Path) -> None:
    folder = build(tree, headers).modules[0].parent
    text = (folder / "Kbuild").read_text()
    assert text.startswith(f"NOSTDINC_FLAGS += -I{folder.parent}/include ")
    assert "override CONFIG_BTRFS_FS := m\n" in text
    assert "-DCONFIG_BTRFS_FS_POSIX_ACL=1\n" in text
    assert "-DCONFIG_BTRFS_DEBUG=1\n" in text  # as the kernel has it
    assert text.endswith("include $(src)/Kbuild.original\n")
    assert (folder.parent / "include/trace/events/btrfs.h").read_text() == "/* own */\n"


def test_each_interface_that_does_not_fit_is_told_with_its_place(tree: Path, headers: Path) -> None:
    (tree / "fs/btrfs/super.c").write_text("BROKEN\n")
    built = build(tree, headers)
    assert built.modules == ()
    assert built.cases[0].outcome is Outcome.FAIL
    assert built.cases[0].error.startswith("super.c:3:9: error: too few arguments")
    assert [(item.where, item.what[:12]) for item in built.misfits if item.kind == "interface"] == [
        ("btrfs/super.c:3", "too few argu"),
        ("btrfs/super.c:9", "implicit dec"),
    ]


def test_a_symbol_that_the_kernel_does_not_export_is_told(tree: Path, headers: Path) -> None:
    (tree / "fs/btrfs/super.c").write_text("LINKLESS\n")
    (misfit,) = (item for item in build(tree, headers).misfits if item.kind == "symbol")
    assert misfit.what == '"nosuch" [btrfs/btrfs.ko] undefined!'


@pytest.mark.parametrize("module", ["/etc", "../x", "fs/nosuch", ".", "init"])
def test_what_is_no_module_of_the_tree_is_refused(tree: Path, headers: Path, module: str) -> None:
    with pytest.raises(UserError):
        build(tree, headers, module)


def test_headers_without_a_config_are_refused(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no Makefile"):
        build(tree, tmp_path / "empty")
    (tmp_path / "empty/Makefile").touch()
    with pytest.raises(UserError, match="no config in it"):
        build(tree, tmp_path / "empty")
