"""The distribution's own repository, for both architectures. Slow and online: marked as the VMs."""

import shutil
from pathlib import Path

import pytest

from harness.host.cache import Cache
from harness.model.errors import RigError
from harness.packages import elf
from harness.packages.apt import AptState
from harness.packages.deb import read_control, unpack_deb

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="this host has no apt"),
]


@pytest.mark.parametrize(
    ("debian_arch", "machine"), [("amd64", "EM_X86_64"), ("arm64", "EM_AARCH64")]
)
def test_a_small_program_comes_with_its_libraries(
    debian_arch: str, machine: str, tmp_path: Path
) -> None:
    state = AptState(Cache(tmp_path / "cache"), debian_arch)
    try:
        state.refresh_if_stale()
    except RigError as error:
        pytest.skip(f"no repository here: {error}")
    fetched = state.fetch(["hostname"], with_depends=True)
    for package in fetched:
        unpack_deb(package.path, tmp_path / "root")
        assert read_control(package.path)["Package"] == package.name
    program = tmp_path / "root/bin/hostname"
    if not program.exists():
        program = tmp_path / "root/usr/bin/hostname"
    assert elf.elf_machine(program) == machine
    for library in elf.needed_libraries(program):
        assert list((tmp_path / "root").rglob(library)), library


def test_the_distribution_has_a_kernel(tmp_path: Path) -> None:
    state = AptState(Cache(tmp_path / "cache"), "arm64")
    try:
        kernel = state.newest("linux-image-arm64", follow=True)
    except RigError as error:
        pytest.skip(f"no repository here: {error}")
    if kernel is None:
        pytest.skip("not Debian")
    assert kernel.name.removeprefix("linux-image-")[0].isdigit()
    assert kernel.sha256
