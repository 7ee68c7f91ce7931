"""From a source tree to a kernel, with a real make on a tree of a few files."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.host.cache import Cache
from harness.kernel.build import KernelBuild, build_kernel
from harness.kernel.named import named_kernel
from harness.model.arch import Arch
from harness.model.case import Outcome
from harness.model.errors import RigError, UserError
from harness.model.events import Event, PhaseAdvanced
from harness.vm.arches import load_arch
from tests.fakes import kernel_trees

Build = Callable[..., KernelBuild]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return kernel_trees.kernel_tree(tmp_path / "linux")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def build(tree: Path, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    programs = kernel_trees.programs(tmp_path / "programs")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")

    def call(
        arch: Arch = Arch.X86_64,
        on_event: Callable[[Event], None] = lambda event: None,
        config: Path | None = None,
    ) -> KernelBuild:
        return build_kernel(tree, load_arch(arch), cache, on_event, config=config, jobs=2)

    return call


def outcomes(built: KernelBuild) -> dict[str, Outcome]:
    return {item.case.path[-1]: item.outcome for item in built.cases}


def error_of(built: KernelBuild, part: str) -> str:
    (found,) = (item.error for item in built.cases if item.case.path[-1] == part)
    return found


def compiled(cache: Cache) -> list[str]:
    """What was compiled, in order, over all builds in the one work folder."""
    (log,) = (cache.root / "kernel-work").glob("*/out/compiled")
    return log.read_text().split()


@pytest.mark.parametrize("arch", list(Arch))
def test_a_tree_becomes_a_kernel_with_all_its_parts(build: Build, arch: Arch) -> None:
    built = build(arch)
    kernel = built.kernel
    assert kernel is not None
    assert (kernel.arch, kernel.release) == (arch, kernel_trees.VERSION)
    assert set(outcomes(built).values()) == {Outcome.PASS}
    assert set(outcomes(built)) == {
        "config", "vmlinux", "image", "BTF", "btrfs.ko", "netdevsim.ko",
    }  # fmt: skip
    assert kernel.modules is not None
    assert (kernel.modules / "kernel/fs/btrfs/btrfs.ko").is_file()
    for part in (kernel.btf, kernel.vmlinux, kernel.symvers, kernel.config, built.log):
        assert part is not None
        assert part.is_file()
    assert "CONFIG_BTRFS_FS=m" in (kernel.config or built.log).read_text()
    assert kernel.provenance.kind == "build"


def test_the_artifact_is_a_folder_that_a_person_can_name(build: Build, cache: Cache) -> None:
    kernel = build().kernel
    assert kernel is not None
    folder = kernel.image.parent.parent
    again = named_kernel(str(folder), load_arch(Arch.X86_64), cache, lambda event: None)
    assert (again.release, again.modules) == (kernel.release, kernel.modules)


def test_modules_can_be_built_against_it(build: Build, tree: Path) -> None:
    headers = build().headers
    assert headers is not None
    assert (headers / "Makefile").read_text() == f"include {tree}/Makefile\n"
    assert (headers / "Module.symvers").is_file()
    assert (headers / "vmlinux").is_file()


def test_an_option_that_is_not_granted_is_kept_with_the_reason(build: Build) -> None:
    for built in (build(), build()):  # made, and from the cache
        told = {item.option: item for item in built.not_granted}
        item = told["NOT_IN_THIS_TREE"]
        assert item.reason == "the tree has no such option"
        assert item.origin == "tools/testing/selftests/bpf/config"


def test_the_source_is_never_written_to(build: Build, tree: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {
            str(path): (path.lstat().st_mtime_ns, path.lstat().st_size)
            for path in sorted(tree.rglob("*"))
        }

    before = state()
    build()
    build(Arch.AARCH64)
    assert state() == before


def test_a_second_build_with_nothing_changed_calls_no_make(build: Build, cache: Cache) -> None:
    first = build()
    shutil.rmtree(cache.root / "kernel-work")
    assert build() == first
    assert not (cache.root / "kernel-work").exists()


def test_one_changed_file_costs_one_file(build: Build, tree: Path, cache: Cache) -> None:
    first = build()
    (tree / "fs/btrfs/super.c").write_text("int changed;\n")
    second = build()
    assert first.kernel is not None
    assert second.kernel is not None
    assert first.kernel.provenance.sha256 != second.kernel.provenance.sha256
    assert sorted(compiled(cache)) == sorted(
        ["init/main", "fs/btrfs/super", "drivers/net/netdevsim/netdev", "fs/btrfs/super"]
    )


def test_a_tree_replaced_by_one_with_older_times_is_built_anew(
    build: Build, tree: Path, cache: Cache
) -> None:
    build()
    (tree / "fs/btrfs/super.c").write_text("int older;\n")
    os.utime(tree / "fs/btrfs/super.c", (1_000_000_000, 1_000_000_000))
    built = build()
    assert any("without a newer time" in line for line in built.warnings)
    assert len(compiled(cache)) == 3  # the folder was made again


def test_documents_and_other_architectures_do_not_make_another_kernel(
    build: Build, tree: Path
) -> None:
    first = build()
    for name in ("Documentation/x.rst", "tools/testing/y.c", "arch/arm64/z.c"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("changed\n")
    assert build() == first


def test_a_module_that_does_not_compile_costs_only_itself(build: Build, tree: Path) -> None:
    (tree / "fs/btrfs/super.c").write_text("BROKEN\n")
    built = build()
    assert built.kernel is not None
    assert outcomes(built) == {
        "config": Outcome.PASS, "vmlinux": Outcome.PASS, "image": Outcome.PASS,
        "BTF": Outcome.PASS, "btrfs.ko": Outcome.FAIL, "netdevsim.ko": Outcome.PASS,
    }  # fmt: skip
    assert error_of(built, "btrfs.ko") == (
        "fs/btrfs/super.c:3:1: error: expected ';' before '}' token"
    )
    assert "CONFIG_BTRFS_FS=m" in (built.kernel.config or built.log).read_text()


def test_a_kernel_that_does_not_compile_is_a_finding_and_leaves_no_artifact(
    build: Build, tree: Path, cache: Cache
) -> None:
    (tree / "init/main.c").write_text("BROKEN\n")
    built = build()
    assert built.kernel is None
    assert outcomes(built)["vmlinux"] is Outcome.FAIL
    assert error_of(built, "vmlinux").startswith("init/main.c:3:1: error: expected")
    assert outcomes(built)["image"] is Outcome.NOT_BUILT
    assert outcomes(built)["btrfs.ko"] is Outcome.NOT_BUILT
    assert "expected ';'" in built.log.read_text()
    assert [path for path in (cache.root / "kernel-build").iterdir() if path.is_dir()] == []


def test_a_full_disk_is_the_rigs_fault_and_the_next_call_goes_on(
    build: Build, tree: Path, cache: Cache
) -> None:
    (tree / "fs/btrfs/super.c").write_text("FULL\n")
    with pytest.raises(RigError, match="No space left") as caught:
        build()
    assert "the whole log is" in caught.value.hint
    (tree / "fs/btrfs/super.c").write_text("int fine;\n")
    assert build().kernel is not None
    assert compiled(cache).count("init/main") == 1


def test_types_that_the_tree_cannot_read_fail_the_case_and_not_the_kernel(
    build: Build, tree: Path
) -> None:
    (tree / "include/uapi/linux/btf.h").write_text("enum { BTF_KIND_INT, BTF_KIND_FUNC };\n")
    built = build()
    assert built.kernel is not None
    assert error_of(built, "BTF") == (
        "its types hold STRUCT, FUNC_PROTO, which the tree cannot read"
    )


def test_pahole_is_told_not_to_write_what_an_old_tree_cannot_read(
    build: Build, tree: Path, cache: Cache
) -> None:
    assert any("--skip_encoding_btf_enum64" in line for line in build().choices)
    with (tree / "include/uapi/linux/btf.h").open("a") as file:
        file.write("/* BTF_KIND_ENUM64 */\n")
    assert not any("--skip_encoding_btf_enum64" in line for line in build().choices)


def test_a_config_is_built_from_with_the_recipes_lists_on_top(build: Build, tmp_path: Path) -> None:
    config = tmp_path / "distribution.config"
    config.write_text("CONFIG_BTRFS_FS=y\nCONFIG_OF_THE_DISTRIBUTION=y\n")
    kernel = build(config=config).kernel
    assert kernel is not None
    assert kernel.config is not None
    text = kernel.config.read_text()
    assert "CONFIG_BTRFS_FS=m" in text
    assert "CONFIG_OF_THE_DISTRIBUTION=y" in text


def test_progress_counts_files_and_never_runs_over_its_total(build: Build) -> None:
    events: list[Event] = []
    build(on_event=events.append)
    steps = [event for event in events if isinstance(event, PhaseAdvanced)]
    assert {step.current for step in steps} >= {"init/main.o", "fs/btrfs/super.o", "vmlinux"}
    assert all(step.done <= step.total for step in steps)


def test_two_architectures_are_built_from_one_tree_at_once(build: Build) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        both = list(pool.map(build, Arch))
    assert [item.kernel.arch for item in both if item.kernel] == list(Arch)


def test_a_killed_build_goes_on_and_ends_as_if_it_had_not_been(
    build: Build, tree: Path, cache: Cache, tmp_path: Path
) -> None:
    """The harness is killed while one file compiles: nothing looks whole, the rest is kept."""
    (tree / "drivers/net/netdevsim/netdev.c").write_text("HANG\n")
    script = (
        "import sys; from pathlib import Path; from harness.host.cache import Cache;"
        "from harness.kernel.build import build_kernel; from harness.model.arch import Arch;"
        "from harness.vm.arches import load_arch;"
        "build_kernel(Path(sys.argv[1]), load_arch(Arch.X86_64), Cache(Path(sys.argv[2])),"
        " lambda event: None, jobs=2)"
    )
    child = subprocess.Popen((sys.executable, "-c", script, str(tree), str(cache.root)))
    out = "kernel-work/*/out/{}"
    limit_s = time.monotonic() + 60
    while not list(cache.root.glob(out.format("fs/btrfs/btrfs.ko"))):
        assert time.monotonic() < limit_s
        assert child.poll() is None
        time.sleep(0.02)
    child.kill()
    child.wait()
    assert not [path for path in cache.root.glob("kernel-build/*") if path.suffix == ""]
    (tree / "drivers/net/netdevsim/netdev.c").write_text("int netdev;\n")
    built = build()
    assert any("interrupted" in line for line in built.warnings)
    assert set(outcomes(built).values()) == {Outcome.PASS}


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        (".config", "CONFIG_X=y\n", "a kernel was built in the tree itself"),
        ("include/config/auto.conf", "", "a kernel was built in the tree itself"),
        ("Kconfig", None, "the tree lacks Kconfig"),
        ("arch/x86/Kconfig", None, "no arch/x86 in it"),
        ("Makefile", None, "not a kernel source tree"),
    ],
)
def test_a_tree_that_cannot_be_built_from_is_told_before_anything_is_made(
    build: Build, tree: Path, cache: Cache, name: str, content: str | None, what: str
) -> None:
    if content is None:
        (tree / name).unlink()
    else:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(content)
    with pytest.raises(UserError, match=what):
        build()
    assert not (cache.root / "kernel-work").exists()


def test_a_missing_tool_names_its_package(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "programs" / "pahole").unlink()
    monkeypatch.setenv("PATH", _without_pahole(tmp_path))
    with pytest.raises(RigError, match="no pahole on this host") as caught:
        build()
    assert "dwarves" in caught.value.hint


def _without_pahole(tmp_path: Path) -> str:
    folder = tmp_path / "host"
    folder.mkdir()
    for name in ("make", "bash", "sh", "git"):
        if path := shutil.which(name, path="/usr/bin:/bin"):
            (folder / name).symlink_to(path)
    return f"{tmp_path / 'programs'}:{folder}"


def test_the_manifest_is_for_people_too(build: Build) -> None:
    built = build()
    manifest = json.loads((built.log.parent / "manifest.json").read_text())
    assert manifest["recipe"] == "small"
    assert manifest["release"] == kernel_trees.VERSION
    assert {"part": "btrfs.ko", "outcome": "pass", "error": ""} in manifest["cases"]
