"""Configuration files: TOML becomes a typed value at the edge, or an error that names the key."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from harness.model.errors import UserError

T = TypeVar("T")


def data_root(env: Mapping[str, str] = os.environ) -> Path:
    """The folder with `configs/`, `selftests/` and `results/baselines`.

    A checkout has them beside the package; a wheel carries them inside it; `HARNESS_DATA` names
    another place, for who decides otherwise without changing a checkout. Raises UserError for a
    place that has no `configs`.
    """
    named = env.get("HARNESS_DATA")
    if named:
        place = Path(named).absolute()
        if not (place / "configs").is_dir():
            raise UserError(
                f"HARNESS_DATA={named}: there is no folder configs in it",
                hint="it wants a copy of the folders configs and selftests, or must be unset",
            )
        return place
    package = Path(__file__).resolve().parent.parent
    checkout = package.parent
    return checkout if (checkout / "configs").is_dir() else package / "_data"


def load_toml(path: Path, kind: type[T]) -> T:
    """Read one TOML file into `kind`, a msgspec.Struct with forbid_unknown_fields=True.

    Raises UserError, naming file and key, for a file that cannot be read, is not TOML, or does
    not fit.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    return parse_toml(text, kind, str(path))


def parse_toml(text: str, kind: type[T], name: str) -> T:
    """Read TOML text into `kind`; `name` stands for the file in messages. Raises UserError."""
    try:
        raw: dict[str, Any] = tomllib.loads(text)
        return msgspec.convert(raw, kind)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{name}: not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise UserError(f"{name}: {error}", hint=f"keys known here: {_keys_text(kind)}") from error


def _keys_text(kind: type[Any]) -> str:
    try:
        return ", ".join(field.encode_name for field in msgspec.structs.fields(kind))
    except TypeError:
        return "see the other files of that folder"
