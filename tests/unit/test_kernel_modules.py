"""Modules: load order, what is missing, and indexes that are depmod's own byte for byte."""

import contextlib
import gzip
import lzma
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.kernel.kmod_index import index_files, normal_alias, trie
from harness.kernel.modinfo import read_info
from harness.kernel.modules import (
    boot_modules,
    guest_modules,
    has_module,
    modprobe_files,
    module_closure,
    module_tree,
)
from harness.model.arch import Arch
from harness.model.errors import KernelError, UserError
from harness.model.kernel import KernelArtifact, Provenance
from harness.packages.elf import module_info
from tests.fakes import kernels
from tests.fakes import packages as fake

RELEASE = "6.1.0"
CORPUS = Path(__file__).parent.parent / "corpus" / "kernel" / "depmod"


def kernel(modules: Path | None) -> KernelArtifact:
    return KernelArtifact(
        arch=Arch.X86_64,
        release=RELEASE,
        image=Path("/vmlinuz"),
        modules=modules,
        config=None,
        btf=None,
        provenance=Provenance(kind="paths", name="", version="", sha256=""),
    )


def names(files: tuple[Path, ...]) -> list[str]:
    return [path.name for path in files]


def write(folder: Path, path: str, **fields: str | tuple[str, ...]) -> None:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(fake.module(file.name.split(".")[0].replace("-", "_"), **fields))


def test_what_a_module_needs_is_loaded_before_it(tmp_path: Path) -> None:
    folder = kernels.module_tree(tmp_path, RELEASE, kernels.VIRTIO)
    assert names(boot_modules(kernel(folder))) == [
        "virtio_ring.ko",
        "virtio.ko",
        "virtio_pci.ko",
        "virtio_console.ko",
    ]


def test_what_is_built_in_is_not_loaded(tmp_path: Path) -> None:
    needs = {"kernel/drivers/char/virtio_console.ko": "virtio_ring,virtio"}
    builtin = ("kernel/drivers/virtio/virtio_pci.ko", "k/virtio.ko", "k/virtio-ring.ko")
    folder = kernels.module_tree(tmp_path, RELEASE, needs, *builtin)
    assert names(boot_modules(kernel(folder))) == ["virtio_console.ko"]
    assert has_module(kernel(folder), "virtio-pci") is True
    assert has_module(kernel(folder), "ext4") is False


def test_a_wanted_module_that_is_nowhere_is_the_kernels_fault(tmp_path: Path) -> None:
    folder = kernels.module_tree(tmp_path, RELEASE, kernels.VIRTIO)
    with pytest.raises(KernelError, match=r"no virtio_scsi: neither built in nor a module"):
        boot_modules(kernel(folder), ["virtio_pci", "virtio_scsi"])
    assert guest_modules(kernel(folder), ["virtio_scsi", "virtio"]) == (
        folder / "kernel/drivers/virtio/virtio_ring.ko",
        folder / "kernel/drivers/virtio/virtio.ko",
    )


def test_a_dependency_that_is_nowhere_is_the_kernels_fault(tmp_path: Path) -> None:
    folder = kernels.module_tree(tmp_path, RELEASE, {"kernel/a.ko": "gone"})
    with pytest.raises(KernelError, match=r"a\.ko: needs the module gone"):
        boot_modules(kernel(folder), ["a"])


def test_a_kernel_without_modules_has_nothing_to_load() -> None:
    assert boot_modules(kernel(None)) == ()
    assert guest_modules(kernel(None)) == ()
    assert has_module(kernel(None), "ext4") is None
    assert "lib/modules/6.1.0/modules.dep.bin" in modprobe_files(kernel(None), ())


def test_soft_dependencies_come_along_when_they_are_there(tmp_path: Path) -> None:
    write(tmp_path, "kernel/a.ko", softdep=("pre: b gone post: c",), depends="d")
    for name in "bcd":
        write(tmp_path, f"kernel/{name}.ko")
    closure = module_closure(module_tree(tmp_path), ["a"])
    assert names(closure.files) == ["d.ko", "b.ko", "a.ko", "c.ko"]
    assert names(module_closure(module_tree(tmp_path), ["a"], softly=False).files) == [
        "d.ko",
        "a.ko",
    ]


