"""A kernel from a package file of a distribution, or of the kernel's own `make bindeb-pkg`."""

from pathlib import Path

from harness.host.cache import Cache, digest_of
from harness.kernel.progress import OnEvent, phase
from harness.kernel.unpacked import artifact_of, find_parts, sha256_of
from harness.model.arch import ArchSpec
from harness.model.errors import UserError
from harness.model.kernel import KernelArtifact, Provenance
from harness.packages.deb import read_control, unpack_deb

_LAYOUT = 1  # of the cache's entries
_WANTED = ("boot/", "lib/modules/", "usr/lib/modules/")
# bindeb-pkg's packages have these as links to the folder that they were built in.
_LINKS_OF_BUILD = ("build", "source")


def deb_kernel(
    deb: Path, arch_spec: ArchSpec, cache: Cache, on_event: OnEvent, *, sha256: str = ""
) -> KernelArtifact:
    """Unpack a linux-image package (once for each content) and read its kernel.

    `sha256` is the file's, when it is known already. Raises UserError: not a package, no kernel in
    it, another architecture.
    """
    sha256 = sha256 or sha256_of(deb)
    control = read_control(deb)
    name = control.get("Package", deb.name)
    architecture = control.get("Architecture", "")
    if architecture not in (arch_spec.debian_arch, "all"):
        raise UserError(
            f"{deb}: a package for {architecture or 'no architecture'}, "
            f"and {arch_spec.debian_arch} ({arch_spec.arch}) was asked for"
        )

    def make(folder: Path) -> None:
        with phase(on_event, arch_spec.arch, "unpack", name):
            unpack_deb(deb, folder, only=_is_wanted)
            find_parts(folder, str(deb))  # a package without a kernel leaves nothing behind

    folder = cache.entry("kernel", digest_of(str(_LAYOUT), sha256), make)
    provenance = Provenance(
        kind="deb", name=name, version=control.get("Version", ""), sha256=sha256
    )
    return artifact_of(find_parts(folder, str(deb)), provenance, arch_spec, cache)


def _is_wanted(name: str) -> bool:
    is_link_of_build = name.count("/") <= 4 and name.rpartition("/")[2] in _LINKS_OF_BUILD
    return name.startswith(_WANTED) and not is_link_of_build
