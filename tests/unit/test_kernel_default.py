"""The distribution's kernel, source and headers from packages as Debian makes them."""

import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.host.cache import Cache
from harness.kernel.default import (
    distribution_headers,
    distribution_kernel,
    distribution_source,
)
from harness.kernel.modules import boot_modules
from harness.kernel.named import named_kernel
from harness.model.arch import Arch
from harness.model.errors import RigError, UserError
from harness.model.events import Event, PhaseEnded
from harness.model.kernel import KernelArtifact
from harness.vm.arches import load_arch
from tests.fakes import kernels
from tests.fakes.package_source import Shelf

VERSION = "6.1.192-2"
DEBIAN = {Arch.X86_64: "amd64", Arch.AARCH64: "arm64"}
BOTH = pytest.mark.parametrize("arch", list(Arch))
_TREE = {
    "Makefile": "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 192\nEXTRAVERSION =\n",
    "Kbuild": "",
    "Kconfig": "",
    "arch/arm64/Makefile": "",
    "arch/arm64/include/asm/a.h": "a",
    "arch/x86/Makefile": "",
    "arch/x86/entry/syscalls/syscall_64.tbl": "",
    "arch/x86/include/asm/a.h": "",
    "arch/x86/lib/insn.c": "",
    "arch/x86/tools/relocs.c": "",
    "certs/Makefile": "",
    "Documentation/bpf/x.rst": "",
    "Documentation/other.rst": "not wanted",
    "drivers/net/a.c": "not wanted",
    "include/linux/a.h": "",
    "kernel/bpf/core.c": "",
    "kernel/bpf_not/core.c": "not wanted",
    "lib/vdso/a.c": "",
    "scripts/a.sh": "",
    "tools/testing/selftests/bpf/Makefile": "all:\n",
    "toolsmith/a": "not wanted",
    "usr/include/Makefile": "",
}


