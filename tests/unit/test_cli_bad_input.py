"""What bad input gets: one message with what happened, the value and what to try; nothing is lost.

Each case goes through the command line as a person types it. Nothing here boots.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.cli import main
from harness.model.arch import Arch
from harness.model.errors import ExitStatus
from tests.fakes import kernels
from tests.fakes import packages as fake
from tests.fakes.rig import RELEASE, ROOT

MODULES = f"lib/modules/{RELEASE}"


@dataclass(frozen=True)
class Said:
    """How a call ended, and what it said."""

    status: int
    out: str
    err: str

    def tells(self, *texts: str) -> None:
        """One message, with these texts in it, what to try, and whose fault it is."""
        message = [line for line in self.err.splitlines() if line.startswith("harness: ")]
        assert len(message) == 1, self.err
        for text in texts:
            assert text in self.err
        assert "Traceback" not in self.err
        assert "  try     " in self.err
        assert f"(exit status {self.status})" in self.err


Call = Callable[..., Said]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Calls the command line in an empty folder with an empty cache."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, **environment: str) -> Said:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        try:
            status = main([str(each) for each in arguments])
        except SystemExit as end:  # argparse's way
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        return Said(status, out, err)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A kernel's folder: image, modules, config."""
    kernels.module_tree(tmp_path, RELEASE, kernels.VIRTIO)
    (tmp_path / "bzImage").write_bytes(kernels.bzimage(RELEASE))
    (tmp_path / "config").write_text(kernels.CONFIG.format(kernel_arch="x86"))
    return tmp_path


def named(folder: Path, image: str = "bzImage", config: str = "config") -> str:
    return f"{folder / image},{folder / MODULES},{folder / config}"


# -- kernels that are none, or cannot run here -----------------------------------------------------


