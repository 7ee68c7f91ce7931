"""A kernel or a source tree as a person names it on the command line."""

from pathlib import Path

from harness.host.cache import Cache
from harness.kernel.package import deb_kernel
from harness.kernel.progress import OnEvent, phase
from harness.kernel.source import source_tree_at
from harness.kernel.unpacked import Parts, artifact_of, find_parts, sha256_of
from harness.model.arch import ArchSpec
from harness.model.errors import UserError
from harness.model.kernel import KernelArtifact, Provenance, SourceTree

_FORMS = (
    "a kernel is named as FILE.deb, as IMAGE[,MODULES[,CONFIG]], or as a folder "
    "with boot/vmlinuz-* and lib/modules"
)


def named_kernel(text: str, arch_spec: ArchSpec, cache: Cache, on_event: OnEvent) -> KernelArtifact:
    """Return the kernel that `text` names.

    `FILE.deb`; `IMAGE[,MODULES[,CONFIG]]`, MODULES being `lib/modules/<release>` of the same build
    or a folder that holds it; or the folder that a package was unpacked to. Raises UserError.
    """
    names = [name.strip() for name in text.split(",")]
    if len(names) > 3 or not names[0]:
        raise UserError(f"not a kernel: {text!r}", hint=_FORMS)
    image = _existing(names[0], "kernel")
    if image.is_dir():
        if len(names) > 1:
            raise UserError(f"{image}: a folder, where a kernel image was expected", hint=_FORMS)
        return _folder_kernel(image, arch_spec, cache)
    if image.suffix == ".deb" or _begins_with(image, b"!<arch>\ndebian"):
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
        raise UserError(f"{config}: not a file, where a kernel's .config was expected")
    provenance = Provenance(kind="paths", name=str(image), version="", sha256=sha256_of(image))
    parts = Parts(image=image, modules=modules, config=config)
    return artifact_of(parts, provenance, arch_spec, cache)


def named_source(tree: Path, cache: Cache, on_event: OnEvent) -> SourceTree:
    """Return the source tree in a folder. Raises UserError when it is none."""
    if not tree.is_dir():
        raise UserError(f"{tree}: no such folder", hint="name the kernel's source tree")
    with phase(on_event, None, "read", str(tree)):
        return source_tree_at(tree)


def _folder_kernel(folder: Path, arch_spec: ArchSpec, cache: Cache) -> KernelArtifact:
    parts = find_parts(folder, str(folder))
    provenance = Provenance(
        kind="paths", name=str(folder), version="", sha256=sha256_of(parts.image)
    )
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


def _begins_with(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
