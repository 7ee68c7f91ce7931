"""Recipes: which options a kernel is built with, as data in configs/kernels/recipes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.host.config import data_root, load_toml
from harness.kernel.kconfig import Wish, merged, parse_wishes
from harness.kernel.vendor_config import vendor_wishes
from harness.model.arch import Arch, ArchSpec
from harness.model.errors import UserError

DEFAULT_RECIPE = "small"
_SELFTESTS = "tools/testing/selftests/bpf"
# RHEL_MAJOR = 9 / RHEL_RELEASE = 70.30.1 / ZSTREAM = yes
_RHEL_LINE = re.compile(
    r"^(?P<key>RHEL_MAJOR|RHEL_MINOR|RHEL_RELEASE|ZSTREAM)[ \t]*=[ \t]*(\S+)", re.M
)


class Fragment(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One list of options of a recipe."""

    name: str
    """configs/kconfig/<name>.config with <name>.<arch>.config.

    `selftests` is the tree's own list for the BPF selftests, `vendor` the config of the kernel that
    is shipped from the tree.
    """
    where: str = ""
    """Only for a tree that has this file; "" for every tree."""


class Recipe(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """configs/kernels/recipes/<name>.toml"""

    summary: str
    start: str
    """`nothing`: what is not asked for is off; `usual`: it is as Kconfig has it."""
    required: tuple[str, ...]
    """Without these there is nothing to test: the case `config` fails."""
    fragment: tuple[Fragment, ...]
    """Later ones count."""
    modules: Mapping[str, str]
    """Modules that each build must have: name to option."""
    objects: int = 0
    """Files that a build makes, roughly: for the progress; 0 when it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """All that a build is asked for."""

    wishes: Mapping[str, Wish]
    start: str
    required: tuple[str, ...]


def load_recipe(name: str) -> Recipe:
    """Return a recipe by its name. Raises UserError, naming those that there are."""
    folder = data_root() / "configs" / "kernels" / "recipes"
    path = folder / f"{name}.toml"
    known = sorted(item.stem for item in folder.glob("*.toml"))
    if name not in known:
        raise UserError(f"no recipe {name!r}", hint=f"recipes: {', '.join(known)}")
    recipe = load_toml(path, Recipe)
    if recipe.start not in ("nothing", "usual"):
        raise UserError(f'{path}: start = {recipe.start!r} (wanted "nothing" or "usual")')
    return recipe


def wanted_of(
    recipe: Recipe, tree: Path, arch_spec: ArchSpec, config: Path | None = None
) -> Wanted:
    """Collect the options for one tree and architecture.

    `config`, when given, is what the build starts from instead of the recipe's `start`; the
    recipe's fragments come on top. Raises UserError.
    """
    lists = [_config_list(config)] if config else []
    for fragment in recipe.fragment:
        if not fragment.where or (tree / fragment.where).exists():
            lists += _fragment(fragment.name, tree, arch_spec)
    start = "usual" if config else recipe.start
    return Wanted(wishes=merged(lists), start=start, required=recipe.required)


def release_suffix(tree: Path) -> str:
    """What the tree's vendor adds to the version: `-70.30.1.el9_0`; "" for a mainline tree.

    A RHEL tree's Makefile.rhelver has the numbers, and its spec file puts them together.
    """
    try:
        text = (tree / "Makefile.rhelver").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = {match["key"]: match[2] for match in _RHEL_LINE.finditer(text)}
    if not {"RHEL_MAJOR", "RHEL_RELEASE"} <= found.keys():
        return ""
    minor = f"_{found['RHEL_MINOR']}" if found.get("ZSTREAM") == "yes" else ""
    return f"-{found['RHEL_RELEASE']}.el{found['RHEL_MAJOR']}{minor}"


def _fragment(name: str, tree: Path, arch_spec: ArchSpec) -> list[dict[str, Wish]]:
    if name == "selftests":
        return _selftests_lists(tree, arch_spec.arch)
    if name == "vendor":
        return [vendor_wishes(tree, arch_spec)]
    return [
        fragment_wishes(name),
        fragment_wishes(f"{name}.{arch_spec.arch}", must_exist=False),
    ]


def fragment_wishes(name: str, *, must_exist: bool = True) -> dict[str, Wish]:
    """Read configs/kconfig/<name>.config. Raises UserError when it must be there and is not."""
    path = data_root() / "configs" / "kconfig" / f"{name}.config"
    if not path.is_file():
        if must_exist:
            raise UserError(f"{path}: no such list of options")
        return {}
    return parse_wishes(path.read_text(encoding="utf-8"), path.name)


def _selftests_lists(tree: Path, arch: Arch) -> list[dict[str, Wish]]:
    """The tree's lists: for all, for one architecture, for virtual machines; () without any."""
    paths = (tree / _SELFTESTS / name for name in ("config", f"config.{arch}", "config.vm"))
    return [
        parse_wishes(
            path.read_text(encoding="utf-8", errors="replace"), f"{_SELFTESTS}/{path.name}"
        )
        for path in paths
        if path.is_file()
    ]


def _config_list(config: Path) -> dict[str, Wish]:
    try:
        text = config.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{config}: cannot be read ({error.strerror})") from error
    wishes = parse_wishes(text, config.name)
    if not wishes:
        raise UserError(f"{config}: not a kernel's config: no line CONFIG_…=")
    return wishes
