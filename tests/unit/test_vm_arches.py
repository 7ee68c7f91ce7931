"""Architecture files."""

from pathlib import Path

import pytest

from harness.host.config import data_root
from harness.model.arch import Arch
from harness.model.errors import UserError
from harness.vm.arches import all_arches, load_arch

REAL = data_root() / "configs" / "arches"


def test_every_architecture_has_its_file() -> None:
    assert tuple(spec.arch for spec in all_arches()) == tuple(Arch)


def test_a_misspelt_key_is_named(tmp_path: Path) -> None:
    text = (REAL / "x86_64.toml").read_text()
    (tmp_path / "x86_64.toml").write_text(text + 'machin = "q35"\n')
    with pytest.raises(UserError, match="machin"):
        load_arch(Arch.X86_64, tmp_path)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    lines = (REAL / "x86_64.toml").read_text().splitlines()
    (tmp_path / "x86_64.toml").write_text("\n".join(x for x in lines if "tcg_cpu" not in x))
    with pytest.raises(UserError, match="tcg_cpu"):
        load_arch(Arch.X86_64, tmp_path)


def test_a_file_of_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "aarch64.toml").write_text((REAL / "x86_64.toml").read_text())
    with pytest.raises(UserError, match="describes x86_64"):
        load_arch(Arch.AARCH64, tmp_path)


def test_no_file_is_the_persons_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x86_64\.toml"):
        load_arch(Arch.X86_64, tmp_path)
