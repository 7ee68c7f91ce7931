"""A kernel or a source tree as a person names it on the command line."""

from collections.abc import Sequence
from pathlib import Path

from harness.host.cache import Cache
from harness.kernel.package import deb_kernel
from harness.kernel.progress import OnEvent, phase
from harness.kernel.source import source_tree_at
from harness.kernel.unpacked import (
    Parts,
    arch_of_image,
    artifact_of,
    find_build,
    find_parts,
    is_build,
    sha256_of,
)
from harness.model.arch import Arch, ArchSpec
from harness.model.errors import UserError
from harness.model.kernel import KernelArtifact, Provenance, SourceTree
from harness.packages.deb import read_control

_FORMS = (
    "a kernel is named as FILE.deb, as IMAGE[,MODULES[,CONFIG]], or as a folder: "
    "where it was built, or one with boot/vmlinuz-* and lib/modules"
)


def named_kernel(text: str, arch_spec: ArchSpec, cache: Cache, on_event: OnEvent) -> KernelArtifact:
    """Return the kernel that `text` names.

    `FILE.deb`; `IMAGE[,MODULES[,CONFIG]]`, MODULES being `lib/modules/<release>` of the same build
    or a folder that holds it; the folder that a package was unpacked to; the folder that the kernel
    was built in. Raises UserError.
    """
    names = [name.strip() for name in text.split(",")]
    if len(names) > 3 or not names[0]:
        raise UserError(f"not a kernel: {text!r}", hint=_FORMS)
    image = _existing(names[0], "kernel")
    if image.is_dir():
        if len(names) > 1:
            raise UserError(f"{image}: a folder, where a kernel image was expected", hint=_FORMS)
        parts = find_build(image, (arch_spec,)) if is_build(image) else find_parts(image, names[0])
        return _kernel_of_files(parts, image, arch_spec, cache)
    if _is_deb(image):
        if len(names) > 1:
            raise UserError(f"{image}: a package brings its own modules and config", hint=_FORMS)
        return deb_kernel(image, arch_spec, cache, on_event)
    if image.suffix == ".rpm" or _begins_with(image, b"\xed\xab\xee\xdb"):
        raise UserError(
            f"{image}: RPM packages cannot be read yet",
            hint="unpack it (rpm2cpio FILE | cpio -id) and name the folder",
        )
    modules = _modules_folder(_existing(names[1], "modules")) if names[1:] and names[1] else None
    config = _existing(names[2], "config") if names[2:] and names[2] else None
    if config is not None and not config.is_file():
        raise UserError(f"{config}: not a file, where a .config was expected", hint=_FORMS)
    parts = Parts(image=image, modules=modules, config=config)
    return _kernel_of_files(parts, image, arch_spec, cache)


def named_arch(text: str, arch_specs: Sequence[ArchSpec], cache: Cache) -> Arch:
    """Return the architecture of the kernel that `text` names. Raises UserError.

    `arch_specs` are those to choose from; what is there of more than one is the first's.
    """
    image = _existing(text.split(",")[0].strip(), "kernel")
    if image.is_dir():
        parts = find_build(image, arch_specs) if is_build(image) else find_parts(image, text)
        return arch_of_image(parts.image, cache)
    if not _is_deb(image):
        return arch_of_image(image, cache)
    architecture = read_control(image).get("Architecture", "")
    for spec in arch_specs:
        if spec.debian_arch == architecture:
            return spec.arch
    raise UserError(f"{image}: a package for {architecture or 'no architecture'}")


def named_source(tree: Path, cache: Cache, on_event: OnEvent) -> SourceTree:
    """Return the source tree in a folder. Raises UserError when it is none."""
    if not tree.is_dir():
        raise UserError(f"{tree}: no such folder", hint="name the kernel's source tree")
    with phase(on_event, None, "read", str(tree)):
        return source_tree_at(tree)


def _kernel_of_files(
    parts: Parts, named: Path, arch_spec: ArchSpec, cache: Cache
) -> KernelArtifact:
    kind = "build" if parts.modules == named else "paths"
    provenance = Provenance(kind=kind, name=str(named), version="", sha256=sha256_of(parts.image))
    return artifact_of(parts, provenance, arch_spec, cache)


def _existing(name: str, what: str) -> Path:
    path = Path(name).expanduser().absolute()
    if not path.exists():
        raise UserError(f"no such {what}: {name}", hint=_FORMS)
    return path


def _modules_folder(folder: Path) -> Path:
    """Return `lib/modules/<release>` for it, or for what holds it alone."""
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder of modules", hint=_FORMS)
    if (folder / "kernel").is_dir() or (folder / "modules.builtin").is_file():
        return folder
    for place in ("lib/modules", "usr/lib/modules", "."):
        found = [path for path in sorted((folder / place).glob("*")) if (path / "kernel").is_dir()]
        if len(found) > 1:
            releases = ", ".join(path.name for path in found)
            raise UserError(f"{folder}: modules of more than one kernel: {releases}", hint=_FORMS)
        if found:
            return found[0]
    raise UserError(
        f"{folder}: no modules in it", hint="MODULES is the folder lib/modules/<release> of a build"
    )


def _is_deb(path: Path) -> bool:
    return path.suffix == ".deb" or _begins_with(path, b"!<arch>\ndebian")


def _begins_with(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
