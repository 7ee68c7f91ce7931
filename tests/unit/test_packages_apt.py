"""Packages by apt: a real apt on a repository made by hand, no network and no root.

`AptState` is given its own list of sources, so that nothing of the host's is asked.
"""

import hashlib
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.host.cache import Cache
from harness.model.errors import RigError, UserError
from harness.packages import apt_text
from harness.packages.apt import AptState, PackageVersion
from tests.fakes import packages as fake

needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="this host has no apt")
DAY_S = 86_400.0


@dataclass
class Repository:
    """A flat repository in a folder, and the list of sources that names it."""

    root: Path
    stanzas: dict[str, str] = field(default_factory=dict)

    @property
    def sources(self) -> Path:
        return self.root / "my.list"

    def add(
        self, name: str, version: str, depends: str = "", *, arch: str = "arm64", about: str = ""
    ) -> Path:
        control = fake.control_text(name, version, arch, depends)
        control = control.replace("made by hand", about or "made by hand")
        data = fake.deb(fake.tar(fake.tar_member(f"./{name}", version.encode())), control)
        path = self.root / f"{name}_{version.rpartition(':')[2]}_{arch}.deb"
        path.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        where = f"Filename: ./{path.name}\nSize: {len(data)}\nSHA256: {digest}\n"
        self.stanzas[path.name] = control + where
        self.publish()
        return path

    def remove(self, path: Path) -> None:
        path.unlink()
        del self.stanzas[path.name]
        self.publish()

    def publish(self) -> None:
        (self.root / "Packages").write_text("\n".join(self.stanzas.values()))
        self.sources.write_text(f"deb [trusted=yes] file:{self.root} ./\n")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "repository").mkdir()
    made = Repository(tmp_path / "repository")
    made.add("linux-image-arm64", "6.1.192-2", "linux-image-6.1.0-56-arm64 (= 6.1.192-2)")
    made.add("linux-image-6.1.0-55-arm64", "6.1.190-1", "kmod")
    made.add("linux-image-6.1.0-56-arm64", "6.1.192-2", "kmod, missing | base (>= 1)")
    made.add("kmod", "1:30-1")
    made.add("base", "2.0", arch="all")
    made.add("base", "10.0", arch="all")
    return made


@pytest.fixture
def state(repository: Repository, tmp_path: Path) -> Callable[..., AptState]:
    """A new `AptState` on the one cache, as a new process would have it."""

    def new(**options: object) -> AptState:
        cache = Cache(tmp_path / "cache")
        return AptState(cache, "arm64", sources=repository.sources, **options)  # type: ignore[arg-type]

    return new


@needs_apt
def test_the_newest_version_is_by_debians_order(state: Callable[..., AptState]) -> None:
    newest = state().newest("base")
    assert newest is not None
    assert newest.version == "10.0"
    assert [package.version for package in state().versions("base")] == ["10.0", "2.0"]
    assert state().newest("nothing-of-the-kind") is None
    assert state().versions("nothing-of-the-kind") == ()


@needs_apt
def test_a_metapackage_leads_to_the_real_one(state: Callable[..., AptState]) -> None:
    real = state().newest("linux-image-arm64", follow=True)
    assert real is not None
    assert real.name == "linux-image-6.1.0-56-arm64"
    assert real.depends == ("kmod", "missing")
    itself = state().newest("linux-image-arm64")
    assert itself is not None
    assert itself.name == "linux-image-arm64"


@needs_apt
def test_a_package_comes_with_all_that_it_needs(
    state: Callable[..., AptState], repository: Repository
) -> None:
    fetched = state().fetch(["linux-image-arm64"], with_depends=True)
    assert [(package.name, package.version) for package in fetched] == [
        ("base", "10.0"),
        ("kmod", "1:30-1"),
        ("linux-image-6.1.0-56-arm64", "6.1.192-2"),
        ("linux-image-arm64", "6.1.192-2"),
    ]
    for package in fetched:
        assert hashlib.sha256(package.path.read_bytes()).hexdigest() == package.sha256


@needs_apt
def test_a_package_comes_alone_and_in_the_version_that_was_asked_for(
    state: Callable[..., AptState],
) -> None:
    (package,) = state().fetch(["base=2.0", "base=2.0"], with_depends=False)
    assert (package.name, package.version) == ("base", "2.0")


