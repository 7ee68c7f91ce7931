"""The config that a vendor's kernel is shipped with, out of the vendor's own source tree.

Trees of the Red Hat family hold one file for each option in a hierarchy of folders, and a file that
says which folders make the config of an architecture, least important first.
"""

import re
from pathlib import Path

from harness.kernel.kconfig import Wish, merged, parse_wishes
from harness.model.arch import ArchSpec
from harness.model.errors import UserError

_FOLDER = "redhat/configs"
_PRIORITY = "priority.rhel"
# ORDER=common ark pending-common custom-overrides
# x86_64=generic:generic-x86:generic-x86-x86_64
_LINE = re.compile(r"^(?P<key>[\w-]+)=(?P<value>[\w: -]+)$", re.M)
_OPTION_FILES = "CONFIG_*"


def vendor_wishes(tree: Path, arch_spec: ArchSpec) -> dict[str, Wish]:
    """Return all options of the shipped kernel. Raises UserError when the tree holds none."""
    priority = tree / _FOLDER / _PRIORITY
    try:
        text = priority.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(
            f"{tree}: holds no config of a shipped kernel ({_FOLDER}/{_PRIORITY} is missing)",
            hint="name one with --config: /boot/config-* of an installed kernel",
        ) from error
    found = {match["key"]: match["value"] for match in _LINE.finditer(text)}
    if "ORDER" not in found or arch_spec.rpm_arch not in found:
        raise UserError(f"{priority}: names no folders for {arch_spec.rpm_arch}")
    folders = [
        tree / _FOLDER / layer / part.replace("-", "/")
        for layer in found["ORDER"].split()
        for part in found[arch_spec.rpm_arch].split(":")
    ]
    wishes = merged(_wishes_in(folder) for folder in folders if folder.is_dir())
    if not wishes:
        raise UserError(f"{tree}: the folders that {_PRIORITY} names hold no options")
    return wishes


def _wishes_in(folder: Path) -> dict[str, Wish]:
    texts = [
        path.read_text(encoding="utf-8", errors="replace")
        for path in sorted(folder.glob(_OPTION_FILES))
        if path.is_file()
    ]
    return parse_wishes("\n".join(texts), "/".join(folder.parts[-3:]))
