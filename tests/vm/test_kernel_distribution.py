"""The real packages of the distribution: fetched once, a quarter of a gigabyte an architecture."""

import shutil
from pathlib import Path

import pytest

from harness.host.cache import Cache
from harness.host.command import run
from harness.host.paths import cache_root
from harness.kernel.btf import Btf, Kind
from harness.kernel.default import (
    distribution_headers,
    distribution_kernel,
    distribution_source,
)
from harness.kernel.modules import boot_modules, guest_modules, modprobe_files
from harness.kernel.preflight import check_bootable
from harness.model.arch import Arch
from harness.model.events import Event
from harness.model.kernel import KernelArtifact
from harness.packages.elf import elf_machine, module_info
from harness.vm.arches import load_arch

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="the packages are fetched by apt"),
    pytest.mark.parametrize("arch", list(Arch)),
]


@pytest.fixture(scope="module")
def cache() -> Cache:
    return Cache(cache_root())


def silent(_: Event) -> None:
    pass


@pytest.fixture
def kernel(arch: Arch, cache: Cache) -> KernelArtifact:
    return distribution_kernel(load_arch(arch), cache, silent)


def test_the_kernel_is_known_without_booting_it(arch: Arch, kernel: KernelArtifact) -> None:
    assert kernel.arch is arch
    assert kernel.btf is not None
    types = Btf(kernel.btf.read_bytes())
    assert {"bpf_prog_run_xdp", "vfs_read"} & types.names(Kind.FUNC)
    assert "task_struct" in types.names(Kind.STRUCT)
    assert len(kernel.build_id) == 40
    check_bootable(kernel)


def test_its_modules_are_indexed_for_the_guest(arch: Arch, kernel: KernelArtifact) -> None:
    boot = boot_modules(kernel)
    assert "virtio_pci" in {module_info(path).name for path in boot}
    assert elf_machine(boot[0]) == load_arch(arch).elf_machine
    both = (*boot, *guest_modules(kernel))
    lines = modprobe_files(kernel, both)[f"lib/modules/{kernel.release}/modules.dep"].splitlines()
    assert len(lines) == len(set(both)) > 100


def test_a_module_is_built_for_it_on_this_host(
    arch: Arch, kernel: KernelArtifact, cache: Cache, tmp_path: Path
) -> None:
    spec = load_arch(arch)
    compiler = shutil.which(f"{spec.gnu_triple}-gcc")
    if compiler is None or shutil.which("make") is None:
        pytest.skip(f"no {spec.gnu_triple}-gcc here")
    source = distribution_source(kernel, spec, cache, silent)
    headers = distribution_headers(kernel, spec, cache, silent)
    build = tmp_path / "bpf_testmod"
    shutil.copytree(source.path / "tools/testing/selftests/bpf/bpf_testmod", build)
    names = (f"ARCH={spec.kernel_arch}", f"CROSS_COMPILE={spec.gnu_triple}-")
    run(("make", "-C", str(headers), f"M={build}", *names, "modules"), timeout_s=300)
    built = build / "bpf_testmod.ko"
    assert module_info(built).vermagic.startswith(f"{kernel.release} ")
    assert elf_machine(built) == spec.elf_machine
