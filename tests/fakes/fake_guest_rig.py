"""Runs cells over fake guests: the real engine, sessions, readers and stores; no real kernel."""

import dataclasses
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.model.arch import AccelKind, Arch
from harness.model.case import Attempt, CaseId, Outcome
from harness.model.events import CaseFinished, CaseStarted, Event
from harness.model.kernel import KernelArtifact, Provenance, RunnerListing, SelftestsArtifact
from harness.model.plan import Batch, Denial, Plan, PlannedCase
from harness.model.record import Incident, RunRecord
from harness.run.budget import Limits
from harness.run.cell import CellRequest, CellRun, GuestSetup
from harness.store.records import check_record
from harness.store.runs import EventLog, StoredEvent, read_events
from harness.suites.base import SuiteHooks
from harness.suites.bpf.command import batch_command
from harness.suites.bpf.dialects import Dialect
from harness.suites.bpf.readers import reader_for
from harness.vm.accel import Accelerator
from harness.vm.arches import load_arch
from tests.fakes.machines import QEMU

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "test_progs"
HASTY = Limits(boot_s=5.0, answer_s=0.5, last_words_s=0.3, least_s=0.1)
"""A fake guest answers at once; what does not come in half a second does not come."""

_LAUNCHER = """\
#!{python} -IS
import sys
sys.path.insert(0, {root!r})
sys.dont_write_bytecode = True
from tests.fakes.fake_guest import main
main(sys.argv[1:])
"""

Faults = Mapping[str, str | Sequence[str]]


@dataclass(slots=True)
class Run:
    """One cell that has been run, and all that it left."""

    cell: CellRun
    plan: Plan
    folder: Path
    log: EventLog
    events: list[Event] = field(default_factory=list)
    record: RunRecord | None = None

    @property
    def done(self) -> RunRecord:
        assert self.record is not None
        return self.record

    @property
    def boots(self) -> int:
        return len(list(self.folder.glob("vm*")))

    @property
    def incidents(self) -> tuple[Incident, ...]:
        return self.done.incidents

    def attempts(self, name: str) -> tuple[Attempt, ...]:
        (found,) = [each for each in self.done.cases if each.case.path == (PROGRAM, name)]
        return found.attempts

    def of(self, name: str) -> Attempt:
        """The only attempt of a test."""
        (attempt,) = self.attempts(name)
        return attempt

    def outcomes(self) -> dict[str, str]:
        """First outcomes by test, subtests as test/subtest."""
        return {
            "/".join(each.case.path[1:]): str(each.attempts[0].outcome) for each in self.done.cases
        }

    def notes(self, kind: str) -> list[StoredEvent]:
        reading = read_events(self.folder / "events.jsonl")
        assert reading.damaged_lines == ()
        return [event for event in reading.events if event.kind == kind]

    def on_disk(self) -> dict[str, list[str]]:
        """Outcomes in the event log, by case, in the order in which they were written."""
        found: dict[str, list[str]] = {}
        for event in self.notes("case"):
            found.setdefault(event.facts["case"], []).append(event.facts["outcome"])
        return found

    def problems(self) -> str:
        return "\n".join(event.facts["what"] for event in self.notes("problem"))


def case(name: str) -> CaseId:
    return CaseId("bpf", (PROGRAM, name))


