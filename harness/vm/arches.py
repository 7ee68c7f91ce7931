"""The architectures that we know, one file each in `configs/arches`."""

import dataclasses
from pathlib import Path
from typing import Any

import msgspec

from harness.host.config import data_root, load_toml
from harness.model.arch import Arch, ArchSpec
from harness.model.errors import UserError


def _file_kind() -> type[msgspec.Struct]:
    # A struct with the fields of ArchSpec, since msgspec overlooks unknown keys of a dataclass.
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for field in dataclasses.fields(ArchSpec):
        if field.default is dataclasses.MISSING:
            fields.append((field.name, field.type))
        else:
            fields.append((field.name, field.type, field.default))
    return msgspec.defstruct("ArchFile", fields, forbid_unknown_fields=True, kw_only=True)


_ArchFile = _file_kind()


def load_arch(arch: Arch, folder: Path | None = None) -> ArchSpec:
    """Read one architecture's file; `folder` stands for `configs/arches`.

    Raises UserError, naming file and key, for a missing file, an unknown or missing key, and a
    file that describes another architecture than its name says.
    """
    path = (folder or data_root() / "configs" / "arches") / f"{arch}.toml"
    spec = ArchSpec(**msgspec.structs.asdict(load_toml(path, _ArchFile)))
    if spec.arch is not arch:
        raise UserError(f"{path}: describes {spec.arch}, and its name says {arch}")
    return spec


def all_arches(folder: Path | None = None) -> tuple[ArchSpec, ...]:
    """Every architecture, in the order of `Arch`. Raises UserError as `load_arch` does."""
    return tuple(load_arch(arch, folder) for arch in Arch)
