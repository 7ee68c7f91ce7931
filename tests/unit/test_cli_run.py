"""`harness run` as a person sees it, over fake guests: statuses, interruptions, a host's refusals.

The real command line in a process of its own; only compiler, distribution and QEMU are not.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import main
from harness.model.arch import Arch
from harness.model.case import Outcome
from harness.model.errors import ExitStatus
from harness.store.records import read_record
from harness.store.runs import read_events, record_paths
from tests.fakes.rig import Rig, interrupt

PASSES = {"one": "pass", "two": "pass"}
SOON_S = 10.0
"""An interrupted run ends within two seconds; a busy machine may take more."""


MakeRig = Callable[..., Rig]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def rig_of(tmp_path: Path, shared: Path) -> MakeRig:
    """Makes a rig of tests with their faults; QEMU is probed once for all of them."""

    def make(tests: dict[str, str], **script: object) -> Rig:
        return Rig(tmp_path / "rig", tests, shared=shared, **script)

    return make


def outcomes(run: Path) -> dict[str, Outcome]:
    """Each case's last outcome, from the records on disk."""
    return {
        str(entry.case): entry.attempts[-1].outcome
        for path in record_paths(run)
        for entry in read_record(path).cases
    }


# -- statuses ----------------------------------------------------------------------------------


def test_a_run_says_what_it_does_and_ends_with_0(rig_of: MakeRig) -> None:
    rig = rig_of({"one": "pass", "two": "fail"})
    done = rig.call("run", "--kernel", rig.kernel())
    assert done.returncode == ExitStatus.ACCEPT, done.stderr
    (run,) = rig.runs()
    assert outcomes(run) == {
        "bpf/test_progs/one": Outcome.PASS,
        "bpf/test_progs/two": Outcome.FAIL,
    }
    assert "FAIL bpf/test_progs/two" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert rig.processes() == []


def test_a_gate_without_baselines_cannot_tell_and_names_them(rig_of: MakeRig) -> None:
    rig = rig_of(PASSES)
    done = rig.call("run", "--gate", "--kernel", rig.kernel())
    assert done.returncode == ExitStatus.INCONCLUSIVE
    assert "there is no 5.12 baseline" in done.stdout
    assert "there is no Stream 9 baseline" in done.stdout


def test_a_kernel_that_panics_in_its_boot_is_rejected_with_the_panic(rig_of: MakeRig) -> None:
    rig = rig_of(PASSES, boots=["no_init"])
    done = rig.call("run", "--gate", "--kernel", rig.kernel())
    assert done.returncode == ExitStatus.REJECT, done.stdout + done.stderr
    assert "VFS: Unable to mount root fs" in done.stdout
    (run,) = rig.runs()
    assert set(outcomes(run).values()) == {Outcome.LOST}
    again = rig.call("gate")
    assert again.returncode == ExitStatus.REJECT, "files alone say the same"
    assert "VFS: Unable to mount root fs" in again.stdout


def test_a_kernel_that_cannot_boot_is_its_own_fault_without_a_gate_too(rig_of: MakeRig) -> None:
    rig = rig_of(PASSES, boots=["no_init"])
    assert rig.call("run", "--kernel", rig.kernel()).returncode == ExitStatus.REJECT
    assert rig.call("boot", "--kernel", rig.kernel()).returncode == ExitStatus.REJECT


def test_a_qemu_that_refuses_is_the_rigs_fault(rig_of: MakeRig) -> None:
    rig = rig_of(PASSES, boots=["refuses"])
    for verb in (("run",), ("run", "--gate"), ("boot",)):
        done = rig.call(*verb, "--kernel", rig.kernel())
        assert done.returncode == ExitStatus.INCONCLUSIVE, done.stdout + done.stderr
        assert "could not load kernel" in done.stdout + done.stderr


