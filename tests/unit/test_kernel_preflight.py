"""What a config says about booting, before minutes are spent on trying."""

from pathlib import Path

import pytest

from harness.kernel.preflight import check_bootable, parse_config
from harness.model.arch import Arch
from harness.model.errors import KernelError
from harness.model.kernel import KernelArtifact, Provenance
from tests.fakes import kernels

RELEASE = "6.1.0"


def kernel(
    folder: Path, *changes: str, modules: bool = True, arch: Arch = Arch.X86_64
) -> KernelArtifact:
    """A kernel with a config that boots, but for lines in which `changes` replace an option."""
    options = dict(line.split("=") for line in changes)
    lines = [line for line in kernels.CONFIG.splitlines() if line.partition("=")[0] not in options]
    lines += [f"{option}={value}" for option, value in options.items() if value != "n"]
    (folder / "config").write_text("\n".join(lines) + "\n")
    (folder / "btf").write_bytes(kernels.SMALL_BTF)
    tree = kernels.module_tree(folder, RELEASE, kernels.VIRTIO) if modules else None
    return KernelArtifact(
        arch=arch,
        release=RELEASE,
        image=folder / "vmlinuz",
        modules=tree,
        config=folder / "config",
        btf=folder / "btf",
        provenance=Provenance(kind="paths", name="", version="", sha256=""),
    )


@pytest.mark.parametrize("arch", list(Arch))
def test_a_kernel_with_what_is_needed_may_boot(tmp_path: Path, arch: Arch) -> None:
    warnings = check_bootable(kernel(tmp_path, arch=arch))
    assert any(text.startswith("CONFIG_DEBUG_INFO_BTF is not set: ") for text in warnings)
    assert not any("VIRTIO" in text for text in warnings)


@pytest.mark.parametrize(
    ("change", "arch"),
    [
        ("CONFIG_BLK_DEV_INITRD=n", Arch.X86_64),
        ("CONFIG_DEVTMPFS=n", Arch.AARCH64),
        ("CONFIG_TMPFS=n", Arch.X86_64),
        ("CONFIG_BINFMT_SCRIPT=m", Arch.X86_64),
        ("CONFIG_SERIAL_8250_CONSOLE=n", Arch.X86_64),
        ("CONFIG_SERIAL_AMBA_PL011_CONSOLE=n", Arch.AARCH64),
        ("CONFIG_VIRTIO_PCI=n", Arch.X86_64),
        ("CONFIG_VIRTIO_CONSOLE=n", Arch.AARCH64),
    ],
)
def test_what_is_missing_is_named_with_its_reason(tmp_path: Path, change: str, arch: Arch) -> None:
    option, _, value = change.partition("=")
    with pytest.raises(KernelError, match=option.removeprefix("CONFIG_")) as caught:
        check_bootable(kernel(tmp_path, change, arch=arch))
    (evidence,) = caught.value.evidence
    assert evidence.startswith(f"{option} is not set: " if value == "n" else f"{option}=m, ")
    assert caught.value.hint


def test_the_serial_line_of_the_other_architecture_is_not_needed(tmp_path: Path) -> None:
    check_bootable(kernel(tmp_path, "CONFIG_SERIAL_AMBA_PL011_CONSOLE=n", arch=Arch.X86_64))


def test_a_driver_as_a_module_needs_the_module(tmp_path: Path) -> None:
    with pytest.raises(KernelError) as caught:
        check_bootable(kernel(tmp_path, modules=False))
    assert "VIRTIO_PCI, VIRTIO_CONSOLE" in str(caught.value)
    assert "name the modules" in caught.value.hint
    whole = kernel(tmp_path)
    assert whole.modules is not None
    (whole.modules / "kernel/drivers/virtio/virtio_pci.ko").unlink()
    with pytest.raises(KernelError) as caught:
        check_bootable(whole)
    assert caught.value.evidence[0].startswith("CONFIG_VIRTIO_PCI=m, and virtio_pci is missing")


def test_everything_built_in_needs_no_modules(tmp_path: Path) -> None:
    changes = ("CONFIG_VIRTIO_PCI=y", "CONFIG_VIRTIO_CONSOLE=y")
    check_bootable(kernel(tmp_path, *changes, modules=False))


def test_any_one_of_several_options_is_enough(tmp_path: Path) -> None:
    def about_dumps(*changes: str) -> list[str]:
        warnings = check_bootable(kernel(tmp_path, *changes))
        return [text for text in warnings if "VMCOREINFO" in text]

    assert about_dumps()[0].startswith("CONFIG_KEXEC or CONFIG_KEXEC_CORE or ")
    assert about_dumps("CONFIG_VMCORE_INFO=y") == []


def test_an_unknown_config_is_a_warning_and_no_btf_is_another(tmp_path: Path) -> None:
    known = kernel(tmp_path)
    unknown = KernelArtifact(
        arch=known.arch,
        release=RELEASE,
        image=known.image,
        modules=None,
        config=None,
        btf=None,
        provenance=known.provenance,
    )
    warnings = check_bootable(unknown)
    assert len(warnings) == 2
    assert "no BTF" in warnings[0]
    assert "config is not known" in warnings[1]


def test_what_is_not_set_is_not_in_a_config() -> None:
    config = parse_config('CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="x y"\n#CONFIG_D=y\n')
    assert dict(config) == {"A": "y", "C": '"x y"'}
