"""From files on disk to a KernelArtifact: what a folder holds, and whether its parts fit together.

Every way in ends here: the distribution's package, a package by name, an image, a folder.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.host.cache import Cache, digest_of
from harness.kernel.formats import Form
from harness.kernel.image import read_image
from harness.kernel.modinfo import read_info
from harness.kernel.modules import module_tree
from harness.model.arch import Arch, ArchSpec
from harness.model.errors import UserError
from harness.model.kernel import KernelArtifact, Provenance

_LAYOUT = 1  # of the cache's entries about an image
_MODULE_ROOTS = ("lib/modules", "usr/lib/modules")
# # Linux/x86 6.1.192 Kernel Configuration
_CONFIG_TITLE = re.compile(rb"^# Linux/(?P<arch>\w+) (?P<version>\S+) Kernel Configuration", re.M)
_CONFIG_ARCHES = {b"x86": Arch.X86_64, b"x86_64": Arch.X86_64, b"arm64": Arch.AARCH64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Files of one kernel as they were found; only the image must be there."""

    image: Path
    modules: Path | None = None
    """`lib/modules/<release>`, or the folder of a build with modules all over it."""
    config: Path | None = None
    vmlinux: Path | None = None
    symvers: Path | None = None


class _StoredFacts(msgspec.Struct, forbid_unknown_fields=True):
    arch: Arch
    form: Form
    release: str
    build_id: str


def find_parts(root: Path, name: str) -> Parts:
    """Find the one kernel in a folder that a package was unpacked to.

    Raises UserError when there is none, or more than one; `name` stands for it in messages.
    """
    images = sorted(
        path
        for pattern in ("boot/vmlinu[zx]-*", "boot/Image*-*", "*lib/modules/*/vmlinuz")
        for path in (*root.glob(pattern), *root.glob(f"usr/{pattern}"))
        if path.is_file() and not path.name.startswith("vmlinux-")
    )
    by_release = {_release_of(path): path for path in images}
    if not by_release:
        raise UserError(
            f"{name}: holds no kernel image (boot/vmlinuz-*)",
            hint="headers, debug and metapackages have none; name the package with the image",
        )
    if len(by_release) > 1:
        raise UserError(
            f"{name}: holds more than one kernel: {', '.join(by_release)}",
            hint="name one as image,modules,config",
        )
    ((release, image),) = by_release.items()
    folders = (root / place / release for place in _MODULE_ROOTS)
    modules = next((folder for folder in folders if folder.is_dir()), None)
    configs = [root / "boot" / f"config-{release}"]
    if modules is not None:
        configs.append(modules / "config")
    return Parts(
        image=image,
        modules=modules,
        config=next((path for path in configs if path.is_file()), None),
        vmlinux=_if_there(root / "boot" / f"vmlinux-{release}"),
    )


def is_build(root: Path) -> bool:
    """Whether a folder is where a kernel was built, in its source tree or with O=."""
    return (root / ".config").is_file() and (root / "Makefile").is_file()


def find_build(root: Path, arch_specs: Iterable[ArchSpec]) -> Parts:
    """Find the kernel that was built in a folder, for one of these architectures.

    Raises UserError when none was.
    """
    places = [
        root / "arch" / spec.kernel_arch / "boot" / name
        for spec in arch_specs
        for name in spec.image_names
    ]
    image = next((path for path in places if path.is_file()), None)
    if image is None:
        raise UserError(
            f"{root}: no kernel was built here: no {' and no '.join(map(str, places))}",
            hint="build it first, or name the image",
        )
    return Parts(
        image=image,
        modules=root if (root / "modules.order").is_file() else None,
        config=root / ".config",
        vmlinux=_if_there(root / "vmlinux"),
        symvers=_if_there(root / "Module.symvers"),
    )


def arch_of_image(image: Path, cache: Cache) -> Arch:
    """Return the architecture that an image says it is for. Raises UserError."""
    return _facts(image, cache)[1].arch


def artifact_of(
    parts: Parts, provenance: Provenance, arch_spec: ArchSpec, cache: Cache
) -> KernelArtifact:
    """Read the image once (cached by its content), check that the parts belong together.

    Raises UserError: not a kernel, another architecture, modules or config of another kernel.
    """
    facts_folder, facts = _facts(parts.image, cache)
    if facts.arch is not arch_spec.arch:
        raise UserError(
            f"{parts.image}: a kernel for {facts.arch}, and {arch_spec.arch} was asked for",
            hint=f"run with --arch {facts.arch}, or name a kernel for {arch_spec.arch}",
        )
    if facts.form is Form.VMLINUX:
        raise UserError(
            f"{parts.image}: an ELF vmlinux; QEMU boots {' or '.join(arch_spec.image_names)}",
            hint=f"name arch/{arch_spec.kernel_arch}/boot/{arch_spec.image_names[0]} of its build",
        )
    if parts.modules is not None:
        _check_modules(parts.modules, facts.release, parts.image)
    config = parts.config or _if_there(facts_folder / "config")
    if config is not None:
        _check_config(config, arch_spec)
    return KernelArtifact(
        arch=facts.arch,
        release=facts.release,
        image=_if_there(facts_folder / "Image") or parts.image,
        modules=parts.modules,
        config=config,
        btf=_if_there(facts_folder / "btf"),
        vmlinux=parts.vmlinux,
        symvers=parts.symvers,
        config_sha256=sha256_of(config) if config else "",
        build_id=facts.build_id,
        provenance=provenance,
    )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hex. Raises UserError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _release_of(image: Path) -> str:
    if image.name == "vmlinuz":
        return image.parent.name
    return image.name.partition("-")[2]


def _if_there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _facts(image: Path, cache: Cache) -> tuple[Path, _StoredFacts]:
    """Return the cache's folder about an image, and the facts in it.

    It holds facts.json and, where the image has them, btf and config.

    Also `Image` when QEMU needs the kernel taken out of its container: it learnt to read EFI zboot
    images only in version 8.
    """

    def make(folder: Path) -> None:
        facts = read_image(image)
        stored = _StoredFacts(
            arch=facts.arch, form=facts.form, release=facts.release, build_id=facts.build_id
        )
        if facts.btf is not None:
            (folder / "btf").write_bytes(facts.btf)
        if facts.config is not None:
            (folder / "config").write_bytes(facts.config)
        if facts.form is Form.ZBOOT:
            (folder / "Image").write_bytes(facts.kernel)
        (folder / "facts.json").write_bytes(msgspec.json.encode(stored))

    folder = cache.entry("kernel-facts", digest_of(str(_LAYOUT), sha256_of(image)), make)
    return folder, msgspec.json.decode((folder / "facts.json").read_bytes(), type=_StoredFacts)


def _check_modules(folder: Path, release: str, image: Path) -> None:
    """Raise UserError when a module says that it is for another kernel."""
    tree = module_tree(folder)
    if not tree.files:
        return
    path = min(tree.files.values())
    built_for = read_info(path).vermagic.partition(" ")[0]
    if built_for and built_for != release:
        raise UserError(
            f"{folder}: modules for {built_for}, and {image} is {release}",
            hint="name the modules of the same build: …/lib/modules/<release>",
        )


def _check_config(config: Path, arch_spec: ArchSpec) -> None:
    try:
        title = _CONFIG_TITLE.search(config.read_bytes()[:4096])
    except OSError as error:
        raise UserError(f"{config}: cannot be read ({error.strerror})") from error
    if title and _CONFIG_ARCHES.get(title["arch"]) is not arch_spec.arch:
        raise UserError(
            f"{config}: the config of a kernel for {title['arch'].decode()}, not {arch_spec.arch}"
        )
