"""Init and agent in real guests of the distribution's kernels: the promises of the protocol."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.guest.images import initrd_for
from harness.guest.userland import userland
from harness.guest.wire import Begin, Damage, End, Item, Line
from harness.host.cache import Cache
from harness.host.paths import cache_root
from harness.kernel.default import distribution_kernel
from harness.kernel.modules import boot_modules, guest_modules, modprobe_files
from harness.model.arch import Arch
from harness.model.events import Event
from harness.run.session import Session
from harness.vm.accel import probe_accelerator
from harness.vm.arches import load_arch
from harness.vm.machine import MachineSpec, kernel_cmdline
from harness.vm.qemu import find_qemu

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="the packages are fetched by apt"),
]

BOOT_S = 180.0
ANSWER_S = 60.0


def silent(_: Event) -> None:
    pass


@pytest.fixture(scope="module")
def cache() -> Cache:
    return Cache(cache_root())


@pytest.fixture(scope="module", params=list(Arch))
def session(
    request: pytest.FixtureRequest, cache: Cache, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Session]:
    guest = booted(request.param, cache, tmp_path_factory.mktemp("vm"))
    yield guest
    guest.power_off()


def booted(arch: Arch, cache: Cache, folder: Path) -> Session:
    spec = load_arch(arch)
    qemu = find_qemu(spec, cache)
    accel = probe_accelerator(spec, qemu, cache)
    kernel = distribution_kernel(spec, cache, silent)
    boot, loadable = boot_modules(kernel), guest_modules(kernel)
    land = userland(spec, cache, silent)
    indexes = modprobe_files(kernel, (*boot, *loadable))
    machine = MachineSpec(
        arch_spec=spec,
        kernel_image=kernel.image,
        initrd=initrd_for(land, kernel, boot=boot, loadable=loadable, texts=indexes, cache=cache),
        cmdline=kernel_cmdline(spec, accel.kind, ()),
        memory_mib=2048,
        cpus=2,
        accel=accel,
    )
    guest = Session(machine, folder, qemu)
    hello = guest.start(BOOT_S)
    assert (hello.release, hello.machine) == (kernel.release, str(arch))
    assert hello.cpus == 2
    assert 1_500_000 < hello.memory_kib < 2 << 20
    return guest


def said(session: Session, text: str) -> tuple[str, ...]:
    status, lines = session.shell(text, ANSWER_S)
    assert status == 0, lines
    return lines


def until_end(session: Session, run_id: str) -> list[Item]:
    """All that comes until that run's end, which is the last item."""
    items: list[Item] = []
    deadline = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline:
        items += session.poll(0.2)
        if any(isinstance(item, End) and item.id == run_id for item in items):
            return items
    pytest.fail(f"{run_id} did not end: {items[-5:]}")


def outcome(session: Session, run_id: str, text: str, cwd: str = "/tmp") -> tuple[list[str], int]:
    session.run_program(run_id, cwd, text)
    items = until_end(session, run_id)
    assert not [item for item in items if isinstance(item, Damage)]
    assert isinstance(items[0], Begin)
    assert isinstance(items[-1], End)
    return [item.text for item in items if isinstance(item, Line)], items[-1].status


def test_init_complained_of_nothing(session: Session) -> None:
    assert said(session, "dmesg | grep -E '\\] (init|agent): ' || true") == ()


