"""The README is true: each command in it is accepted and does what it is there for."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli import command_line_parser
from harness.model.arch import Arch
from harness.model.case import Outcome
from harness.model.errors import ExitStatus
from tests.fakes import kernels
from tests.fakes import packages as fake
from tests.fakes.rig import ROOT, Rig

README = (ROOT / "README.md").read_text(encoding="utf-8")
_BOOTING = ("boot", "shell", "run")
_BASELINES_MISSING = ExitStatus.INCONCLUSIVE


def commands() -> list[tuple[str, ...]]:
    """The indented lines of the README, as a shell would split them, without their comments."""
    lines = re.findall(r"^ {4}(\S.*)$", README, re.MULTILINE)
    return [tuple(shlex.split(line, comments=True)) for line in lines]


HARNESS = [words for words in commands() if words[0] == ".venv/bin/harness"]
PYTEST = [words for words in commands() if words[0] == ".venv/bin/pytest"]
MAKE = [words for words in commands() if words[0] == "make"]


def test_every_command_of_the_readme_is_one_that_is_tested_here() -> None:
    assert len(HARNESS) + len(PYTEST) + len(MAKE) == len(commands())
    assert HARNESS
    assert PYTEST
    assert MAKE


@pytest.mark.parametrize("words", HARNESS, ids=" ".join)
def test_the_command_line_accepts(words: tuple[str, ...]) -> None:
    command_line_parser().parse_args(words[1:])


@pytest.mark.parametrize("words", MAKE, ids=" ".join)
def test_make_has_the_target(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        (*words, "--dry-run"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A folder with the kernels and the tree that the README names, and one run in it."""
    folder = tmp_path_factory.mktemp("readme")
    rig = Rig(folder / "rig", {"ringbuf": "pass", "ringbuf_multi": "fail"})
    place = rig.folder
    (place / "bzImage").write_bytes(kernels.bzimage("5.14.0"))
    (place / "Image").write_bytes(kernels.image("5.14.0"))
    kernels.module_tree(place, "5.14.0", kernels.VIRTIO)
    (place / "config").write_text(kernels.CONFIG.format(kernel_arch="arm64"))
    tree = place / "linux" / "tools/testing/selftests/bpf"
    tree.mkdir(parents=True)
    (tree / "Makefile").write_text("\n")
    (place / "linux" / "Makefile").write_text("VERSION = 5\nPATCHLEVEL = 14\nSUBLEVEL = 0\n")
    for words in HARNESS:
        for name in (word for word in words if word.endswith(".deb")):
            (place / name).write_bytes(package(name.removesuffix(".deb")))
    assert rig.call("run").returncode == 0
    yield rig
    shutil.rmtree(folder)


def package(name: str) -> bytes:
    """`linux-image-6.1.0-37-amd64`, with what such a package holds."""
    release = name.removeprefix("linux-image-")
    config = kernels.CONFIG.format(kernel_arch="x86").encode()
    modules = [
        fake.tar_member(
            f"./lib/modules/{release}/{path}",
            fake.module(Path(path).stem, depends=needs, vermagic=f"{release} SMP "),
        )
        for path, needs in kernels.VIRTIO.items()
    ]
    data = fake.tar(
        fake.tar_member(f"./boot/vmlinuz-{release}", kernels.bzimage(release)),
        fake.tar_member(f"./boot/config-{release}", config),
        *modules,
    )
    return fake.deb(data, fake.control_text(name, "6.1.140-1", "amd64"))


@pytest.mark.parametrize("words", HARNESS, ids=" ".join)
def test_the_command_does_its_work(words: tuple[str, ...], rig: Rig) -> None:
    verb, *arguments = (word.replace("~", str(rig.folder)) for word in words[1:])
    if verb == "doctor":
        pytest.skip("it looks at this very host")
    is_dry = verb in _BOOTING
    done = rig.call(verb, *arguments, *(("--dry-run",) if is_dry else ()))
    gates = verb == "gate"
    assert done.returncode == (_BASELINES_MISSING if gates else 0), done.stdout + done.stderr
    if is_dry:
        assert "-kernel" in shlex.split(done.stdout.splitlines()[-1])
    if "--output" in arguments:
        written = rig.folder / arguments[arguments.index("--output") + 1]
        assert written.stat().st_size > 1000


@pytest.mark.parametrize("words", PYTEST, ids=" ".join)
def test_pytest_finds_the_items(words: tuple[str, ...], rig: Rig) -> None:
    conftest = rig.data / "selftests" / "conftest.py"
    conftest.write_text("from tests.fakes.rig import install\n\ninstall()\n")
    arguments = [str(rig.data / "selftests") if word == "selftests" else word for word in words[1:]]
    done = subprocess.run(
        (*rig.command[:2], "pytest", *arguments, "--collect-only", "-q", "-c", os.devnull),
        cwd=rig.folder,
        env={**rig.environment, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"[{Arch.AARCH64}-bpf/test_progs/ringbuf]" in done.stdout


def test_every_exit_status_is_told() -> None:
    told = {int(number) for number in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    assert told == set(ExitStatus)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_is_told(outcome: Outcome) -> None:
    (sentence,) = re.findall(r"A case ends in exactly one of:.*?Nothing", README, re.DOTALL)
    assert outcome.value.replace("_", " ") in sentence


def test_every_file_that_is_named_is_there() -> None:
    linked = re.findall(r"\]\(([^)#]+)\)", README)
    quoted = re.findall(
        r"`((?:harness|configs|selftests|tests|results|setup|docs)/[\w./-]*)`", README
    )
    made_by_runs = {"results/runs/", "results/baselines/"}
    missing = [
        name
        for name in {*linked, *quoted} - made_by_runs
        if not name.startswith("http") and not (ROOT / name).exists()
    ]
    assert missing == []


def test_every_verb_says_what_it_does() -> None:
    text = command_line_parser().format_help()
    assert "doctor" in text
    assert "exit status" in text
    for verb in ("doctor", "build", "unpack", "plan", "boot", "shell", "run", "parse", "gate"):
        assert re.search(rf"^ +{verb} +\S", text, re.MULTILINE), verb
