"""`pytest selftests` over fake guests: items, selection, outcomes, and what goes wrong."""

import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.model.arch import Arch
from harness.store.records import read_record
from harness.store.runs import record_paths
from tests.fakes.rig import PROGRAM, Rig

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]
MIXED = {"one": "pass", "two": "fail", "three": "subtests", "four": "skip"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def make(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, shared: Path
) -> Callable[..., Rig]:
    """Makes a rig, and a folder `selftests` whose items run over it."""

    def make_rig(tests: dict[str, str], **script: object) -> Rig:
        rig = Rig(pytester.path / "rig", tests, shared=shared, **script)
        for name, value in rig.environment.items():
            if os.environ.get(name) != value:
                monkeypatch.setenv(name, value)
        source = (rig.data / "selftests" / "test_bpf.py").read_text()
        pytester.mkdir("selftests").joinpath("test_bpf.py").write_text(source)
        pytester.makeconftest("from tests.fakes.rig import install\n\ninstall()\n")
        return rig

    return make_rig


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    def run_pytest(*arguments: str) -> pytest.RunResult:
        return pytester.runpytest_subprocess("selftests", *arguments, timeout=240)

    return run_pytest


def item(name: str, arch: Arch = Arch.X86_64) -> str:
    return f"selftests/test_bpf.py::test_bpf[[]{arch}-bpf/{PROGRAM}/{name}[]]"


def records(pytester: pytest.Pytester) -> list[str]:
    """Cases of the newest run's records."""
    run = max((pytester.path / "results" / "runs").iterdir())
    return [str(case.case) for path in record_paths(run) for case in read_record(path).cases]


def test_each_case_is_an_item_that_ends_as_its_case(
    make: Callable[..., Rig], run: Run, pytester: pytest.Pytester
) -> None:
    rig = make(MIXED, not_built={"five": "five.c:1:2: error: no such thing"})
    done = run("--kernel", rig.kernel(), "--junitxml", "report.xml", "-v")
    done.assert_outcomes(passed=2, failed=2, skipped=1)
    done.stdout.fnmatch_lines(
        [
            f"{item('one')} PASSED*",
            f"{item('two')} FAILED*",
            f"{item('three')} PASSED*",
            f"{item('four')} SKIPPED*",
            f"{item('five')} FAILED*",
            "*test_two:FAIL:attach unexpected error: -524*",
            "*five.c:1:2: error: no such thing*",
            "kernel cases: logs and records are in results/runs/*",
        ]
    )
    assert "Traceback" not in done.stdout.str()
    (suite,) = ET.parse(pytester.path / "report.xml").getroot()
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5",
        "failures": "2",
        "errors": "0",
        "skipped": "1",
    }


def test_k_runs_the_selected_cases_and_no_others(
    make: Callable[..., Rig], run: Run, pytester: pytest.Pytester
) -> None:
    done = run("--kernel", make(MIXED).kernel(), "-k", "one or four")
    done.assert_outcomes(passed=1, skipped=1, deselected=2)
    assert records(pytester) == [f"bpf/{PROGRAM}/four", f"bpf/{PROGRAM}/one"]
    run_folder = max((pytester.path / "results" / "runs").iterdir())
    (path,) = record_paths(run_folder)
    assert read_record(path).selection, "a part is not taken for the whole"


def test_a_node_id_names_one_case(make: Callable[..., Rig], pytester: pytest.Pytester) -> None:
    kernel = make(MIXED).kernel()
    node = item("one").replace("[[]", "[").replace("[]]", "]")
    done = pytester.runpytest_subprocess(node, "--kernel", kernel, timeout=240)
    done.assert_outcomes(passed=1)
    assert records(pytester) == [f"bpf/{PROGRAM}/one"]


def test_lf_runs_what_failed_last(
    make: Callable[..., Rig], run: Run, pytester: pytest.Pytester
) -> None:
    kernel = make(MIXED).kernel()
    run("--kernel", kernel).assert_outcomes(passed=2, failed=1, skipped=1)
    done = run("--kernel", kernel, "--lf")
    done.assert_outcomes(failed=1)
    assert records(pytester) == [f"bpf/{PROGRAM}/two"]