def test_the_system_is_as_the_tests_expect_it(session: Session) -> None:
    mounts = {tuple(line.split()[1:3]) for line in said(session, "cat /proc/mounts")}
    assert {
        ("/sys/fs/bpf", "bpf"),
        ("/sys/fs/cgroup", "cgroup2"),
        ("/sys/kernel/debug", "debugfs"),
        ("/sys/kernel/tracing", "tracefs"),
        ("/sys/kernel/security", "securityfs"),
        ("/dev/shm", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/tmp", "tmpfs"),
    } <= mounts
    assert said(session, "ls /mnt") == ()
    values = "cat /proc/sys/kernel/{unprivileged_bpf_disabled,kptr_restrict,perf_event_paranoid}"
    assert said(session, values) == ("0", "0", "-1")
    assert said(session, "ulimit -l; ulimit -n; ulimit -c") == ("unlimited", "65536", "0")
    assert said(session, "ping -c1 -q localhost >&2 && ping -6 -c1 -q ::1 >&2 && hostname")[-1] == (
        "guest"
    )
    assert said(session, "readlink /dev/fd /bin/sh; test -L /bin/true || echo file") == (
        "/proc/self/fd",
        "bash",
        "file",
    )


def test_each_tool_of_the_tests_starts(session: Session) -> None:
    for command in (
        "ip -V", "tc -V", "bpftool version", "iptables-legacy -V", "ethtool --version",
        "readelf -v", "openssl version", "keyctl --version", "mkfs.ext2 -V", "ncat --version",
        "stdbuf -oL awk 'BEGIN { print 1 }'", "losetup -V", "unshare -V", "sysctl -V", "xxd -v",
        "ps --version", "find --version", "diff --version", "jq -V", "getent hosts localhost",
    ):  # fmt: skip
        said(session, command)


def test_the_kernel_loads_its_modules_by_name(session: Session) -> None:
    said(session, "modprobe veth && ip link add v0 type veth peer name v1 && ip link del v0")
    said(session, "ip netns add t && ip netns exec t ip link set lo up && ip netns del t")


def test_a_program_is_framed_and_its_status_told(session: Session) -> None:
    assert outcome(session, "ok", "pwd; echo two; echo three >&2") == (["/tmp", "two", "three"], 0)
    assert outcome(session, "fails", "printf 'no end'; exit 7") == (["no end"], 7)
    assert outcome(session, "killed", "kill -SEGV $$") == ([], 139)
    assert outcome(session, "missing", "exec /no/such")[1] == 127
    assert outcome(session, "nowhere", "true", cwd="/no/such")[1] == 127


def test_a_program_learns_nothing_of_the_harness(session: Session) -> None:
    lines, _ = outcome(session, "env", "cat /proc/self/environ /proc/*/cmdline | tr '\\0' '\\n'")
    nonce = session._nonce
    assert not [line for line in lines if nonce in line]
    names = {line.partition("=")[0] for line in lines if "=" in line.partition(" ")[0]}
    assert {"HOME", "PATH", "LC_ALL", "TERM"} <= names
    assert "BOOT_IMAGE" not in names


def test_a_program_gets_plain_signals_descriptors_and_oom_score(session: Session) -> None:
    lines, status = outcome(
        session,
        "plain",
        "grep SigIgn /proc/self/status; cat /proc/self/oom_score_adj; ls /proc/$$/fd; true",
    )
    assert lines == ["SigIgn:\t0000000000000000", "0", "0", "1", "2"]
    assert status == 0
    assert outcome(session, "int", "kill -INT $$; sleep 10")[1] == 130


def test_a_flood_comes_through_whole(session: Session) -> None:
    lines, _ = outcome(session, "flood", "seq 1 200000; head -c 3000000 /dev/zero | tr '\\0' x")
    assert lines[:200000] == [str(number) for number in range(1, 200001)]
    assert "".join(lines[200000:]) == "x" * 3000000


def test_the_end_comes_though_children_hold_the_port(session: Session) -> None:
    assert outcome(session, "leaves", "sleep 1000 & echo done") == (["done"], 0)
    session.kill_program("leaves")
    assert said(session, "pgrep -x sleep || echo none") == ("none",)


def test_a_kill_reaches_all_that_a_program_started(session: Session) -> None:
    session.run_program(
        "many",
        "/",
        "for i in 1 2 3; do (setsid sleep 1000 &); sleep 1000 & done; "
        "mkdir -p /sys/fs/cgroup/t; (echo 0 >/sys/fs/cgroup/t/cgroup.procs; exec sleep 1000) & "
        "unshare -pf sleep 1000 & (trap '' TERM INT; while :; do sleep 1; done) & "
        "echo ready; kill -STOP $$",
    )
    items: list[Item] = []
    while not [item for item in items if isinstance(item, Line) and item.text == "ready"]:
        items += session.poll(0.2)
    session.kill_program("many")
    end = until_end(session, "many")[-1]
    assert isinstance(end, End)
    assert end.status == 137
    assert said(session, "pgrep -x sleep || echo none; rmdir /sys/fs/cgroup/t") == ("none",)


def test_a_gentle_kill_lets_the_program_say_goodbye(session: Session) -> None:
    session.run_program(
        "gentle", "/", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done"
    )
    while not [item for item in session.poll(0.2) if isinstance(item, Line)]:
        pass
    session.kill_program("gentle", "TERM")
    *_, line, end = until_end(session, "gentle")
    assert isinstance(line, Line)
    assert isinstance(end, End)
    assert (line.text, end.status) == ("bye", 3)


def test_the_agent_answers_while_a_program_runs(session: Session) -> None:
    session.run_program("busy", "/", "while :; do :; done")
    assert session.is_answering(ANSWER_S)
    assert said(session, "echo still here") == ("still here",)
    session.kill_program("busy")
    until_end(session, "busy")


def test_shell_text_comes_through_unharmed(session: Session) -> None:
    status, lines = session.shell(
        r"""printf '%s\n' 'a  b' "\\t" '*' '$HOME'; printf end; exit 5""", 60
    )
    assert (status, lines) == (5, ("a  b", r"\t", "*", "$HOME", "end"))


def test_calibration_measures_something(session: Session) -> None:
    assert 10 <= session.calibrate() < 30_000


@pytest.mark.parametrize("arch", list(Arch))
def test_a_guest_without_its_agent_says_so_and_switches_itself_off(
    arch: Arch, cache: Cache, tmp_path: Path
) -> None:
    guest = booted(arch, cache, tmp_path)
    guest.run_program("murder", "/", "kill -KILL $(pgrep -f harness/agent)")
    status = guest.vm.wait(ANSWER_S)
    guest.abandon()
    assert status == 0
    console = (tmp_path / "console.log").read_text(errors="replace")
    assert "init: the agent ended with status 137; switching off" in console