def test_one_architecture_that_cannot_be_prepared_blocks_and_the_other_is_run(
    rig_of: MakeRig,
    tmp_path: Path,
) -> None:
    rig = rig_of(PASSES)
    image, modules, _ = rig.kernel(Arch.AARCH64).split(",")
    bare = tmp_path / "bare.config"
    bare.write_text("CONFIG_PCI=y\n")
    broken = ("--kernel", f"aarch64={image},{modules},{bare}")
    done = rig.call("run", "--gate", "--kernel", f"x86_64={rig.kernel()}", *broken)
    assert done.returncode == ExitStatus.REJECT, done.stdout + done.stderr
    assert "CONFIG_VIRTIO_PCI is not set" in done.stdout
    (run,) = rig.runs()
    assert set(outcomes(run).values()) == {Outcome.PASS}
    again = rig.call("gate")
    assert again.returncode == ExitStatus.REJECT, "what was not run is not forgotten"
    assert "CONFIG_VIRTIO_PCI is not set" in again.stdout


def test_what_was_not_built_is_told_with_its_error(rig_of: MakeRig) -> None:
    rig = rig_of(PASSES, not_built={"three": "three.c:1: error: no such thing"})
    done = rig.call("run", "--kernel", rig.kernel())
    assert done.returncode == ExitStatus.ACCEPT
    (run,) = rig.runs()
    assert outcomes(run)["bpf/test_progs/three"] is Outcome.NOT_BUILT


def test_a_case_that_matches_nothing_is_the_persons_mistake(rig_of: MakeRig) -> None:
    rig = rig_of(PASSES)
    done = rig.call("run", "--gate", "--kernel", rig.kernel(), "--only", "onne")
    assert done.returncode == ExitStatus.USAGE
    assert "no case matches onne" in done.stderr
    assert rig.runs() == [], "a wrong call leaves no run behind"


def test_a_dry_run_prints_a_command_that_a_shell_takes(rig_of: MakeRig) -> None:
    rig = rig_of(PASSES)
    done = rig.call("run", "--kernel", rig.kernel(), "--dry-run")
    assert done.returncode == ExitStatus.ACCEPT, done.stderr
    command = done.stdout.splitlines()[-1]
    assert "-kernel" in command
    checked = subprocess.run(("bash", "-n", "-c", command), check=False)
    assert checked.returncode == 0
    assert rig.runs() == []


def test_what_a_kernel_lacks_is_noted_once(rig_of: MakeRig) -> None:
    rig = rig_of(PASSES)
    done = rig.call("run", "--kernel", rig.kernel())
    assert done.stderr.count("note: CONFIG_BPF_SYSCALL is not set") == 1


# -- two at once, interruptions ----------------------------------------------------------------


