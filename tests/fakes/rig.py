"""The command line over a rig without a compiler, a distribution and a QEMU: all else is real.

`python -m tests.fakes.rig run …` is `harness run …`, but for three things: the selftests are those
of a script, the userland is one file, and QEMU is `fake_guest.py`, which plays what it says.
A `Rig` makes the folders and the environment of such a call.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import harness.pipeline
from harness.guest.userland import Userland
from harness.model.arch import Arch
from harness.model.kernel import (
    KernelArtifact,
    NotBuilt,
    RunnerListing,
    SelftestsArtifact,
)
from tests.fakes import kernels

ROOT = Path(__file__).resolve().parents[2]
RELEASE = "6.1.0-x"
PROGRAM = "test_progs"
SCRIPT = "FAKE_SCRIPT"
_DIALECT = b'"%s:OK (SKIP: %d/%d)"'  # as test_progs says a test's result since 6.3

_QEMU = """\
#!{python} -IS
import sys
sys.path.insert(0, {root!r})
sys.dont_write_bytecode = True
from tests.fakes import fake_guest, fake_qemu
if "-bios" in sys.argv:
    fake_qemu.run_firmware(sys.argv[1:])
elif not fake_qemu.answer_question(sys.argv[1:]):
    fake_guest.main(sys.argv[1:])
"""

Faults = Mapping[str, str | Sequence[str]]


class FakeWorkshop(harness.pipeline.Workshop):
    """What would need a compiler or a distribution is made up."""

    def kernel(self, arch: Arch, named: str | None) -> KernelArtifact:
        script = json.loads(Path(os.environ[SCRIPT]).read_text())
        return super().kernel(arch, named or script["kernels"][arch])

    def selftests(self, kernel: KernelArtifact, named_tree: Path | None) -> SelftestsArtifact:
        script = json.loads(Path(os.environ[SCRIPT]).read_text())
        if named_tree is not None:
            self.source(kernel, named_tree)
        root = Path(script["state"]).parent / "selftests"
        return SelftestsArtifact(
            arch=kernel.arch,
            root=root,
            runners=(
                RunnerListing(program=PROGRAM, tests=tuple(t["name"] for t in script["tests"])),
            ),
            not_built=tuple(
                NotBuilt(
                    case_path=(PROGRAM, name), object_name=f"{name}.c", stage="link", error=error
                )
                for name, error in script["not_built"].items()
            ),
            source_sha256="0",
            source_name="fake",
            source_hashes=(),
            compiler="none",
        )

    def userland(self, arch: Arch) -> Userland:
        return Userland(root=Path(os.environ[SCRIPT]).parent / "userland", sha256="0")


def install() -> None:
    """From now on the command line and the plugin of this process work with the fake workshop."""
    harness.pipeline.Workshop = FakeWorkshop  # type: ignore[misc]


class Rig:
    """A folder with everything that a call needs: configs, cache, results, kernels."""

    def __init__(
        self, folder: Path, tests: Faults, *, shared: Path | None = None, **script: object
    ) -> None:
        """`shared` holds what several rigs may have in common: QEMU, and the cache."""
        self.folder = folder
        shared = shared or folder
        self.results = folder / "results"
        self.data = folder / "data"
        self.command: tuple[str, ...] = (sys.executable, "-m", "tests.fakes.rig")
        for made in ("state", "selftests", "userland/usr/bin"):
            (folder / made).mkdir(parents=True)
        (folder / "selftests" / PROGRAM).write_bytes(_DIALECT)
        (folder / "userland" / "usr" / "bin" / "true").write_bytes(b"")
        shutil.copytree(ROOT / "configs", self.data / "configs")
        shutil.copytree(ROOT / "selftests", self.data / "selftests")
        qemu = shared / "qemu-fake"
        if not qemu.exists():
            qemu.write_text(_QEMU.format(python=sys.executable, root=str(ROOT)))
            qemu.chmod(0o755)
        self.script = folder / "script.json"
        for arch in Arch:
            path = self.data / "configs" / "arches" / f"{arch}.toml"
            lines = [
                line
                for line in path.read_text().splitlines()
                if not line.startswith(("qemu_binaries", "extra_cmdline"))
            ]
            lines += [
                f'qemu_binaries = ["{qemu}"]',
                f'extra_cmdline = ["fake_script={self.script}"]',
            ]
            path.write_text("\n".join(lines) + "\n")
        lists = {
            name: [does] if isinstance(does, str) else list(does) for name, does in tests.items()
        }
        defaults: dict[str, object] = {
            "state": str(folder / "state"),
            "kernels": {arch: self.kernel(arch) for arch in Arch},
            "boots": ["boots"],
            "tests": [{"name": name, "does": does} for name, does in lists.items()],
            "not_built": {},
            "hello": f"hello {RELEASE} x86_64 0.42 2 1000000",
            "calibrated": "1000",
            "poweroff": "powers_off",
            "before_begin": [],
            "after_end": [],
        }
        self.script.write_text(json.dumps(defaults | script))
        self.environment = {
            **os.environ,
            "HARNESS_DATA": str(self.data),
            "HARNESS_CACHE": str(shared / "cache"),
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
            SCRIPT: str(self.script),
        }

    def kernel(self, arch: Arch = Arch.X86_64, **data: object) -> str:
        """A kernel's name for `--kernel`: an image, its modules and its config."""
        place = self.folder / f"kernel-{arch}"
        modules = kernels.module_tree(place, RELEASE, kernels.VIRTIO)
        (place / "image").write_bytes(kernels.image_of(arch, RELEASE, **data))
        kernel_arch = "x86" if arch is Arch.X86_64 else "arm64"
        (place / "config").write_text(kernels.CONFIG.format(kernel_arch=kernel_arch))
        return f"{place / 'image'},{modules},{place / 'config'}"

    def argv(self, verb: str, *arguments: str) -> tuple[str, ...]:
        return (*self.command, verb, *arguments)

    def call(
        self, verb: str, *arguments: str, timeout_s: float = 240, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end, in the rig's folder."""
        return subprocess.run(
            self.argv(verb, *arguments),
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )

    def start(self, verb: str, *arguments: str) -> subprocess.Popen[str]:
        """Begin a call in a process group of its own, as a shell does."""
        return subprocess.Popen(
            self.argv(verb, *arguments),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def runs(self) -> list[Path]:
        runs = self.results / "runs"
        return sorted(runs.iterdir()) if runs.is_dir() else []

    def wait_for_event(self, kind: str) -> None:
        """Wait until a run has noted something."""

        def is_noted() -> bool:
            logs = [log for run in self.runs() for log in run.glob("*/events.jsonl")]
            return any(f'"kind": "{kind}"' in log.read_text() for log in logs)

        self.wait_until(is_noted)

    def wait_until(self, is_time: Callable[[], bool], timeout_s: float = 120) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_time():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout_s} s")
            time.sleep(0.02)

    def processes(self) -> list[str]:
        """Command lines of the guests of this rig that still run."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if any(f"fake_script={self.script}" in word for word in words):
                found.append(" ".join(words))
        return found


def interrupt(
    child: "subprocess.Popen[str]", number: int = signal.SIGINT
) -> tuple[float, str, str]:
    """Send a signal; how long the end took, and what was said."""
    begin = time.monotonic()
    child.send_signal(number)
    out, err = child.communicate(timeout=30)
    return time.monotonic() - begin, out, err


if __name__ == "__main__":
    from harness.cli import main

    install()
    sys.exit(main())