@needs_apt
def test_a_warm_cache_needs_neither_repository_nor_apt(
    state: Callable[..., AptState], repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = state().fetch(["linux-image-arm64"], with_depends=True)
    newest = state().newest("kmod")
    for path in repository.root.glob("*.deb"):
        path.unlink()
    monkeypatch.setenv("PATH", "")
    assert state().fetch(["linux-image-arm64"], with_depends=True) == cold
    assert state().newest("kmod") == newest


@needs_apt
def test_an_old_index_is_used_when_the_repository_is_gone_and_a_person_hears_of_it(
    state: Callable[..., AptState], repository: Repository
) -> None:
    cold = state().fetch(["kmod"], with_depends=True)
    (repository.root / "Packages").unlink()
    notes: list[str] = []
    later = state(clock=lambda: cold[0].path.stat().st_mtime + DAY_S, on_note=notes.append)
    assert later.fetch(["kmod"], with_depends=True) == cold
    assert later.newest("kmod") is not None
    (note,) = notes
    assert "could not be refreshed" in note
    assert " UTC is used" in note


@needs_apt
def test_the_index_is_not_fetched_again_within_hours(
    state: Callable[..., AptState], repository: Repository
) -> None:
    state().refresh_if_stale()
    repository.add("base", "11.0", arch="all")
    newest = state().newest("base")
    assert newest is not None
    assert newest.version == "10.0"
    state().refresh_if_stale(max_age_s=0.0)
    newest = state().newest("base")
    assert newest is not None
    assert newest.version == "11.0"


@needs_apt
def test_a_repository_that_moved_on_is_looked_at_once_more(
    state: Callable[..., AptState], repository: Repository
) -> None:
    state().refresh_if_stale()
    repository.remove(repository.root / "kmod_30-1_arm64.deb")
    repository.add("kmod", "1:31-1")
    (package,) = state().fetch(["kmod"], with_depends=True)
    assert package.version == "1:31-1"


@needs_apt
def test_a_file_that_is_not_what_the_index_promises_is_refused(
    state: Callable[..., AptState], repository: Repository, tmp_path: Path
) -> None:
    path = repository.root / "kmod_30-1_arm64.deb"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(RigError, match="Hash Sum mismatch"):
        state().fetch(["kmod"], with_depends=True)
    assert not list((tmp_path / "cache").glob("deb/*/*"))


@needs_apt
def test_a_package_without_a_checksum_is_refused(
    state: Callable[..., AptState], repository: Repository
) -> None:
    name = "kmod_30-1_arm64.deb"
    lines = repository.stanzas[name].splitlines()
    repository.stanzas[name] = "\n".join(x for x in lines if "SHA256" not in x) + "\n"
    repository.publish()
    with pytest.raises(RigError, match="no SHA-256 for kmod=1:30-1"):
        state().fetch(["kmod"], with_depends=True)


@needs_apt
def test_what_there_is_not_is_the_persons_mistake_with_a_hint(
    state: Callable[..., AptState],
) -> None:
    with pytest.raises(UserError, match="no package kmdo for arm64") as caught:
        state().fetch(["kmdo"], with_depends=True)
    assert "kmod" in caught.value.hint
    with pytest.raises(UserError, match=r"no version 3\.0 of base") as caught:
        state().fetch(["base=3.0"], with_depends=False)
    assert "10.0, 2.0" in caught.value.hint


@needs_apt
def test_a_name_is_never_taken_for_a_pattern(state: Callable[..., AptState]) -> None:
    with pytest.raises(UserError, match=r"no package k\.od"):
        state().fetch(["k.od"], with_depends=True)


@needs_apt
def test_what_cannot_be_installed_together_says_why(
    state: Callable[..., AptState], repository: Repository
) -> None:
    repository.add("broken", "1", "nowhere-to-be-found (>= 3)")
    with pytest.raises(RigError, match="apt cannot put broken of arm64 together") as caught:
        state().fetch(["broken"], with_depends=True)
    assert any("nowhere-to-be-found" in line for line in caught.value.evidence)


@needs_apt
def test_a_repository_that_was_never_there_is_the_rigs_fault(
    state: Callable[..., AptState], repository: Repository
) -> None:
    (repository.root / "Packages").unlink()
    with pytest.raises(RigError, match="cannot fetch the package index of arm64") as caught:
        state().newest("kmod")
    assert caught.value.evidence
    assert caught.value.hint


@needs_apt
def test_an_empty_list_of_sources_has_nothing_for_us(
    state: Callable[..., AptState], repository: Repository
) -> None:
    repository.sources.write_text("")
    with pytest.raises(RigError, match="have nothing for arm64"):
        state().newest("kmod")


@needs_apt
def test_many_at_once_share_one_cache(state: Callable[..., AptState]) -> None:
    with ThreadPoolExecutor(6) as pool:
        jobs = [
            pool.submit(state().fetch, ["linux-image-arm64"], with_depends=True) for _ in range(6)
        ]
        first, *others = (job.result() for job in jobs)
    assert all(other == first for other in others)


@needs_apt
def test_hooks_of_the_host_do_not_run(
    state: Callable[..., AptState], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "host.conf"
    hooks = ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success")
    lines = [f'APT::Update::{hook} {{ "touch {tmp_path}/ran"; }};\n' for hook in hooks]
    config.write_text("".join(lines))
    monkeypatch.setenv("APT_CONFIG", str(config))
    state().fetch(["kmod"], with_depends=True)
    assert not (tmp_path / "ran").exists()


def test_a_host_without_apt_says_what_to_do_instead(
    state: Callable[..., AptState], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RigError, match="which this host lacks") as caught:
        state().newest("kmod")
    assert "name a kernel" in caught.value.hint


def test_a_cache_that_cannot_be_written_is_the_rigs_fault(
    repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    state = AptState(Cache(tmp_path / "file"), "arm64", sources=repository.sources)
    with pytest.raises(RigError, match="cannot write to the cache"):
        state.newest("kmod")


@pytest.mark.parametrize(
    "name", ["", "-o", "--download-only", "a b", "a;b", "../x", "a/b", "K", "a="]
)
def test_what_is_no_name_never_reaches_apt(name: str, state: Callable[..., AptState]) -> None:
    with pytest.raises(UserError, match="not the name"):
        state().fetch([name], with_depends=True)


def test_an_architecture_of_another_community_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not an architecture of Debian"):
        AptState(Cache(tmp_path), "x86_64")


# apt's words


@pytest.mark.parametrize(
    ("name", "depends", "about", "real"),
    [
        ("linux-image-amd64", ("linux-image-6.1.0-56-amd64",), "", "linux-image-6.1.0-56-amd64"),
        ("linux-image-cloud-amd64", ("linux-image-6.1.0-56-cloud-amd64",), "",
         "linux-image-6.1.0-56-cloud-amd64"),
        ("linux-image-6.12-amd64", ("linux-image-6.12.9+deb12-amd64",), "Linux (meta-package)",
         "linux-image-6.12.9+deb12-amd64"),
        ("linux-source", ("linux-source-6.1",), "", "linux-source-6.1"),
        ("linux-source-6.1", ("binutils", "xz-utils"), "", None),
        ("linux-headers-6.1.0-56-amd64", ("linux-headers-6.1.0-56-common",), "", None),
        ("linux-image-generic", ("linux-image-6.8.0-40-generic", "linux-modules-6.8.0-40"), "",
         "linux-image-6.8.0-40-generic"),
        ("bash", ("base-files", "debianutils"), "", None),
    ],
)  # fmt: skip
def test_what_a_metapackage_stands_for(
    name: str, depends: tuple[str, ...], about: str, real: str | None
) -> None:
    package = PackageVersion(
        name=name,
        version="1",
        architecture="amd64",
        sha256="",
        size_b=0,
        depends=depends,
        fields={"Description": about},
    )
    assert apt_text.real_name(package) == real


def test_files_to_fetch_are_read_with_their_epochs() -> None:
    text = (
        "Reading package lists...\n"
        "'http://example.org/z/zlib1g_1.2.13_arm64.deb' zlib1g_1%3a1.2.13.dfsg-1_arm64.deb 82744 "
        "MD5Sum:6ba599acc93552795f92ccf3ba0f7360\n"
        "'file:/repo/./base_2.0_all.deb' base_2.0~rc1+b2_all.deb 600 SHA256:00\n"
    )
    assert apt_text.read_uris(text) == ("zlib1g=1:1.2.13.dfsg-1", "base=2.0~rc1+b2")


def test_the_telling_line_is_an_error_before_a_warning() -> None:
    assert apt_text.last_error("Get:1 x\nW: old\nE: no route\n") == "E: no route"
    assert apt_text.last_error("W: old\n") == "W: old"
    assert apt_text.last_error("\n") == "it said nothing"


def test_a_path_that_apt_cannot_be_told_is_refused() -> None:
    with pytest.raises(UserError, match="quote"):
        apt_text.config_text(Path('/tmp/a"b'), "amd64", None)


@given(st.text(max_size=300))
def test_any_text_of_apt_is_read(text: str) -> None:
    apt_text.read_packages(text)
    apt_text.read_uris(text)
    assert apt_text.last_error(text)