def test_two_runs_at_once_share_a_cache_and_keep_apart_results(rig_of: MakeRig) -> None:
    rig = rig_of(PASSES)
    kernel = rig.kernel()
    both = [rig.start("run", "--kernel", kernel) for _ in range(2)]
    for child in both:
        out, err = child.communicate(timeout=120)
        assert child.returncode == ExitStatus.ACCEPT, out + err
    first, second = rig.runs()
    assert outcomes(first) == outcomes(second)
    assert len(outcomes(first)) == len(PASSES)
    assert not list((rig.folder / "cache").rglob("*.partial"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_soon_and_keeps_what_was_reported(
    rig_of: MakeRig, tmp_path: Path, number: signal.Signals
) -> None:
    rig = rig_of({"one": "pass", "two": "hang", "three": "pass"})
    child = rig.start("run", "--gate", "--kernel", rig.kernel())
    rig.wait_for_event("case")
    took_s, out, err = interrupt(child, number)
    assert child.returncode == ExitStatus.INTERRUPTED, out + err
    assert took_s < SOON_S
    assert "Traceback" not in err
    (run,) = rig.runs()
    assert outcomes(run)["bpf/test_progs/one"] is Outcome.PASS
    (record,) = map(read_record, record_paths(run))
    assert not record.complete
    assert rig.processes() == []
    assert rig.call("gate").returncode == ExitStatus.INCONCLUSIVE


def test_an_interruption_while_the_guest_boots_leaves_no_guest(rig_of: MakeRig) -> None:
    rig = rig_of(PASSES, boots=["never_ready"])
    child = rig.start("run", "--kernel", rig.kernel())
    wait_for_guest(rig)
    took_s, out, err = interrupt(child)
    assert child.returncode == ExitStatus.INTERRUPTED, out + err
    assert took_s < SOON_S
    assert rig.processes() == []


def test_an_interrupted_boot_leaves_no_guest(rig_of: MakeRig) -> None:
    rig = rig_of(PASSES, boots=["never_ready"])
    child = rig.start("boot", "--kernel", rig.kernel())
    wait_for_guest(rig)
    took_s, out, err = interrupt(child)
    assert child.returncode == ExitStatus.INTERRUPTED, out + err
    assert took_s < SOON_S
    assert "Traceback" not in err
    assert rig.processes() == []


def wait_for_guest(rig: Rig) -> None:
    rig.wait_until(lambda: any("-append" in command for command in rig.processes()))


def test_a_killed_harness_leaves_whole_events_and_no_guest(rig_of: MakeRig) -> None:
    rig = rig_of({"one": "pass", "two": "hang"})
    child = rig.start("run", "--kernel", rig.kernel())
    rig.wait_for_event("case")
    interrupt(child, signal.SIGKILL)
    (run,) = rig.runs()
    reading = read_events(run / "x86_64-bpf" / "events.jsonl")
    assert reading.damaged_lines == ()
    assert [event.facts["case"] for event in reading.events if event.kind == "case"] == [
        "bpf/test_progs/one"
    ]
    rig.wait_until(lambda: rig.processes() == [])


# -- a host that refuses -----------------------------------------------------------------------

_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
from harness.cli import main
from tests.fakes.rig import install
install()
sys.exit(main(sys.argv[1:]))
"""


def test_a_file_that_may_not_grow_costs_the_cell_and_says_so(rig_of: MakeRig) -> None:
    rig = rig_of({f"test{number}": "pass" for number in range(60)})
    kernel = rig.kernel()
    assert rig.call("run", "--kernel", kernel).returncode == 0  # the cache is full now
    rig.command = (sys.executable, "-c", _LIMITED.format(limit=4096))
    done = rig.call("run", "--gate", "--kernel", kernel)
    assert done.returncode == ExitStatus.INCONCLUSIVE, done.stdout + done.stderr
    assert "File too large" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    run = rig.runs()[-1]
    reading = read_events(run / "x86_64-bpf" / "events.jsonl")
    assert reading.damaged_lines == ()
    assert [event for event in reading.events if event.kind == "case"]
    assert rig.processes() == []


@pytest.mark.parametrize("size", ["60k", "300k"])
def test_a_full_disk_is_told_and_nothing_stored_is_lost(
    rig_of: MakeRig, tmp_path: Path, size: str
) -> None:
    """On a file system of its own, mounted for one process: no root is needed."""
    if not can_mount():
        pytest.skip("this user may not mount in a namespace of its own")
    rig = rig_of({f"test{number}": "floods_output" for number in range(3)})
    kernel = rig.kernel()
    disk = tmp_path / "disk"
    disk.mkdir()
    rig.command = ("unshare", "-Urm", "sh", "-c", _ON_A_DISK, str(disk), size, *rig.command)
    done = rig.call("run", "--gate", "--kernel", kernel, "--results", str(disk / "results"))
    assert done.returncode == ExitStatus.INCONCLUSIVE, done.stdout + done.stderr
    assert "No space left on device" in done.stdout + done.stderr
    assert "free some space" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert rig.processes() == []
    for path in (tmp_path / "disk.kept").rglob("events.jsonl"):
        assert read_events(path).damaged_lines == ()


_ON_A_DISK = """
disk=$0 size=$1; shift
mount -t tmpfs -o "size=$size" none "$disk" || exit 99
"$@"; status=$?
cp -r "$disk" "$disk.kept"
exit $status
"""


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    words = ("unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt")
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


def test_a_full_disk_behind_standard_output_is_told(rig_of: MakeRig) -> None:
    rig = rig_of(PASSES)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            rig.argv("plan", "--kernel", rig.kernel()),
            cwd=rig.folder, env=rig.environment, stdout=full, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
    assert done.returncode == ExitStatus.INCONCLUSIVE, done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_results_folder_that_may_not_be_written_is_told(rig_of: MakeRig) -> None:
    rig = rig_of(PASSES)
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    rig.results.mkdir()
    rig.results.chmod(0o500)
    done = rig.call("run", "--kernel", rig.kernel())
    assert done.returncode == ExitStatus.INCONCLUSIVE
    assert "Permission denied" in done.stderr


def test_a_reader_that_leaves_is_no_error_to_be_told(rig_of: MakeRig) -> None:
    rig = rig_of({f"test{number}": "pass" for number in range(300)})
    reading, writing = os.pipe()
    child = subprocess.Popen(
        rig.argv("plan", "--kernel", rig.kernel()),
        cwd=rig.folder, env=rig.environment, stdout=writing, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writing)
    os.close(reading)
    _, err = child.communicate(timeout=60)
    assert "Traceback" not in err
    assert "BrokenPipe" not in err
    assert child.returncode == ExitStatus.INCONCLUSIVE


def test_progress_that_nobody_reads_any_more_costs_no_result(rig_of: MakeRig) -> None:
    rig = rig_of(PASSES)
    reading, writing = os.pipe()
    child = subprocess.Popen(
        rig.argv("run", "--kernel", rig.kernel()),
        cwd=rig.folder, env=rig.environment, stdout=subprocess.PIPE, stderr=writing, text=True,
    )  # fmt: skip
    os.close(writing)
    os.close(reading)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == ExitStatus.ACCEPT, out
    (run,) = rig.runs()
    assert set(outcomes(run).values()) == {Outcome.PASS}


# -- what nobody foresaw -----------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A verb with a mistake in it; returns the cache."""
    import harness.verbs.host

    def verb(_: object) -> int:
        return int({"a": 1}["secret"])

    monkeypatch.setattr(harness.verbs.host, "verb_doctor", verb)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_mistake_of_ours_is_told_in_words_with_a_file_that_says_where(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == ExitStatus.INCONCLUSIVE
    _, err = capsys.readouterr()
    assert "a mistake in the harness: KeyError: 'secret'" in err
    assert "Traceback" not in err
    (fault,) = (broken / "faults").iterdir()
    assert str(fault) in err
    text = fault.read_text()
    assert "['doctor']" in text
    assert '{"a": 1}["secret"]' in text


def test_with_harness_debug_the_traceback_is_shown(
    broken: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DEBUG", "1")
    assert main(["doctor"]) == ExitStatus.INCONCLUSIVE
    _, err = capsys.readouterr()
    assert "Traceback" in err
    assert "a mistake in the harness" in err


def test_a_mistake_that_cannot_be_kept_is_told_all_the_same(
    broken: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", "/proc/harness")
    assert main(["doctor"]) == ExitStatus.INCONCLUSIVE
    _, err = capsys.readouterr()
    assert "KeyError" in err
    assert "HARNESS_DEBUG=1" in err


def test_plan_in_json_is_json(rig_of: MakeRig) -> None:
    rig = rig_of(PASSES)
    done = rig.call("plan", "--kernel", rig.kernel(), "--json")
    (plan,) = json.loads(done.stdout)
    assert plan["arch"] == "x86_64"
    assert list(plan["batches"][0]["cases"]) == ["bpf/test_progs/one", "bpf/test_progs/two"]
