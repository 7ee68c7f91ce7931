"""The conversation with a guest, over fake guests: answers, silence, death."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.guest.wire import Begin, Damage, End, Line
from harness.model.errors import RigError
from harness.model.record import Ending
from harness.run.budget import Limits
from harness.run.death import Death, GuestGone
from harness.run.session import Item, Session
from tests.fakes.fake_guest_rig import HASTY, fake_run, no_process_of

MakeSession = Callable[..., Session]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[MakeSession]:
    made: list[Session] = []

    def make(*faults: str, limits: Limits = HASTY, **script: object) -> Session:
        tests = {f"test{number}": fault for number, fault in enumerate(faults or ("pass",))}
        run = fake_run(tmp_path, tests, **script)  # type: ignore[arg-type]
        run.log.close()
        setup = run.cell._request.setup
        made.append(Session(setup.machine(), tmp_path / "vm", setup.qemu, limits=limits))
        made[-1].start(10)
        return made[-1]

    yield make
    for one in made:
        one.abandon()
    assert no_process_of(tmp_path / "cell")


def until(session: Session, kind: type[Item]) -> list[Item]:
    items: list[Item] = []
    while not [item for item in items if isinstance(item, kind)]:
        items += session.poll(0.2)
    return items


def read_to_death(session: Session) -> tuple[list[Item], Death]:
    """All that a program of the guest says, which dies of it."""
    items: list[Item] = []
    try:
        session.run_program("r1", "/", "./test_progs -n 1-3")
    except GuestGone:
        items.clear()  # it died before the answer: what it said is still to be had
    while True:
        try:
            items += session.poll(0.2)
        except GuestGone as gone:
            return items, gone.death


def test_a_guest_says_what_it_is(session: MakeSession) -> None:
    hello = session().hello
    assert hello is not None
    assert (hello.release, hello.machine, hello.cpus) == ("5.14.0-fake", "x86_64", 2)


def test_shell_text_is_answered_with_status_and_lines(session: MakeSession) -> None:
    assert session().shell("echo  two  spaces", 5) == (0, ("echo  two  spaces",))


def test_a_program_is_begun_and_ended_in_the_stream(session: MakeSession) -> None:
    guest = session("pass")
    guest.run_program("r1", "/", "./test_progs -n 1")
    items = until(guest, End)
    assert isinstance(items[0], Begin)
    assert [item.text for item in items if isinstance(item, Line)] == [
        "#1       test0:OK",
        "Summary: 1/0 PASSED, 0 SKIPPED, 0 FAILED",
    ]
    assert items[-1] == End("r1", 0, 4.2)


def test_a_request_of_two_lines_is_refused(session: MakeSession) -> None:
    with pytest.raises(ValueError, match="more than one line"):
        session().shell("echo one\necho two", 5)


def test_what_a_dead_guest_had_said_is_still_to_be_had(session: MakeSession) -> None:
    """The answer to `run` may be lost, and the program's results are not."""
    items, death = read_to_death(session("pass", "fail", "panic_arm64"))
    assert death.ending is Ending.PANICKED
    assert "#2       test1:FAIL" in [item.text for item in items if isinstance(item, Line)]


def test_a_dead_guest_says_the_same_again(session: MakeSession) -> None:
    guest = session("dies")
    guest.vm.kill()
    deaths = []
    for _ in range(3):
        with pytest.raises(GuestGone) as caught:
            guest.shell("true", 5)
        deaths.append(caught.value.death)
    assert deaths[0].ending is Ending.QEMU_DIED
    assert deaths[0] is deaths[1] is deaths[2]
    assert not guest.is_answering(1)


def test_a_guest_that_takes_no_input_is_a_dead_one(session: MakeSession) -> None:
    guest = session("hang_deaf")
    guest.run_program("r1", "/", "./test_progs -n 1")
    until(guest, Line)
    with pytest.raises(GuestGone) as caught:
        guest.shell("x" * 4_000_000, 0.5)
    assert caught.value.death.what == "the guest takes no input"
    assert guest.vm.poll() is not None


def test_an_agent_that_is_silent_is_given_up_in_time(session: MakeSession) -> None:
    guest = session("hang_deaf")
    guest.run_program("r1", "/", "./test_progs -n 1")
    until(guest, Line)  # its agent is silent from here on
    assert not guest.is_answering(0.3)


def test_a_line_that_the_guests_death_tore_is_damage(session: MakeSession) -> None:
    items, _ = read_to_death(session("dies_in_result"))
    damage = [item for item in items if isinstance(item, Damage)]
    assert [item.data for item in damage] == [b"#1       test0:OK"]
    assert not [item for item in items if isinstance(item, Line) and item.text]


def test_a_log_that_cannot_be_written_is_the_rigs_fault_and_the_guest_is_ended(
    session: MakeSession,
) -> None:
    guest = session("floods_output")

    def full(data: bytes) -> int:
        raise OSError(28, "No space left on device")

    guest.vm.output._log_file.write = full  # type: ignore[method-assign,assignment]
    guest.run_program("r1", "/", "./test_progs -n 1")
    with pytest.raises(RigError, match="No space left on device"):
        until(guest, End)
    guest.power_off()


def test_a_power_off_in_good_order_is_no_death(session: MakeSession) -> None:
    guest = session()
    assert guest.power_off() is None
    assert guest.vm.poll() == 0
    (event,) = guest.vm.monitor_events()
    assert event.data["reason"] == "guest-shutdown"


def test_a_panic_on_the_way_down_is_told(session: MakeSession) -> None:
    death = session(poweroff="panics_on_the_way_down").power_off()
    assert death is not None
    assert death.ending is Ending.PANICKED


def test_every_byte_of_a_guest_is_in_its_folder(session: MakeSession) -> None:
    guest = session("panic_x86")
    read_to_death(guest)
    guest.abandon()
    folder = guest.vm.folder
    assert (folder / "console.log").read_text().endswith("0xffffffff81000000\n")
    events = [json.loads(line) for line in (folder / "monitor.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["GUEST_PANICKED", "SHUTDOWN"]