def test_a_text_file_is_no_kernel(call: Call, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello\n" * 100)
    said = call("run", "--kernel", "notes.txt")
    assert said.status == ExitStatus.USAGE
    said.tells("notes.txt: not a kernel image", "bzImage")
    assert not list((tmp_path / "results").glob("runs/*")), "a wrong call leaves no run behind"


def test_an_empty_file_is_no_kernel(call: Call) -> None:
    said = call("boot", "--kernel", "/dev/null")
    assert said.status == ExitStatus.USAGE
    said.tells("/dev/null: the file is empty")


def test_a_kernel_that_is_not_there_is_named(call: Call) -> None:
    said = call("run", "--gate", "--kernel", "nowhere/bzImage")
    assert said.status == ExitStatus.USAGE
    said.tells("nowhere/bzImage")


def test_a_kernel_of_another_architecture_is_not_run(call: Call, folder: Path) -> None:
    said = call("run", "--arch", "aarch64", "--kernel", named(folder))
    assert said.status == ExitStatus.USAGE
    said.tells("a kernel for x86_64, and aarch64 was asked for", "--arch x86_64")


def test_a_kernel_without_types_is_told_before_anything_is_built(call: Call, folder: Path) -> None:
    (folder / "bare").write_bytes(kernels.bzimage(RELEASE, types=b""))
    tree = selftests_tree(folder / "linux")
    said = call("run", "--kernel", named(folder, "bare"), "--source", tree)
    assert said.status == ExitStatus.REJECT
    said.tells(f"kernel {RELEASE} carries no BTF", "CONFIG_DEBUG_INFO_BTF")


def selftests_tree(root: Path) -> Path:
    """The least that looks like a tree with selftests."""
    place = root / "tools/testing/selftests/bpf"
    for name in ("prog_tests", "progs"):
        (place / name).mkdir(parents=True)
    for name in ("Makefile", "test_progs.c", "test_progs.h"):
        (place / name).write_text("\n")
    (root / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\nEXTRAVERSION =\n")
    return root


def test_a_kernel_without_virtio_drivers_is_the_kernels_fault(call: Call, folder: Path) -> None:
    lines = (folder / "config").read_text().splitlines()
    (folder / "config").write_text("\n".join(line for line in lines if "VIRTIO" not in line))
    said = call("run", "--kernel", named(folder))
    assert said.status == ExitStatus.REJECT
    said.tells("VIRTIO_PCI", "VIRTIO_CONSOLE", "is not set")


def test_modular_virtio_drivers_without_modules_ask_for_the_modules(
    call: Call, folder: Path
) -> None:
    said = call("boot", "--kernel", f"{folder / 'bzImage'},,{folder / 'config'}")
    assert said.status == ExitStatus.REJECT
    said.tells("CONFIG_VIRTIO_PCI=m, and no modules were given", "IMAGE,MODULES")


def test_two_kernels_of_one_architecture_are_told_apart_by_name(call: Call, folder: Path) -> None:
    said = call("run", "--kernel", named(folder), "--kernel", folder / "bzImage")
    assert said.status == ExitStatus.USAGE
    said.tells("two kernels for x86_64", "ARCH=KERNEL")


def test_a_kernel_that_arch_leaves_out_is_a_contradiction(call: Call, folder: Path) -> None:
    kernel = named(folder)
    both = ("--kernel", f"x86_64={kernel}", "--kernel", f"aarch64={kernel}")
    said = call("run", *both, "--arch", "x86_64")
    assert said.status == ExitStatus.USAGE
    said.tells("--arch leaves aarch64 out")


# -- packages ----------------------------------------------------------------------------------


def package(folder: Path, *names: str) -> Path:
    members = [fake.tar_member(name, b"x") for name in names]
    image = fake.tar_member(f"./boot/vmlinuz-{RELEASE}", kernels.bzimage(RELEASE))
    control = fake.control_text("linux-image-x", "6.1.1-1", "amd64")
    path = folder / "linux-image.deb"
    path.write_bytes(fake.deb(fake.tar(*members, image), control))
    return path


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_package_is_told_as_such(call: Call, tmp_path: Path, share: float) -> None:
    path = package(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    said = call("unpack", path)
    assert said.status == ExitStatus.USAGE
    assert "linux-image.deb: truncated" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("name", ["../../evil", "/evil", "./boot/../../../evil"])
def test_a_member_that_points_outside_is_refused_and_nothing_is_written(
    call: Call, tmp_path: Path, name: str
) -> None:
    said = call("unpack", package(tmp_path, name))
    assert said.status == ExitStatus.USAGE
    said.tells("refused: its member", "outside of its folder")
    assert not list(tmp_path.rglob("evil"))
    assert not list((tmp_path / "cache").rglob("*.partial"))


# -- configuration -----------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A copy of what people decide, to be changed."""
    for name in ("configs", "selftests"):
        shutil.copytree(ROOT / name, tmp_path / "data" / name)
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("file", "arguments"),
    [
        ("arches/x86_64.toml", ("boot", "--kernel")),
        ("gate/release.toml", ("run", "--gate", "--kernel")),
        ("causes/bpf.toml", ("run", "--kernel")),
        ("renames/bpf.toml", ("run", "--kernel")),
    ],
)
def test_an_unknown_key_is_named_with_its_file_before_anything_runs(
    call: Call, folder: Path, data: Path, file: str, arguments: Sequence[str]
) -> None:
    path = data / "configs" / file
    path.write_text(f"spelinng = 1\n{path.read_text()}")
    said = call(*arguments, named(folder), HARNESS_DATA=str(data))
    assert said.status == ExitStatus.USAGE
    said.tells(str(path), "spelinng")
    assert not list((folder / "results").glob("runs/*"))


def test_a_waiver_with_an_unknown_key_is_named(call: Call, folder: Path, data: Path) -> None:
    (data / "configs/waivers/mine.toml").write_text('[[waiver]]\ncase = "x"\nbecause = "no"\n')
    said = call("run", "--gate", "--kernel", named(folder), HARNESS_DATA=str(data))
    assert said.status == ExitStatus.USAGE
    said.tells("mine.toml")


def test_a_place_without_configs_is_no_place_for_them(call: Call, tmp_path: Path) -> None:
    said = call("plan", HARNESS_DATA=str(tmp_path))
    assert said.status == ExitStatus.USAGE
    said.tells(f"HARNESS_DATA={tmp_path}")


# -- the host ----------------------------------------------------------------------------------


def test_a_missing_qemu_is_told_before_anything_is_built(
    call: Call, folder: Path, tmp_path: Path
) -> None:
    said = call("run", "--kernel", named(folder), PATH=str(tmp_path / "empty"))
    assert said.status == ExitStatus.INCONCLUSIVE
    said.tells("no QEMU for x86_64", "qemu-system-x86_64", "install it")
    assert not list((tmp_path / "cache").glob("selftests*"))


@pytest.mark.parametrize("place", ["/proc/harness", "/dev/null/harness"])
def test_a_results_folder_that_cannot_be_is_told_before_anything_is_built(
    call: Call, folder: Path, place: str
) -> None:
    said = call("run", "--kernel", named(folder), "--results", place)
    assert said.status == ExitStatus.USAGE
    said.tells(place, "--results")


def test_a_file_in_place_of_the_runs_is_named(call: Call, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "runs").write_text("")
    said = call("run", "--kernel", named(folder))
    assert said.status == ExitStatus.USAGE
    said.tells("results/runs")


def test_a_cache_that_cannot_be_is_told_with_its_place(call: Call, folder: Path) -> None:
    said = call("boot", "--kernel", named(folder), HARNESS_CACHE="/proc/harness")
    assert said.status == ExitStatus.INCONCLUSIVE
    said.tells("/proc/harness", "HARNESS_CACHE")


# -- files of runs -----------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["gate", "report", "compare"])
def test_a_run_that_is_not_there_is_named(call: Call, verb: str) -> None:
    said = call(verb, "20260101-000000-abcd")
    assert said.status == ExitStatus.USAGE
    said.tells("no such run: 20260101-000000-abcd", "results/runs")


def test_no_run_at_all_is_told(call: Call) -> None:
    said = call("gate")
    assert said.status == ExitStatus.USAGE
    said.tells("results/runs", "`harness run` makes one")


def test_a_folder_without_results_is_no_run(call: Call, tmp_path: Path) -> None:
    (tmp_path / "results/runs/20260101-000000-abcd").mkdir(parents=True)
    said = call("report", "20260101-000000-abcd")
    assert said.status == ExitStatus.USAGE
    said.tells("20260101-000000-abcd")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cases": {}, "schema": 1}', "\x00\xff"])
def test_a_damaged_record_is_named_with_its_line(call: Call, tmp_path: Path, text: str) -> None:
    cell = tmp_path / "results/runs/20260101-000000-abcd/x86_64-bpf"
    cell.mkdir(parents=True)
    (cell / "record.json").write_text(text, encoding="latin-1")
    said = call("gate")
    assert said.status == ExitStatus.USAGE
    said.tells("record.json")
    assert (cell / "record.json").read_text(encoding="latin-1") == text


@pytest.mark.parametrize("verb", ["gate", "report"])
def test_a_policy_that_is_not_there_is_named_with_those_that_are(call: Call, verb: str) -> None:
    said = call(verb, "--policy", "friday")
    assert said.status == ExitStatus.USAGE
    said.tells("friday", "release")


@pytest.mark.parametrize("day", ["tomorrow", "2026-13-01", "01/02/2026", ""])
def test_a_wrong_day_is_told_before_anything_runs(call: Call, folder: Path, day: str) -> None:
    said = call("run", "--gate", "--kernel", named(folder), "--today", day)
    assert said.status == ExitStatus.USAGE
    said.tells(f"not a day: {day!r}", "2027-03-31")


def test_a_report_is_not_written_where_there_is_no_folder(call: Call, tmp_path: Path) -> None:
    said = call("report", "--format", "html", "--output", tmp_path / "no" / "report.html")
    assert said.status == ExitStatus.USAGE
    said.tells("no/report.html")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("path", ["nowhere.log", "."])
def test_a_log_that_cannot_be_read_is_named(call: Call, path: str) -> None:
    said = call("parse", path)
    assert said.status == ExitStatus.USAGE
    said.tells(path)


def test_a_log_without_results_is_no_log(call: Call, tmp_path: Path) -> None:
    (tmp_path / "some.log").write_text("nothing of interest\n")
    said = call("parse", "some.log")
    assert said.status == ExitStatus.USAGE
    said.tells("some.log", "--program-name")


# -- usage -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (("run", "--arch", "sparc"), ("sparc", "x86_64 or aarch64")),
        (("run", "--repeat", "0"), ("1 or more", "'0'")),
        (("run", "--repeat", "many"), ("1 or more", "'many'")),
        (("run", "--budget-factor", "nan"), ("above 0", "'nan'")),
        (("run", "--budget-factor", "-1"), ("above 0",)),
        (("run", "--profile", "slow"), ("slow", "quick")),
        (("shell", "--memory", "lots"), ("1 or more", "'lots'")),
        (("report", "--format", "pdf"), ("pdf", "junit")),
        (("fly",), ("fly", "doctor")),
        ((), ("VERB",)),
    ],
)
def test_wrong_usage_is_told_with_what_there_is(
    call: Call, arguments: Sequence[str], texts: Sequence[str]
) -> None:
    said = call(*arguments)
    assert said.status == ExitStatus.USAGE
    assert all(text in said.err for text in texts), said.err
    assert "Traceback" not in said.err


def test_a_baseline_without_a_role_asks_for_one(call: Call) -> None:
    said = call("baseline", "promote")
    assert said.status == ExitStatus.USAGE
    said.tells("--role 5.12")


@pytest.mark.parametrize("arch", list(Arch))
def test_a_baseline_that_is_not_there_is_told(call: Call, arch: Arch) -> None:
    said = call("baseline", "show", "--role", "stream9", "--arch", arch)
    assert said.status == ExitStatus.USAGE
    said.tells("there is no stream9 baseline")
