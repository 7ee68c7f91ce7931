"""The set-up runs before anything is installed: its promises, with fake programs where it acts."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with nothing but what the set-up reads, and an environment that looks made."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("setup", "configs"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def fake(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def setup(checkout: Path, *, path: str | None = None) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, **({"PATH": path} if path else {})}
    argv = [str(checkout / "setup" / "setup.sh")]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


def fake_python(folder: Path, log: Path) -> None:
    """A python3 that makes environments of itself and notes what pip is asked for."""
    fake(
        folder,
        "python3",
        f"""
case "$1 $2" in
"-c import"*) exit 0 ;;
"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip") echo "$@" >>{log} ;;
"setup/needs.py packages" | "setup/needs.py commands") ;;
"setup/needs.py proofs") echo {folder}/proof ;;
*) echo "unexpected: $*" >&2; exit 1 ;;
esac""",
    )


def path_with(folder: Path) -> str:
    """Only the tools that every system has, and our fakes before them."""
    return f"{folder}:/usr/bin:/bin"


def hide_newer_pythons(folder: Path) -> None:
    for version in ("3.11", "3.12", "3.13", "3.14"):
        fake(folder, f"python{version}", "exit 1")


@pytest.fixture
def ready(checkout: Path, tmp_path: Path) -> Path:
    """A checkout after its first set-up, made with the fake python."""
    fakes = tmp_path / "fakes"
    fake_python(fakes, tmp_path / "pip.log")
    hide_newer_pythons(fakes)
    (fakes / "proof").touch()
    done = setup(checkout, path=path_with(fakes))
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout


def test_the_first_time_everything_comes_from_the_lock(ready: Path, tmp_path: Path) -> None:
    asked = (tmp_path / "pip.log").read_text(encoding="utf-8")
    assert "--require-hashes --no-deps --only-binary :all: --requirement requirements.lock" in asked
    assert "--no-build-isolation --editable ." in asked


def test_the_second_time_is_silent_and_does_nothing(ready: Path, tmp_path: Path) -> None:
    log = tmp_path / "pip.log"
    before = log.read_bytes()
    begin = time.monotonic()
    done = setup(ready, path=path_with(tmp_path / "fakes"))
    assert time.monotonic() - begin < 10
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert log.read_bytes() == before


def test_a_package_that_went_away_is_noticed(ready: Path, tmp_path: Path) -> None:
    (tmp_path / "fakes" / "proof").unlink()
    assert "ready" in setup(ready, path=path_with(tmp_path / "fakes")).stdout


def test_a_new_lock_is_installed(ready: Path, tmp_path: Path) -> None:
    with (ready / "requirements.lock").open("a", encoding="utf-8") as lock:
        lock.write("# changed\n")
    assert "ready" in setup(ready, path=path_with(tmp_path / "fakes")).stdout


def test_an_environment_whose_python_is_gone_is_made_again(ready: Path, tmp_path: Path) -> None:
    (ready / ".venv" / "bin" / "python").unlink()
    done = setup(ready, path=path_with(tmp_path / "fakes"))
    assert "making it again" in done.stdout
    assert done.returncode == 0


def test_missing_packages_without_root_end_with_the_command_to_run(
    checkout: Path, tmp_path: Path
) -> None:
    fakes = tmp_path / "fakes"
    fake_python(fakes, tmp_path / "pip.log")
    hide_newer_pythons(fakes)
    fake(fakes, "id", "echo 1000")
    fake(fakes, "sudo", "exit 1")
    text = (fakes / "python3").read_text(encoding="utf-8")
    text = text.replace(
        '"setup/needs.py packages" | "setup/needs.py commands") ;;',
        '"setup/needs.py packages") echo flex ;;\n'
        '"setup/needs.py commands") echo apt-get update; echo apt-get install --yes flex ;;',
    )
    fake(fakes, "python3", text.removeprefix("#!/bin/sh\n"))
    done = setup(checkout, path=path_with(fakes))
    assert done.returncode == 2
    assert "try  as root: apt-get update && apt-get install --yes flex" in done.stderr
    assert not (checkout / ".venv" / ".setup-stamp").exists()


@pytest.mark.parametrize("status", [0, 1, 3])
def test_make_gate_ends_with_the_gates_own_status(ready: Path, tmp_path: Path, status: int) -> None:
    shutil.copy(ROOT / "Makefile", ready)
    fake(ready / ".venv" / "bin", "harness", f'echo "called with $*"; exit {status}')
    env = {**os.environ, "PATH": path_with(tmp_path / "fakes")}
    argv = ["make", "-C", str(ready), "--no-print-directory", "gate", "ARGS=--arch aarch64"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "called with run --gate --arch aarch64",
        f"exit status {status}",
    ]
    assert done.returncode == (2 if status else 0)
    assert status == 0 or f"Error {status}" in done.stderr
