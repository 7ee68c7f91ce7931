"""Kernels and trees as people name them, and what they hear when they name something else."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.host.cache import Cache
from harness.kernel.modules import boot_modules
from harness.kernel.named import named_arch, named_kernel, named_source
from harness.model.arch import Arch
from harness.model.errors import UserError
from harness.model.events import Event
from harness.model.kernel import KernelArtifact
from harness.vm.arches import load_arch
from tests.fakes import kernels
from tests.fakes import packages as fake
from tests.fakes.package_source import Shelf

RELEASE = "6.1.0-x"
SPECS = [load_arch(arch) for arch in Arch]
BOTH = pytest.mark.parametrize("arch", list(Arch))
Name = Callable[[object], KernelArtifact]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def name(cache: Cache) -> Name:
    """Names a kernel for x86_64."""

    def name_kernel(text: object) -> KernelArtifact:
        return named_kernel(str(text), SPECS[0], cache, silent)

    return name_kernel


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "bzImage"
    path.write_bytes(kernels.bzimage(RELEASE))
    return path


def silent(_: Event) -> None:
    pass


def config(folder: Path, kernel_arch: str = "x86") -> Path:
    path = folder / ".config"
    path.write_text(kernels.CONFIG.format(kernel_arch=kernel_arch))
    return path


def unpacked(root: Path, arch: Arch = Arch.X86_64, release: str = RELEASE) -> Path:
    kernels.module_tree(root, release, kernels.VIRTIO)
    (root / "boot").mkdir(exist_ok=True)
    (root / "boot" / f"vmlinuz-{release}").write_bytes(kernels.image_of(arch, release))
    text = kernels.CONFIG.format(kernel_arch=load_arch(arch).kernel_arch)
    (root / "boot" / f"config-{release}").write_text(text)
    return root


def test_an_image_alone_is_a_kernel(name: Name, image: Path) -> None:
    kernel = name(image)
    assert (kernel.release, kernel.modules, kernel.config) == (RELEASE, None, None)
    assert kernel.image == image
    assert kernel.btf is not None
    assert kernel.provenance.kind == "paths"
    assert len(kernel.provenance.sha256) == 64


def test_an_image_that_carries_its_config_has_one(name: Name, tmp_path: Path) -> None:
    path = tmp_path / "bzImage"
    path.write_bytes(kernels.bzimage(RELEASE, config=b"CONFIG_BPF=y\n"))
    kernel = name(path)
    assert kernel.config is not None
    assert kernel.config.read_bytes() == b"CONFIG_BPF=y\n"


@pytest.mark.parametrize("place", [f"lib/modules/{RELEASE}", "lib/modules", "."])
def test_modules_are_found_from_each_folder_above_them(
    name: Name, image: Path, tmp_path: Path, place: str
) -> None:
    folder = kernels.module_tree(tmp_path / "root", RELEASE, kernels.VIRTIO)
    kernel = name(f"{image}, {tmp_path / 'root' / place}, {config(tmp_path)}")
    assert kernel.modules == folder
    assert kernel.config == tmp_path / ".config"
    assert len(boot_modules(kernel)) == 4


def test_a_config_without_modules_is_named_with_an_empty_place(
    name: Name, image: Path, tmp_path: Path
) -> None:
    kernel = name(f"{image},,{config(tmp_path)}")
    assert (kernel.modules, kernel.config) == (None, tmp_path / ".config")


@BOTH
def test_a_folder_that_a_package_was_unpacked_to(arch: Arch, cache: Cache, tmp_path: Path) -> None:
    root = unpacked(tmp_path / "root", arch)
    kernel = named_kernel(str(root), load_arch(arch), cache, silent)
    assert (kernel.arch, kernel.release) == (arch, RELEASE)
    assert kernel.modules == root / "lib/modules" / RELEASE
    assert kernel.config == root / "boot" / f"config-{RELEASE}"
    assert named_arch(str(root), SPECS, cache) is arch


def test_a_folder_of_an_rpm_has_the_image_among_the_modules(name: Name, tmp_path: Path) -> None:
    folder = kernels.module_tree(tmp_path, RELEASE, kernels.VIRTIO)
    (folder / "vmlinuz").write_bytes(kernels.bzimage(RELEASE))
    (folder / "config").write_text(kernels.CONFIG.format(kernel_arch="x86_64"))
    kernel = name(tmp_path)
    assert (kernel.release, kernel.config) == (RELEASE, folder / "config")


@BOTH
def test_a_folder_that_a_kernel_was_built_in(arch: Arch, cache: Cache, tmp_path: Path) -> None:
    spec = load_arch(arch)
    boot = tmp_path / "arch" / spec.kernel_arch / "boot"
    boot.mkdir(parents=True)
    (boot / spec.image_names[0]).write_bytes(kernels.image_of(arch, RELEASE))
    config(tmp_path, spec.kernel_arch)
    for file in ("Makefile", "modules.order", "Module.symvers", "vmlinux"):
        (tmp_path / file).touch()
    module = tmp_path / "drivers/virtio/virtio_pci.ko"
    module.parent.mkdir(parents=True)
    module.write_bytes(fake.module("virtio_pci", vermagic=f"{RELEASE} SMP "))
    kernel = named_kernel(str(tmp_path), spec, cache, silent)
    assert kernel.provenance.kind == "build"
    assert (kernel.vmlinux, kernel.symvers) == (tmp_path / "vmlinux", tmp_path / "Module.symvers")
    assert boot_modules(kernel, ["virtio_pci"]) == (module,)
    assert named_arch(str(tmp_path), SPECS, cache) is arch


def test_a_folder_where_nothing_was_built_yet(name: Name, tmp_path: Path) -> None:
    config(tmp_path)
    (tmp_path / "Makefile").touch()
    with pytest.raises(UserError, match=r"no kernel was built here: no .*/bzImage and no"):
        name(tmp_path)


@BOTH
def test_a_package_file(arch: Arch, cache: Cache, tmp_path: Path) -> None:
    spec = load_arch(arch)
    files: dict[str, bytes | str] = {f"boot/vmlinuz-{RELEASE}": kernels.image_of(arch, RELEASE)}
    deb = Shelf(tmp_path).add("linux-image-x", "1.2-3", spec.debian_arch, files)
    kernel = named_kernel(str(deb), spec, cache, silent)
    assert kernel.provenance.name == "linux-image-x"
    assert kernel.provenance.version == "1.2-3"
    assert named_arch(str(deb), SPECS, cache) is arch


def test_an_efi_zboot_image_is_taken_out_of_its_container(cache: Cache, tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz.efi"
    path.write_bytes(kernels.zboot(RELEASE))
    kernel = named_kernel(str(path), load_arch(Arch.AARCH64), cache, silent)
    assert kernel.image.read_bytes() == kernels.image(RELEASE)


def test_a_gzipped_image_is_booted_as_it_is(cache: Cache, tmp_path: Path) -> None:
    path = tmp_path / "Image.gz"
    path.write_bytes(gzip.compress(kernels.image(RELEASE)))
    assert named_kernel(str(path), load_arch(Arch.AARCH64), cache, silent).image == path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a kernel: ''"),
        ("a,b,c,d", "not a kernel: 'a,b,c,d'"),
        ("/nowhere/bzImage", "no such kernel: /nowhere/bzImage"),
        ("{image},/nowhere", "no such modules: /nowhere"),
        ("{image},,/nowhere", "no such config: /nowhere"),
        ("{image},{image}", "not a folder of modules"),
        ("{image},{tmp}/empty", "no modules in it"),
        ("{image},,{tmp}", "not a file"),
        ("{tmp}/empty", "holds no kernel image"),
        ("{tmp}/empty,{tmp}", "a folder, where a kernel image was expected"),
        ("{tmp}/x.rpm", "RPM packages cannot be read yet"),
        ("{tmp}/x.deb", "not a Debian package"),
        ("{tmp}/.config", "not a kernel image; it looks like a text file"),
    ],
)
def test_each_mistake_is_told_with_its_value_and_what_to_do(
    name: Name, image: Path, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "empty").mkdir()
    for file in ("x.rpm", "x.deb"):
        (tmp_path / file).write_text("nothing\n")
    config(tmp_path)
    with pytest.raises(UserError) as caught:
        name(text.format(image=image, tmp=tmp_path))
    assert words in str(caught.value)
    assert caught.value.hint


def test_a_kernel_of_the_other_architecture_is_refused(name: Name, tmp_path: Path) -> None:
    path = tmp_path / "Image"
    path.write_bytes(kernels.image(RELEASE))
    with pytest.raises(UserError, match=r"a kernel for aarch64, and x86_64 was asked") as caught:
        name(path)
    assert "--arch aarch64" in caught.value.hint


def test_a_package_of_the_other_architecture_is_refused_before_it_is_unpacked(
    name: Name, tmp_path: Path, cache: Cache
) -> None:
    deb = Shelf(tmp_path).add("linux-image-x", "1", "arm64", {"boot/vmlinuz-x": "no kernel"})
    with pytest.raises(UserError, match="a package for arm64, and amd64"):
        name(deb)
    assert not (cache.root / "kernel").exists()


def test_a_package_without_a_kernel_leaves_nothing_in_the_cache(
    name: Name, tmp_path: Path, cache: Cache
) -> None:
    deb = Shelf(tmp_path).add("linux-image-amd64", "1", "amd64", {})
    with pytest.raises(UserError, match="holds no kernel image") as caught:
        name(deb)
    assert "metapackage" in caught.value.hint
    assert not [path for path in (cache.root / "kernel").iterdir() if path.is_dir()]


def test_modules_of_another_build_are_refused(name: Name, image: Path, tmp_path: Path) -> None:
    folder = kernels.module_tree(tmp_path, "6.1.0-y", kernels.VIRTIO)
    with pytest.raises(UserError, match=r"modules for 6\.1\.0-y, and .* is 6\.1\.0-x"):
        name(f"{image},{folder}")


def test_a_config_of_the_other_architecture_is_refused(
    name: Name, image: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="the config of a kernel for arm64, not x86_64"):
        name(f"{image},,{config(tmp_path, 'arm64')}")


def test_a_folder_with_two_kernels_is_refused(name: Name, tmp_path: Path) -> None:
    unpacked(tmp_path)
    unpacked(tmp_path, release="6.1.0-y")
    with pytest.raises(UserError, match=r"more than one kernel: 6\.1\.0-x, 6\.1\.0-y"):
        name(tmp_path)


def test_a_vmlinux_is_not_what_qemu_boots(name: Name, tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(kernels.vmlinux(RELEASE))
    with pytest.raises(UserError, match="QEMU boots bzImage") as caught:
        name(path)
    assert "arch/x86/boot/bzImage" in caught.value.hint


def source_tree(root: Path) -> Path:
    bpf = root / "tools/testing/selftests/bpf"
    bpf.mkdir(parents=True)
    (root / "Makefile").write_text("VERSION = 5\nPATCHLEVEL = 14\nSUBLEVEL = 0\nEXTRAVERSION =\n")
    (bpf / "Makefile").touch()
    (bpf / "test_progs.c").write_text("int main;\n")
    return root


def test_a_source_tree_is_known_by_its_selftests(cache: Cache, tmp_path: Path) -> None:
    root = source_tree(tmp_path)
    tree = named_source(root, cache, silent)
    assert (tree.path, tree.version) == (root, "5.14.0")
    bpf = root / "tools/testing/selftests/bpf"
    for made in ("test_progs", "test_progs.o", "a.skel.h", "tools/include/vmlinux.h"):
        (bpf / made).parent.mkdir(parents=True, exist_ok=True)
        (bpf / made).write_text("made by a build\n")
    assert named_source(root, cache, silent) == tree
    (bpf / "test_progs.c").write_text("int changed;\n")
    assert named_source(root, cache, silent).sha256 != tree.sha256


@pytest.mark.parametrize(
    ("drop", "words"),
    [
        ("Makefile", "not a kernel source tree: its Makefile cannot be read"),
        ("tools/testing/selftests/bpf/Makefile", "has no tools/testing/selftests/bpf"),
    ],
)
def test_what_is_no_source_tree_is_told(
    cache: Cache, tmp_path: Path, drop: str, words: str
) -> None:
    root = source_tree(tmp_path)
    (root / drop).unlink()
    with pytest.raises(UserError, match=words):
        named_source(root, cache, silent)


def test_a_tree_that_is_not_there_is_told(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        named_source(tmp_path / "gone", cache, silent)
