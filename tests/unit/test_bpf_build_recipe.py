"""Building: a small tree, real make, real C compiler; what breaks costs what needs it, no more."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.host.cache import Cache, digest_of
from harness.host.command import run
from harness.model.arch import Arch
from harness.model.errors import KernelError, UserError
from harness.model.events import Event, PhaseAdvanced
from harness.model.kernel import KernelArtifact, Provenance, SelftestsArtifact, SourceTree
from harness.suites.bpf.build import build_selftests
from harness.vm.arches import load_arch
from tests.fakes import selftests_tree as fake

pytestmark = pytest.mark.skipif(
    not (shutil.which("make") and shutil.which("gcc")) or os.uname().machine not in set(Arch),
    reason="needs make and gcc",
)

_ALL = ("alpha", "beta", "beta2", "light", "linked", "open1", "open2", "resolve_btfids")

Build = Callable[..., SelftestsArtifact]


def _kernel(btf: Path | None) -> KernelArtifact:
    return KernelArtifact(
        arch=Arch(os.uname().machine),
        release="9.0.0",
        image=Path("/vmlinuz"),
        modules=None,
        config=None,
        btf=btf,
        provenance=Provenance(kind="paths", name="", version="", sha256=""),
    )


def _tree(path: Path) -> SourceTree:
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return SourceTree(path=path, name="fake tree", version="9", sha256=digest_of(*files))


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Builds a tree for this host, with fake LLVM tools and a cache of its own."""
    tools = fake.write_tools(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    btf = tmp_path / "btf"
    btf.write_bytes(b"\x9f\xeb\x01\x00")
    kernel = _kernel(btf)

    def call(tree: Path, name: str = "cache") -> SelftestsArtifact:
        cache = Cache(tmp_path / name)
        return build_selftests(_tree(tree), kernel, load_arch(kernel.arch), cache, events.append)

    return call


events: list[Event] = []


@pytest.fixture(autouse=True)
def _no_events() -> None:
    events.clear()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return fake.write_tree(tmp_path / "linux")


def _tests(artifact: SelftestsArtifact, program: str = "test_progs") -> tuple[str, ...]:
    (listing,) = (each for each in artifact.runners if each.program == program)
    return listing.tests


def _lost(artifact: SelftestsArtifact) -> dict[str, str]:
    return {"/".join(entry.case_path): entry.error for entry in artifact.not_built}


def test_a_whole_tree_gives_every_program_its_files_and_its_listing(
    build: Build, tree: Path
) -> None:
    artifact = build(tree)
    assert _tests(artifact) == _ALL
    assert _tests(artifact, "test_verifier") == ("and: one two", "atomic xchg", 'or "three"')
    assert _tests(artifact, "test_maps") == ("test_maps", "batch")
    assert set(_lost(artifact)) == {"bpf_testmod.ko"}
    assert {test for test, _ in artifact.source_hashes} == set(_ALL)
    names = {path.name for path in artifact.root.iterdir()}
    assert {"test_progs", "alpha.bpf.o", "both1.bpf.o", "setup.sh", "urandom_read"} <= names
    assert "btf_dump_test_case_syntax.c" in names
    assert not {name for name in names if name.endswith((".test.o", ".skel.h"))}
    assert run((str(artifact.root / "test_progs"),)).status == 0
    steps = [event for event in events if isinstance(event, PhaseAdvanced)]
    assert [event.done for event in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].done == steps[-1].total


def test_a_warm_load_builds_nothing(build: Build, tree: Path) -> None:
    first = build(tree)
    events.clear()
    assert build(tree) == first
    assert events == []


def test_the_same_inputs_give_the_same_bytes_in_another_cache(build: Build, tree: Path) -> None:
    first, second = build(tree), build(tree, "another/cache")
    assert first.root != second.root
    files = {path.name: path.read_bytes() for path in first.root.iterdir() if path.is_file()}
    assert {p.name: p.read_bytes() for p in second.root.iterdir() if p.is_file()} == files


def test_the_source_tree_is_never_written_to(build: Build, tree: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    fake.break_source(tree, "progs/alpha.c")
    before |= {path: path.stat().st_mtime_ns for path in tree.rglob("alpha.c")}
    build(tree)
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == before


def test_an_object_that_does_not_compile_costs_the_tests_that_embed_it(
    build: Build, tree: Path
) -> None:
    fake.break_source(tree, "progs/beta.c")
    artifact = build(tree)
    assert set(_ALL) - set(_tests(artifact)) == {"beta", "beta2"}
    error = "progs/beta.c:1:1: error: unknown type name 'BROKEN'"
    assert _lost(artifact)["test_progs/beta"] == error
    assert _lost(artifact)["test_progs/beta2"] == error
    assert run((str(artifact.root / "test_progs"),)).status == 0


def test_a_broken_part_of_a_linked_object_costs_the_tests_of_the_whole(
    build: Build, tree: Path
) -> None:
    fake.break_source(tree, "progs/both2.c")
    artifact = build(tree)
    assert set(_ALL) - set(_tests(artifact)) == {"linked"}
    assert artifact.not_built[0].object_name == "progs/both2.c"


def test_a_light_skeleton_that_is_not_generated_costs_its_test_and_keeps_its_object(
    build: Build, tree: Path
) -> None:
    fake.break_source(tree, "progs/light.c", "/* NOSKEL */\n")
    artifact = build(tree)
    assert set(_ALL) - set(_tests(artifact)) == {"light"}
    (entry,) = (each for each in artifact.not_built if each.case_path[-1] == "light")
    assert entry.stage == "skeleton"
    assert entry.error.startswith("libbpf: failed to find BTF for extern")
    assert (artifact.root / "light.bpf.o").is_file()


def test_a_test_that_only_opens_a_missing_object_is_lost_and_its_neighbour_is_not(
    build: Build, tree: Path
) -> None:
    fake.break_source(tree, "progs/open1.c")
    artifact = build(tree)
    assert set(_ALL) - set(_tests(artifact)) == {"open1"}
    assert "test_progs/open1" in _lost(artifact)


def test_an_object_that_nobody_needs_is_told_by_itself(build: Build, tree: Path) -> None:
    fake.break_source(tree, "progs/alone.c")
    artifact = build(tree)
    assert _tests(artifact) == _ALL
    assert "progs/alone.c" in _lost(artifact)


def test_test_code_that_does_not_compile_or_link_costs_its_own_file(
    build: Build, tree: Path
) -> None:
    fake.break_source(tree, "prog_tests/alpha.c", "int x = nosuch;\n")
    fake.break_source(tree, "prog_tests/light.c", "int far(void);\nint y(void) { return far(); }\n")
    artifact = build(tree)
    assert set(_ALL) - set(_tests(artifact)) == {"alpha", "light"}
    stages = {entry.case_path[-1]: entry.stage for entry in artifact.not_built}
    assert stages["alpha"] == "test object"
    assert stages["light"] == "link"
    assert "undefined reference to" in _lost(artifact)["test_progs/light"]


def test_lists_of_ids_that_cannot_be_filled_in_cost_the_one_test_of_them(
    build: Build, tree: Path
) -> None:
    fake.break_source(tree, "progs/btf_data.c")
    artifact = build(tree)
    assert set(_ALL) - set(_tests(artifact)) == {"resolve_btfids"}
    assert "FAILED: load BTF from" in _lost(artifact)["test_progs/resolve_btfids"]


def test_a_runner_that_does_not_compile_loses_each_of_its_tests_and_no_other_program(
    build: Build, tree: Path
) -> None:
    fake.break_source(tree, "test_progs.c", "int x = nosuch;\n")
    artifact = build(tree)
    assert [listing.program for listing in artifact.runners] == ["test_verifier", "test_maps"]
    lost = _lost(artifact)
    assert {f"test_progs/{name}" for name in _ALL} <= set(lost)
    assert "nosuch" in lost["test_progs/alpha"]


def test_a_build_inside_make_is_the_same_build(
    build: Build, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAKELEVEL", "1")
    monkeypatch.setenv("MAKEFLAGS", "w -- CC=/nonexistent")
    monkeypatch.setenv("CFLAGS", "-Dtest_alpha=main")
    assert _tests(build(tree)) == _ALL


def test_two_builds_from_one_tree_at_once_give_the_same(build: Build, tree: Path) -> None:
    with ThreadPoolExecutor(max_workers=2) as pool:
        first, second = pool.map(build, (tree, tree))
    assert first == second
    assert _tests(first) == _ALL


def test_leftovers_of_a_build_in_the_tree_are_not_taken_for_results(
    build: Build, tree: Path
) -> None:
    folder = tree / fake.BPF
    (folder / "test_progs").write_bytes(b"\x7fELF of another day")
    (folder / "alpha.bpf.o").write_text("old")
    (folder / "prog_tests/tests.h").write_text("DEFINE_TEST(gone)\n")
    artifact = build(tree)
    assert _tests(artifact) == _ALL
    assert (artifact.root / "alpha.bpf.o").read_text() == "int alpha;\n"


def test_when_no_object_compiles_the_kernel_is_blamed_and_the_log_is_kept(
    build: Build, tree: Path, tmp_path: Path
) -> None:
    for path in (tree / fake.BPF / "progs").glob("*.c"):
        fake.break_source(tree, f"progs/{path.name}")
    with pytest.raises(KernelError, match="not one of 10 BPF objects compiles") as raised:
        build(tree)
    (log,) = (tmp_path / "cache/logs").iterdir()
    assert str(log) in raised.value.hint
    assert "BROKEN" in log.read_text()
    assert not list((tmp_path / "cache/selftests").glob("*.partial"))


def test_a_kernel_without_types_is_told_before_anything_is_built(
    tree: Path, tmp_path: Path
) -> None:
    kernel = _kernel(None)
    with pytest.raises(KernelError, match="carries no BTF"):
        build_selftests(
            _tree(tree), kernel, load_arch(kernel.arch), Cache(tmp_path / "cache"), events.append
        )
    assert not (tmp_path / "cache").exists()


def test_a_tree_imported_under_its_own_gitignore_is_told_with_the_missing_files(
    build: Build, tree: Path
) -> None:
    (tree / fake.BPF / "test_progs.c").unlink()
    (tree / fake.BPF / "test_progs.h").unlink()
    with pytest.raises(UserError, match=r"lacks .*test_progs\.c, .*test_progs\.h") as raised:
        build(tree)
    assert ".gitignore" in raised.value.hint


def test_a_folder_that_is_no_kernel_tree_is_told(build: Build, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no BPF selftests"):
        build(tmp_path / "empty")


def test_an_interrupted_build_leaves_no_half_of_an_artifact(
    build: Build, tree: Path, tmp_path: Path
) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, PhaseAdvanced) and event.done == 3:
            raise KeyboardInterrupt

    kernel = _kernel(tmp_path / "btf")
    with pytest.raises(KeyboardInterrupt):
        build_selftests(
            _tree(tree), kernel, load_arch(kernel.arch), Cache(tmp_path / "cache"), interrupt
        )
    assert not [path for path in (tmp_path / "cache/selftests").iterdir() if path.is_dir()]
    assert _tests(build(tree)) == _ALL