def fake_plan(
    names: Sequence[str],
    *,
    arch: Arch = Arch.X86_64,
    batches: int = 1,
    budget_s: float = 1.0,
    own_vm: Sequence[int] = (),
) -> Plan:
    """A plan over these tests, in order, split into so many batches; `own_vm` holds indexes."""
    size = -(-len(names) // batches)
    cases = [
        PlannedCase(case=case(name), selector=str(number), budget_s=budget_s)
        for number, name in enumerate(names, 1)
    ]
    return Plan(
        arch=arch,
        suite="bpf",
        profile="fake",
        batches=tuple(
            Batch(
                program=PROGRAM,
                cases=tuple(cases[start : start + size]),
                own_vm=index in own_vm,
            )
            for index, start in enumerate(range(0, len(cases), size))
        ),
        denied=(Denial(case=case("denied_one"), reason="a person said so", source="a test"),),
        not_built=((case("unbuilt_one"), "progs/x.c: error: no"),),
    )


def fake_hooks(dialect: Dialect = Dialect.E) -> SuiteHooks:
    return SuiteHooks(
        command=lambda batch, cases: batch_command(batch, cases, dialect),
        reader=lambda batch, cases: reader_for(batch.program, cases, dialect),
        cwd="/opt/selftests/bpf",
    )


def fake_setup(folder: Path, cmdline: str) -> GuestSetup:
    launcher = folder / "qemu-guest"
    launcher.write_text(_LAUNCHER.format(python=sys.executable, root=str(ROOT)))
    launcher.chmod(0o755)
    spec = load_arch(Arch.X86_64)
    return GuestSetup(
        arch_spec=spec,
        kernel=KernelArtifact(
            arch=Arch.X86_64,
            release="5.14.0-fake",
            image=Path("/artifacts/bzImage"),
            modules=None,
            config=None,
            btf=None,
            provenance=Provenance(kind="paths", name="fake", version="", sha256=""),
        ),
        initrd=Path("/artifacts/initramfs"),
        userland_sha256="0",
        qemu=dataclasses.replace(QEMU, path=launcher),
        accel=Accelerator(kind=AccelKind.TCG, cpu_model="max", reason="a test"),
        cpus=2,
        memory_mib=1024,
        extra_cmdline=(cmdline,),
    )


def fake_run(
    folder: Path,
    tests: Faults,
    *,
    boots: Sequence[str] = ("boots",),
    plan: Plan | None = None,
    limits: Limits = HASTY,
    budget_s: float = 1.0,
    retries: int = 0,
    hooks: SuiteHooks | None = None,
    **script: object,
) -> Run:
    """A cell over a fake guest, ready to `execute`. Each test has a fault, or one for each time."""
    state = folder / "state"
    state.mkdir(parents=True)
    lists = {name: [does] if isinstance(does, str) else list(does) for name, does in tests.items()}
    defaults: dict[str, object] = {
        "state": str(state),
        "boots": list(boots),
        "tests": [{"name": name, "does": does} for name, does in lists.items()],
        "hello": "hello 5.14.0-fake x86_64 0.42 2 1000000",
        "calibrated": "1000",
        "poweroff": "powers_off",
        "before_begin": [],
        "after_end": [],
    }
    path = folder / "script.json"
    path.write_text(json.dumps(defaults | script))
    cell_folder = folder / "cell"
    cell_folder.mkdir()
    return new_run(
        cell_folder,
        plan or fake_plan(list(tests), budget_s=budget_s),
        fake_setup(folder, f"fake_script={path}"),
        hooks or fake_hooks(),
        limits=limits,
        retries=retries,
    )


def new_run(
    folder: Path,
    plan: Plan,
    setup: GuestSetup,
    hooks: SuiteHooks,
    *,
    limits: Limits | None = None,
    retries: int = 0,
) -> Run:
    """A cell of any guest, with its event log."""
    names = tuple(item.case.path[1] for batch in plan.batches for item in batch.cases)
    events: list[Event] = []
    request = CellRequest(
        run_id="20261122-153012-4f1a",
        started_utc="2026-11-22T15:30:12Z",
        folder=folder,
        setup=setup,
        selftests=SelftestsArtifact(
            arch=plan.arch,
            root=Path("/artifacts"),
            runners=(RunnerListing(program=PROGRAM, tests=names),),
            not_built=(),
            source_sha256="",
            source_name="fake",
            source_hashes=(),
            compiler="none",
        ),
        plan=plan,
        hooks=hooks,
        limits=limits or Limits(),
        retries=retries,
    )
    log = EventLog(folder / "events.jsonl")
    return Run(CellRun(request, log, events.append), plan, folder, log, events)


def execute(run: Run) -> Run:
    """Run the cell to its end and hold it against the promises that hold whatever happens."""
    run_cell(run)
    check_promises(run)
    return run


def run_cell(run: Run) -> None:
    with run.log:
        run.record = run.cell.run()


def stop_when(run: Run, is_time: Callable[[], bool]) -> float:
    """Run the cell in a thread and stop it from this one; returns how long its end took."""
    thread = threading.Thread(target=run_cell, args=(run,))
    thread.start()
    deadline = time.monotonic() + 10
    while not is_time():
        assert time.monotonic() < deadline
        assert thread.is_alive()
        time.sleep(0.002)
    begin = time.monotonic()
    run.cell.stop()
    thread.join(20)
    took_s = time.monotonic() - begin
    assert not thread.is_alive()
    check_promises(run)
    return took_s


def check_promises(run: Run) -> None:
    plan, record = run.plan, run.done
    planned = [item.case for batch in plan.batches for item in batch.cases]
    promised = [
        *planned,
        *(each.case for each in plan.denied),
        *(case for case, _ in plan.not_built),
    ]
    check_record(record, planned=promised)
    firsts = {str(each.case): str(each.attempts[0].outcome) for each in record.cases}
    assert all(len(each.attempts) <= 2 for each in record.cases)
    for text, outcomes in run.on_disk().items():
        assert outcomes[0] == firsts[text], "what was written is what stands"
    finished = [str(each.case) for each in run.events if isinstance(each, CaseFinished)]
    assert len(finished) == len(set(finished)), "no case is told twice"
    silent = {str(case) for case in planned} - set(finished)
    assert all(firsts[text] == Outcome.LOST for text in silent)
    assert record.complete == (not silent and run.cell.error is None)
    started = [str(each.case) for each in run.events if isinstance(each, CaseStarted)]
    assert set(started) <= {str(case) for case in planned}
    assert no_process_of(run.folder)


def no_process_of(folder: Path) -> bool:
    """Whether no process is left that has the folder in its command line."""
    needle = f"{folder.parent}/".encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if needle in path.read_bytes():
                return False
        except OSError:
            continue
    return True
