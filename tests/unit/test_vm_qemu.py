"""What a QEMU says of itself."""

import dataclasses
import os
from pathlib import Path

import pytest

from harness.host.cache import Cache
from harness.model.arch import Arch
from harness.model.errors import RigError
from harness.vm.arches import load_arch
from harness.vm.qemu import find_qemu, parse_accels, parse_devices, parse_machines, parse_options
from tests.fakes.machines import install_fake

MACHINES = """Supported machines are:
microvm              microvm (i386)
pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)
pc-i440fx-7.2        Standard PC (i440FX + PIIX, 1996) (default)
q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)
none                 empty machine
"""

DEVICES = """Controller/Bridge/Hub devices:
name "i82801b11-bridge", bus PCI
name "virtio-rng-pci", bus PCI, alias "virtio-rng"

Misc devices:
name "pvpanic", bus ISA
name "pvpanic-pci", bus PCI
"""

HELP = """QEMU emulator version 7.2.22
usage: qemu-system-x86_64 [options] [disk_image]

Standard options:
-h or -help     display this help and exit
-machine [type=]name[,prop[=value][,...]]
                selects emulated machine ('-machine help' for list)
-action reboot=reset|shutdown
                   action when guest reboots [default=reset]
"""


def test_help_texts_give_names() -> None:
    assert parse_accels("Accelerators supported in QEMU binary:\ntcg\nkvm\n") == {"tcg", "kvm"}
    assert parse_machines(MACHINES) == {"microvm", "pc", "pc-i440fx-7.2", "q35", "none"}
    assert parse_devices(DEVICES) == {
        "i82801b11-bridge",
        "virtio-rng-pci",
        "pvpanic",
        "pvpanic-pci",
    }
    assert parse_options(HELP) == {"h", "machine", "action"}


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    return install_fake(tmp_path)


def only(path: Path) -> dict[str, str]:
    return {"qemu-system-x86_64": str(path)}


def test_a_qemu_is_described_by_its_own_words(fake: Path, tmp_path: Path) -> None:
    qemu = find_qemu(load_arch(Arch.X86_64), Cache(tmp_path / "cache"), only(fake).get)
    assert qemu.path == fake
    assert qemu.version == "7.9.1"
    assert qemu.accels == {"tcg", "kvm"}
    assert "pvpanic-pci" in qemu.devices
    assert qemu.options == {"help", "action", "sandbox"}
    assert qemu.has_sandbox


def test_it_is_asked_once_and_again_when_it_was_replaced(fake: Path, tmp_path: Path) -> None:
    cache, spec = Cache(tmp_path / "cache"), load_arch(Arch.X86_64)
    first = find_qemu(spec, cache, only(fake).get)
    text, times = fake.read_text(), fake.stat()
    fake.write_text(text.replace("7.9.1", "8.8.8"))
    os.utime(fake, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert find_qemu(spec, cache, only(fake).get) == first  # the same file, by all we look at
    os.utime(fake, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert find_qemu(spec, cache, only(fake).get).version == "8.8.8"


def test_rubbish_in_the_cache_is_not_believed(fake: Path, tmp_path: Path) -> None:
    cache, spec = Cache(tmp_path / "cache"), load_arch(Arch.X86_64)
    first = find_qemu(spec, cache, only(fake).get)
    for file in (tmp_path / "cache").rglob("qemu.json"):
        file.write_text("{}")
    assert find_qemu(spec, cache, only(fake).get) == first


def test_a_sandbox_that_is_listed_and_refused_is_none(fake: Path, tmp_path: Path) -> None:
    fake.write_text(fake.read_text().replace('return "stdio" in argv', "sys.exit(1)  #"))
    qemu = find_qemu(load_arch(Arch.X86_64), Cache(tmp_path / "cache"), only(fake).get)
    assert not qemu.has_sandbox


def test_no_qemu_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(RigError, match="no QEMU for aarch64") as caught:
        find_qemu(load_arch(Arch.AARCH64), Cache(tmp_path), lambda _: None)
    assert "qemu-system-arm" in caught.value.hint
    assert "harness doctor" in caught.value.hint


def test_a_qemu_of_another_architecture_does_not_do(fake: Path, tmp_path: Path) -> None:
    spec = dataclasses.replace(load_arch(Arch.X86_64), machine="microvm,rtc=on")
    with pytest.raises(RigError) as caught:
        find_qemu(spec, Cache(tmp_path / "cache"), only(fake).get)
    assert "no board microvm" in caught.value.evidence[0]


def test_a_program_that_is_not_qemu_is_said_so(tmp_path: Path) -> None:
    other = tmp_path / "qemu-system-x86_64"
    other.write_text("#!/bin/sh\necho hello\n")
    other.chmod(0o755)
    with pytest.raises(RigError, match="is not QEMU"):
        find_qemu(load_arch(Arch.X86_64), Cache(tmp_path / "cache"), only(other).get)
