import gzip
import io
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from harness.guest.images import (
    BOOT_MODULES,
    base_segment,
    boot_list,
    initrd_for,
    modules_segment,
    tree_segment,
    write_initramfs,
)
from harness.guest.newc import Entry, read_newc
from harness.guest.userland import Userland
from harness.host.cache import Cache
from harness.model.arch import Arch
from harness.model.errors import RigError
from harness.model.kernel import KernelArtifact, Provenance

RELEASE = "6.1.0-test"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def land(tmp_path: Path) -> Userland:
    root = tmp_path / "land"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/true").write_text("true")
    (root / "bin").symlink_to("usr/bin")
    return Userland(root=root, sha256="")


@pytest.fixture
def kernel(tmp_path: Path) -> KernelArtifact:
    modules = tmp_path / "lib/modules" / RELEASE
    (modules / "kernel/drivers").mkdir(parents=True)
    (modules / "kernel/drivers/virtio.ko").write_text("virtio")
    (modules / "kernel/drivers/console.ko.gz").write_bytes(gzip.compress(b"console"))
    config = tmp_path / "config"
    config.write_text("CONFIG_BPF=y\n")
    return KernelArtifact(
        arch=Arch.X86_64,
        release=RELEASE,
        image=tmp_path / "vmlinuz",
        modules=modules,
        config=config,
        btf=None,
        provenance=Provenance(kind="paths", name="", version="", sha256=""),
    )


def content(archive: Path) -> Mapping[str, Entry]:
    return {entry.name: entry for entry in read_newc(io.BytesIO(archive.read_bytes()))}


def module_files(kernel: KernelArtifact) -> tuple[Path, ...]:
    assert kernel.modules is not None
    folder = kernel.modules / "kernel/drivers"
    return folder / "virtio.ko", folder / "console.ko.gz"


def test_the_base_has_what_init_needs_before_anything_is_mounted(
    land: Userland, cache: Cache
) -> None:
    base = content(base_segment(land, cache))
    assert base["dev/console"].device == (5, 1)
    assert stat.S_ISCHR(base["dev/kmsg"].mode)
    assert base["init"].data.startswith(b"#!/bin/busybox sh\n")
    assert stat.S_IMODE(base["init"].mode) == 0o755
    assert {"proc", "sys", "run", "tmp", "mnt", "usr/lib/harness/agent"} <= set(base)
    assert b"127.0.0.1 localhost" in base["etc/hosts"].data
    assert base["bin"].data == b"usr/bin"


def test_the_base_is_the_same_to_the_byte_whatever_the_times_and_the_order(
    land: Userland, tmp_path: Path
) -> None:
    first = base_segment(land, Cache(tmp_path / "one")).read_bytes()
    again = tmp_path / "again"
    for name in ("usr/bin/true", "bin"):
        (again / name).parent.mkdir(parents=True, exist_ok=True)
    (again / "bin").symlink_to("usr/bin")
    (again / "usr/bin/true").write_text("true")
    os.utime(again / "usr/bin/true", (1, 2))
    second = base_segment(replace(land, root=again), Cache(tmp_path / "two")).read_bytes()
    assert first == second


def test_modules_are_stored_decompressed_and_listed_in_their_order(
    kernel: KernelArtifact, cache: Cache
) -> None:
    files = module_files(kernel)
    texts: dict[str, str | bytes] = {BOOT_MODULES: boot_list(kernel, files)}
    texts["/lib/modules/x"] = b"\0"
    entries = content(modules_segment(kernel, files, texts, cache))
    drivers = f"usr/lib/modules/{RELEASE}/kernel/drivers"
    assert entries[f"{drivers}/console.ko"].data == b"console"
    assert entries[f"{drivers}/virtio.ko"].data == b"virtio"
    assert entries[BOOT_MODULES].data.decode() == f"/{drivers}/virtio.ko\n/{drivers}/console.ko\n"
    assert entries["usr/lib/modules/x"].data == b"\0"


def test_a_tree_never_replaces_the_links_of_the_root(tmp_path: Path, cache: Cache) -> None:
    # The kernel would remove the link `lib`, and with it the loader, for a folder of that name.
    (tmp_path / "tree/lib/modules").mkdir(parents=True)
    (tmp_path / "tree/lib/modules/a").write_text("a")
    names = set(content(tree_segment(tmp_path / "tree", "", cache)))
    assert names == {"usr", "usr/lib", "usr/lib/modules", "usr/lib/modules/a"}
    names = set(content(tree_segment(tmp_path / "tree", "/opt/tests/", cache)))
    assert "opt/tests/lib/modules/a" in names


def test_a_changed_tree_is_a_new_segment_and_an_unchanged_one_is_not(
    tmp_path: Path, cache: Cache
) -> None:
    (tmp_path / "tree").mkdir()
    file = tmp_path / "tree/a"
    file.write_text("1")
    first = tree_segment(tmp_path / "tree", "opt", cache)
    os.utime(file, (1, 1))
    assert tree_segment(tmp_path / "tree", "opt", cache) == first
    file.write_text("2")
    assert tree_segment(tmp_path / "tree", "opt", cache) != first


def test_an_initramfs_is_its_segments_in_order(tmp_path: Path) -> None:
    for name, size in (("a", 512), ("b", 3 << 20)):
        (tmp_path / name).write_bytes(name.encode() * size)
    write_initramfs([tmp_path / "a", tmp_path / "b", tmp_path / "a"], tmp_path / "all")
    a, b = (tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()
    assert (tmp_path / "all").read_bytes() == a + b + a


def test_a_disk_that_cannot_be_written_is_the_rigs_fault(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    with pytest.raises(RigError, match="cannot write"):
        write_initramfs([tmp_path / "a"], Path("/dev/full"))


def test_a_guests_initramfs_has_userland_modules_config_and_trees(
    land: Userland, kernel: KernelArtifact, cache: Cache, tmp_path: Path
) -> None:
    virtio, console = module_files(kernel)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_progs").write_text("x")
    trees = ((tmp_path / "tests", "/opt/tests"),)
    made = initrd_for(
        land, kernel, boot=[virtio], loadable=[console, virtio], trees=trees, cache=cache
    )
    entries = content(made)
    assert entries[f"boot/config-{RELEASE}"].data == b"CONFIG_BPF=y\n"
    assert entries[BOOT_MODULES].data.count(b"\n") == 1
    assert {"init", "opt/tests/test_progs", "usr/bin/true"} <= set(entries)
    assert f"usr/lib/modules/{RELEASE}/kernel/drivers/console.ko" in entries
    assert (
        initrd_for(land, kernel, boot=[virtio], loadable=[console], trees=trees, cache=cache)
        == made
    )


def test_a_kernel_without_modules_boots_too(
    land: Userland, kernel: KernelArtifact, cache: Cache
) -> None:
    entries = content(initrd_for(land, replace(kernel, modules=None), boot=(), cache=cache))
    assert entries[BOOT_MODULES].data == b""