def test_circles_of_dependencies_end(tmp_path: Path) -> None:
    write(tmp_path, "kernel/a.ko", softdep="pre: b", depends="c")
    write(tmp_path, "kernel/b.ko", softdep="pre: a")
    write(tmp_path, "kernel/c.ko", depends="a")
    closure = module_closure(module_tree(tmp_path), ["b"])
    assert sorted(names(closure.files)) == ["a.ko", "b.ko", "c.ko"]


def test_an_update_replaces_the_kernels_own(tmp_path: Path) -> None:
    for place in ("kernel", "extra", "updates"):
        write(tmp_path, f"{place}/a.ko")
    assert module_tree(tmp_path).files["a"] == tmp_path / "updates/a.ko"


def test_links_and_the_tools_of_a_build_are_no_modules(tmp_path: Path) -> None:
    write(tmp_path, "tools/testing/bpf_testmod.ko")
    (tmp_path / "weak.ko").symlink_to("/lib/modules/other/weak.ko")
    assert not module_tree(tmp_path).files


def test_a_damaged_module_is_named(tmp_path: Path) -> None:
    write(tmp_path, "kernel/a.ko")
    (tmp_path / "kernel/a.ko").write_bytes(b"\x7fELF" + bytes(20))
    with pytest.raises(UserError, match=r"kernel/a\.ko"):
        module_closure(module_tree(tmp_path), ["a"])


@pytest.mark.parametrize("pack", [bytes, lzma.compress, gzip.compress])
def test_the_quick_reader_says_what_the_elf_reader_says(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "crc32c-intel.ko"
    path.write_bytes(pack(fake.module("crc32c_intel", depends="a,b-c", alias=("x", "y"))))
    assert read_info(path) == module_info(path)


@given(at=st.integers(0, 1200), junk=st.binary(min_size=1, max_size=9), cut=st.integers(0, 1200))
def test_a_damaged_module_is_read_as_the_elf_reader_does_or_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, junk: bytes, cut: int
) -> None:
    data = fake.module("a", depends="b")
    path = tmp_path_factory.getbasetemp() / "damaged.ko"
    data = data[:at] + junk + data[at + len(junk) :]
    path.write_bytes(data[: len(data) - cut])
    with contextlib.suppress(UserError):
        read_info(path)


def corpus_tree(folder: Path) -> None:
    """What depmod was run on; see tests/corpus/kernel/depmod/README.md."""
    write(folder, "kernel/fs/btrfs/btrfs.ko", depends="xor,raid6_pq", alias="fs-btrfs")
    write(folder, "kernel/crypto/xor.ko")
    write(folder, "kernel/lib/raid6_pq.ko")
    write(folder, "kernel/net/fou6.ko", depends="fou", softdep="pre: xor-blocks post: mpls-gso")
    write(folder, "kernel/net/fou.ko", alias=("rtnl-link-fou", "fs-btrfs"))
    aliases = ("pci:v00008086d0000105Esv*sd*bc*sc*i*", "cpu:type:x86,ven*fam*mod*:feature:*[A-Z]*")
    write(folder, "kernel/drivers/e1000e.ko.xz", alias=aliases)
    path = folder / "kernel/drivers/e1000e.ko.xz"
    path.rename(path.with_suffix(""))  # the guest gets it decompressed
    order = ("net/fou6", "net/fou", "lib/raid6_pq", "fs/btrfs/btrfs", "crypto/xor", "gone")
    (folder / "modules.order").write_text("".join(f"kernel/{name}.ko\n" for name in order))
    (folder / "modules.builtin").write_text("kernel/net/unix.ko\nkernel/fs/ext4/ext4.ko\n")
    modinfo = b"unix.license=GPL\0unix.alias=net-pf-1\0ext4.alias=fs-ext3\0ext4.file=x\0"
    (folder / "modules.builtin.modinfo").write_bytes(modinfo)


def corpus_indexes(folder: Path) -> Mapping[str, bytes]:
    corpus_tree(folder)
    made = modprobe_files(kernel(folder), module_tree(folder).files.values())
    return {name.rpartition("/")[2]: data for name, data in made.items()}


