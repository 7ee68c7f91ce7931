"""Whether a kernel can boot here, told from its config before minutes are spent on trying.

The options are in configs/kernels/options.toml. Options come from the built config and never from
a version: enterprise kernels backport, and drop.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

import msgspec

from harness.host.config import data_root, load_toml
from harness.kernel.modules import has_module
from harness.model.arch import Arch
from harness.model.errors import KernelError
from harness.model.kernel import KernelArtifact

# CONFIG_VIRTIO_PCI=m / # CONFIG_KEXEC is not set
_OPTION = re.compile(r"^CONFIG_(?P<name>\w+)=(?P<value>.*)$", re.M)


class Wish(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Options of which any one is enough, and what for."""

    options: tuple[str, ...]
    why: str
    module: str = ""
    arch: tuple[Arch, ...] = ()


class Wishes(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """configs/kernels/options.toml"""

    need: tuple[Wish, ...]
    want: tuple[Wish, ...]


def check_bootable(kernel: KernelArtifact) -> tuple[str, ...]:
    """Return warnings: what evidence or which cases will be missing.

    Raises KernelError when the config rules out that the kernel boots to the harness's agent. An
    unknown config is a warning: nothing is known against the kernel.
    """
    warnings = []
    if kernel.btf is None:
        warnings.append("no BTF was found in the kernel: the BPF selftests cannot be built for it")
    if kernel.config is None:
        warnings.append("the kernel's config is not known: whether it can boot is seen by trying")
        return tuple(warnings)
    config = parse_config(kernel.config.read_text(encoding="utf-8", errors="replace"))
    wishes = _wishes()
    missing = tuple(_missing(kernel, config, wishes.need))
    if missing:
        names = ", ".join(wish.options[0] for wish, _ in missing)
        raise KernelError(
            f"kernel {kernel.release} cannot run here: {names}",
            hint=_hint(kernel, config, missing[0][0]),
            evidence=tuple(text for _, text in missing),
        )
    warnings += [text for _, text in _missing(kernel, config, wishes.want)]
    return tuple(warnings)


def parse_config(text: str) -> Mapping[str, str]:
    """Return a config's options without `CONFIG_`; what is not set is not in it."""
    return {match["name"]: match["value"] for match in _OPTION.finditer(text)}


def _missing(
    kernel: KernelArtifact, config: Mapping[str, str], wishes: tuple[Wish, ...]
) -> Iterator[tuple[Wish, str]]:
    for wish in wishes:
        if wish.arch and kernel.arch not in wish.arch:
            continue
        why_not = _why_not(kernel, config, wish)
        if why_not:
            yield wish, f"{why_not}: {wish.why}"


def _why_not(kernel: KernelArtifact, config: Mapping[str, str], wish: Wish) -> str:
    """Return what is wrong; "" when the wish is met."""
    values = {config.get(option, "n") for option in wish.options}
    name = " or ".join(f"CONFIG_{option}" for option in wish.options)
    if "y" in values:
        return ""
    if "m" not in values:
        return f"{name} is not set"
    if not wish.module:
        return f"{name}=m, and it must be built in"
    if kernel.modules is None:
        return f"{name}=m, and no modules were given"
    return "" if has_module(kernel, wish.module) else f"{name}=m, and {wish.module} is missing"


def _hint(kernel: KernelArtifact, config: Mapping[str, str], wish: Wish) -> str:
    if kernel.modules is None and any(config.get(option) == "m" for option in wish.options):
        return "name the modules of the same build: IMAGE,MODULES"
    return "build the kernel with these options, or take one that is made for virtual machines"


@lru_cache(maxsize=1)
def _wishes() -> Wishes:
    return load_toml(data_root() / "configs" / "kernels" / "options.toml", Wishes)
