"""Kernels and programs as artifacts: files on disk and where they came from."""

from dataclasses import dataclass
from pathlib import Path

from harness.model.arch import Arch


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where an artifact came from, enough to get it again."""

    kind: str
    """`deb`, `rpm`, `paths`, `build`."""
    name: str
    """Package name, path or recipe."""
    version: str
    """Package version, commit or ""."""
    sha256: str
    """Of the package, the image or the tree; "" where nothing whole was hashed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelArtifact:
    """A built or unpacked kernel. Paths are absolute and read-only to everyone."""

    arch: Arch
    release: str
    """What `uname -r` will print."""
    image: Path
    modules: Path | None
    """The folder `lib/modules/<release>`; None when nothing is modular or none were given."""
    config: Path | None
    """The resolved `.config`; None when it is not known."""
    btf: Path | None
    """The kernel's raw BTF blob; None when the kernel carries none."""
    vmlinux: Path | None = None
    symvers: Path | None = None
    config_sha256: str = ""
    build_id: str = ""
    """GNU build-id of vmlinux in hex, "" where it cannot be read."""
    provenance: Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class NotBuilt:
    """Something promised by the sources that did not compile or link."""

    case_path: tuple[str, ...]
    """Program and test that are lost by it, as in CaseId.path."""
    object_name: str
    """What failed: `progs/bpf_cubic.c`, `prog_tests/atomics.c`."""
    stage: str
    """`bpf object`, `skeleton`, `test object`, `link`, `module`."""
    error: str
    """The first telling error line of the compiler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerListing:
    """One built program and the tests it holds, in the program's own order."""

    program: str
    """`test_progs`, `test_verifier`, `test_maps`."""
    tests: tuple[str, ...]
    """Names in order; position + 1 (test_progs) or position (test_verifier) is the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelftestsArtifact:
    """Built BPF selftests for one architecture and one kernel's BTF."""

    arch: Arch
    root: Path
    """The folder that becomes the guest's working directory."""
    runners: tuple[RunnerListing, ...]
    not_built: tuple[NotBuilt, ...]
    source_sha256: str
    """Identity of the selftests' sources."""
    source_name: str
    """Package and version, tag or path: for people."""
    source_hashes: tuple[tuple[str, str], ...]
    """(test, hash of its sources) for test_progs: tells a changed test from a changed kernel."""
    compiler: str
    """First line of `clang --version`."""
    pahole: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTree:
    """A kernel source tree, or the part that the selftests are built from; never written to."""

    path: Path
    name: str
    """For people: package and version, tag or path."""
    version: str
    """What the tree's Makefile says: `6.1.192`."""
    sha256: str
    """Identity of its content."""