@pytest.mark.parametrize("name", ["modules.alias", "modules.softdep"])
def test_the_texts_are_depmods_own(tmp_path: Path, name: str) -> None:
    made = corpus_indexes(tmp_path)[name].decode()
    assert made == (CORPUS / f"{name}.txt").read_text()


@pytest.mark.parametrize(
    "name", ["modules.alias.bin", "modules.builtin.bin", "modules.builtin.alias.bin"]
)
def test_the_tries_are_depmods_own(tmp_path: Path, name: str) -> None:
    expected = bytes.fromhex((CORPUS / f"{name}.hex").read_text())
    assert corpus_indexes(tmp_path)[name] == expected


def test_modprobe_loads_what_a_line_names_last_first(tmp_path: Path) -> None:
    folder = kernels.module_tree(tmp_path, RELEASE, kernels.VIRTIO)
    made = modprobe_files(kernel(folder), boot_modules(kernel(folder)))
    lines = made[f"lib/modules/{RELEASE}/modules.dep"].decode().splitlines()
    assert lines[-2:] == [
        "kernel/drivers/virtio/virtio_pci.ko: "
        "kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko",
        "kernel/drivers/virtio/virtio_ring.ko:",
    ]
    trie_bytes = made[f"lib/modules/{RELEASE}/modules.dep.bin"]
    assert sorted(value for _, value in TrieReader(trie_bytes).items()) == sorted(lines)


class TrieReader:
    """Looks up as libkmod does, apart from the writer."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        magic, version, self.root = struct.unpack_from(">III", data)
        assert (magic, version) == (0xB007F457, 0x00020001)

    def node(self, offset: int) -> tuple[bytes, Mapping[int, int], list[bytes]]:
        at, prefix, children, values = offset & 0x0FFFFFFF, b"", {}, []
        if offset & 0x80000000:
            end = self.data.index(b"\0", at)
            prefix, at = self.data[at:end], end + 1
        if offset & 0x20000000:
            low, high = self.data[at], self.data[at + 1]
            count = high - low + 1
            places = struct.unpack_from(f">{count}I", self.data, at + 2)
            children = {low + i: place for i, place in enumerate(places) if place}
            at += 2 + 4 * count
        if offset & 0x40000000:
            (count,) = struct.unpack_from(">I", self.data, at)
            at += 4
            for _ in range(count):
                end = self.data.index(b"\0", at + 4)
                values.append(self.data[at + 4 : end])
                at = end + 1
        return prefix, children, values

    def items(self, offset: int | None = None, before: bytes = b"") -> Iterator[tuple[str, str]]:
        prefix, children, values = self.node(self.root if offset is None else offset)
        key = before + prefix
        yield from ((key.decode(), value.decode()) for value in values)
        for letter, place in children.items():
            yield from self.items(place, key + bytes((letter,)))


@given(
    st.lists(
        st.tuples(st.text("ab_:*[-", min_size=1, max_size=6), st.sampled_from(["x", "y", ""])),
        max_size=30,
    )
)
def test_a_trie_holds_what_was_put_in(entries: list[tuple[str, str]]) -> None:
    data = trie((key, value, number) for number, (key, value) in enumerate(entries))
    assert sorted(TrieReader(data).items()) == sorted(entries)


def test_dashes_are_underscores_but_not_in_brackets() -> None:
    assert normal_alias("a-b[0-9]-c") == "a_b[0-9]_c"


def test_an_alias_that_could_break_a_line_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "kernel/a.ko", alias=("ok", "two words", "x\ninstall y /bin/evil", "é"))
    files = modprobe_files(kernel(tmp_path), module_tree(tmp_path).files.values())
    assert files[f"lib/modules/{RELEASE}/modules.alias"] == b"alias ok a\n"
    assert list(TrieReader(files[f"lib/modules/{RELEASE}/modules.alias.bin"]).items()) == [
        ("ok", "a")
    ]


def test_without_modules_the_indexes_are_empty_and_there() -> None:
    files = index_files((), ())
    assert files["modules.dep"] == b""
    assert list(TrieReader(files["modules.dep.bin"]).items()) == []