def source_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in _TREE.items():
            member = tarfile.TarInfo(f"linux-source-6.1/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return lzma.compress(buffer.getvalue())


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """A distribution with one kernel for each architecture, its headers and its source."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    shelf = Shelf(folder)
    for arch, debian in DEBIAN.items():
        release = f"6.1.0-56-{debian}"
        tree = kernels.module_tree(tmp_path / debian, release, kernels.VIRTIO)
        modules = {
            f"lib/modules/{release}/{path.relative_to(tree)}": path.read_bytes()
            for path in sorted(tree.rglob("*"))
            if path.is_file()
        }
        kernel_arch = load_arch(arch).kernel_arch
        files: dict[str, bytes | str] = {
            f"boot/vmlinuz-{release}": kernels.image_of(arch, release),
            f"boot/config-{release}": kernels.CONFIG.format(kernel_arch=kernel_arch),
            f"boot/System.map-{release}": "ffffffffffffffff B - see linux-image-dbg\n",
            "usr/share/doc/changelog": "not wanted",
            f"lib/modules/{release}/build": "->/usr/src/linux",
            **modules,
        }
        image = f"linux-image-{release}"
        shelf.add(image, VERSION, debian, files)
        shelf.add(f"linux-image-{debian}", VERSION, debian, {}, [image])
        add_headers(shelf, release, debian)
    common = {"usr/src/linux-headers-6.1.0-56-common/Makefile": "all:\n"}
    shelf.add("linux-headers-6.1.0-56-common", VERSION, "all", common)
    source = {"usr/src/linux-source-6.1.tar.xz": source_archive()}
    shelf.add("linux-source-6.1", VERSION, "all", source)
    shelf.add("linux-source-6.1", "6.1.193-1", "all", source)
    return shelf


def add_headers(shelf: Shelf, release: str, debian: str) -> None:
    name = f"linux-headers-{release}"
    files = {
        f"usr/src/{name}/Makefile": "include /usr/src/linux-headers-6.1.0-56-common/Makefile\n",
        f"usr/src/{name}/Module.symvers": "",
        f"usr/src/{name}/scripts": "->../../lib/linux-kbuild-6.1/scripts",
        f"lib/modules/{release}/build": f"->/usr/src/{name}",
    }
    depends = ["linux-headers-6.1.0-56-common", "linux-kbuild-6.1", "gcc-12"]
    shelf.add(name, VERSION, debian, files, depends)
    kbuild = {"usr/lib/linux-kbuild-6.1/scripts/made-for": debian}
    shelf.add("linux-kbuild-6.1", VERSION, debian, kbuild)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def silent(_: Event) -> None:
    pass


def kernel_of(arch: Arch, cache: Cache, shelf: Shelf) -> KernelArtifact:
    return distribution_kernel(load_arch(arch), cache, silent, open_source=shelf)


@BOTH
def test_the_newest_kernel_is_unpacked_and_known(arch: Arch, cache: Cache, shelf: Shelf) -> None:
    kernel = kernel_of(arch, cache, shelf)
    assert kernel.release == f"6.1.0-56-{DEBIAN[arch]}"
    assert kernel.arch is arch
    assert kernel.btf is not None
    assert kernel.btf.read_bytes() == kernels.SMALL_BTF
    assert kernel.build_id == kernels.BUILD_ID.hex()
    assert kernel.config is not None
    assert len(kernel.config_sha256) == 64
    assert (kernel.provenance.kind, kernel.provenance.version) == ("deb", VERSION)
    assert len(boot_modules(kernel)) == 4
    assert not list(cache.root.rglob("changelog"))


def test_a_second_time_nothing_is_unpacked(cache: Cache, shelf: Shelf) -> None:
    first = kernel_of(Arch.AARCH64, cache, shelf)
    events: list[Event] = []
    spec = load_arch(Arch.AARCH64)
    assert distribution_kernel(spec, cache, events.append, open_source=shelf) == first
    assert [event.phase for event in events if isinstance(event, PhaseEnded)] == ["fetch"]


def test_a_distribution_without_a_kernel_is_the_rigs_fault(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(RigError, match="no package linux-image-arm64"):
        kernel_of(Arch.AARCH64, cache, Shelf(tmp_path))


def test_the_source_is_of_the_kernels_own_version_and_shared(cache: Cache, shelf: Shelf) -> None:
    trees = [
        distribution_source(
            kernel_of(arch, cache, shelf), load_arch(arch), cache, silent, open_source=shelf
        )
        for arch in Arch
    ]
    assert trees[0] == trees[1]
    assert (trees[0].name, trees[0].version) == ("linux-source-6.1 6.1.192-2", "6.1.192")


@pytest.mark.parametrize("tools", ["as they are", "missing"])
def test_only_what_the_selftests_need_is_unpacked(
    cache: Cache, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tools: str
) -> None:
    kernel = kernel_of(Arch.X86_64, cache, shelf)
    if tools == "missing":
        monkeypatch.setenv("PATH", "")
    tree = distribution_source(
        kernel, load_arch(Arch.X86_64), cache, silent, open_source=shelf
    ).path
    unpacked = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    assert unpacked == {name for name, text in _TREE.items() if text != "not wanted"}


def test_a_source_of_another_version_is_not_taken(cache: Cache, shelf: Shelf) -> None:
    kernel = kernel_of(Arch.X86_64, cache, shelf)
    shelf.packages = [pair for pair in shelf.packages if pair[0].version != VERSION]
    with pytest.raises(UserError, match=r"no linux-source-6\.1 6\.1\.192-2 .* has 6\.1\.193-1"):
        distribution_source(kernel, load_arch(Arch.X86_64), cache, silent, open_source=shelf)


@BOTH
def test_headers_look_beside_themselves_and_their_scripts_run_on_the_host(
    arch: Arch, cache: Cache, shelf: Shelf, host: str
) -> None:
    kernel = kernel_of(arch, cache, shelf)
    folder = distribution_headers(kernel, load_arch(arch), cache, silent, open_source=shelf)
    include = (folder / "Makefile").read_text()
    assert include == (
        "include $(dir $(lastword $(MAKEFILE_LIST)))../linux-headers-6.1.0-56-common/Makefile\n"
    )
    assert (folder / "../linux-headers-6.1.0-56-common/Makefile").is_file()
    assert (folder / "scripts/made-for").read_text() == host


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return "amd64"


@pytest.mark.parametrize("ask", [distribution_source, distribution_headers])
def test_a_kernel_of_no_package_has_neither_source_nor_headers(
    ask: Callable[..., object], cache: Cache, tmp_path: Path
) -> None:
    image = tmp_path / "bzImage"
    image.write_bytes(kernels.bzimage("6.1.0-x"))
    spec = load_arch(Arch.X86_64)
    kernel = named_kernel(str(image), spec, cache, silent)
    with pytest.raises(UserError, match="is of no package") as caught:
        ask(kernel, spec, cache, silent, open_source=Shelf(tmp_path))
    assert "--source" in caught.value.hint