def test_x_stops_at_the_first_failure_and_ends_the_guest(
    make: Callable[..., Rig], run: Run
) -> None:
    rig = make({"one": "fail", "two": "hang", "three": "pass"})
    done = run("--kernel", rig.kernel(), "-x")
    done.assert_outcomes(failed=1)
    assert rig.processes() == []


def test_a_crash_is_a_failure_and_the_rest_runs_on(make: Callable[..., Rig], run: Run) -> None:
    rig = make({"one": "pass", "two": "panic_x86", "three": "pass"})
    done = run("--kernel", rig.kernel())
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(["*bpf/test_progs/two on x86_64: crash*"])


def test_a_kernel_that_does_not_boot_fails_its_cases(make: Callable[..., Rig], run: Run) -> None:
    done = run("--kernel", make({"one": "pass"}, boots=["no_init"]).kernel())
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*VFS: Unable to mount root fs*"])


def test_a_rig_that_fails_is_an_error_and_no_failure(
    make: Callable[..., Rig], run: Run, pytester: pytest.Pytester
) -> None:
    done = run("--kernel", make(MIXED, boots=["refuses"]).kernel(), "--junitxml", "report.xml")
    done.assert_outcomes(errors=4)
    done.stdout.fnmatch_lines(["*could not load kernel*"])
    (suite,) = ET.parse(pytester.path / "report.xml").getroot()
    assert (suite.get("failures"), suite.get("errors")) == ("0", "4")


def test_two_architectures_are_two_items_a_case(make: Callable[..., Rig], run: Run) -> None:
    rig = make({"one": "pass"})
    kernels = (f"x86_64={rig.kernel()}", f"aarch64={rig.kernel(Arch.AARCH64)}")
    done = run("--kernel", kernels[0], "--kernel", kernels[1], "-v")
    done.assert_outcomes(passed=2)
    done.stdout.fnmatch_lines([f"{item('one')} PASSED*", f"{item('one', Arch.AARCH64)} PASSED*"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--kernel", "nowhere/bzImage"), "no such kernel: nowhere/bzImage"),
        (("--arch", "sparc"), "x86_64 or aarch64"),
        (("--profile", "slow"), "slow"),
    ],
)
def test_wrong_usage_is_told_without_a_traceback(
    make: Callable[..., Rig], run: Run, arguments: tuple[str, ...], text: str
) -> None:
    make(MIXED)
    done = run(*arguments)
    said = done.stdout.str() + done.stderr.str()
    assert text in said
    assert "Traceback" not in said
    assert "harness/plugin.py" not in said
    assert done.ret in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR)


def test_distribution_over_processes_is_refused(
    make: Callable[..., Rig], run: Run, pytester: pytest.Pytester
) -> None:
    rig = make(MIXED)
    # What xdist gives each of its workers.
    pytester.makeconftest("def pytest_configure(config):\n    config.workerinput = {}\n")
    done = run("--kernel", rig.kernel())
    done.stdout.fnmatch_lines(["*call pytest without -n*"])
    assert not (pytester.path / "results").exists()


def test_a_session_without_kernel_cases_loads_nothing_heavy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing_heavy():
            rooms = {name for name in sys.modules if name.startswith("harness.")}
            assert "harness.plugin" in rooms
            assert all(n.startswith(("harness.plugin", "harness.model")) for n in rooms), rooms
            heavy = {"msgspec", "rich", "pexpect", "elftools", "qemu", "jinja2", "zstandard"}
            assert not heavy & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_what_is_prepared_is_told_before_the_first_item(make: Callable[..., Rig], run: Run) -> None:
    done = run("--kernel", make({"one": "pass"}).kernel())
    done.stdout.fnmatch_lines(["x86_64: note: CONFIG_BPF_SYSCALL is not set*", "collected 1 item"])


def test_the_run_can_be_gated_and_explained_later(
    make: Callable[..., Rig], run: Run, pytester: pytest.Pytester
) -> None:
    rig = make({"one": "fail"})
    kernel = rig.kernel()
    run("--kernel", kernel).assert_outcomes(failed=1)
    (folder,) = (pytester.path / "results" / "runs").iterdir()
    assert json.loads((folder / "call.json").read_text()) == {"kernel_args": ["--kernel", kernel]}
