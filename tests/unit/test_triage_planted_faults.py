"""Planted faults: each way in which results can lie, and the gate never accepts one of them.

Here the path is the real one: records are written as files, read back, compared and gated.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

import msgspec
import pytest

from harness.host.config import data_root
from harness.model.arch import AccelKind, Arch
from harness.model.case import CaseId, CaseRecord
from harness.model.change import Comparison, Verdict
from harness.model.errors import HarnessError
from harness.model.record import Ending, Incident, RunRecord, Splat
from harness.store.baselines import ROLE_512, ROLE_S9, baseline_path, load_baseline, promote
from harness.store.records import RECORD_NAME, read_record, record_text, write_record
from harness.triage.compare import compare_records
from harness.triage.exceptions import Waiver
from harness.triage.gate import gate
from harness.triage.policy import load_policy
from harness.triage.splat import scan_splats
from tests.unit.store_samples import attempts, record, world

_TODAY = date(2026, 11, 22)
_POLICY = load_policy(data_root() / "configs" / "gate", "release")
_CASES = {f"bpf/test_progs/t{n:02}": "P" for n in range(40)} | {"bpf/test_maps": "P"}
_VICTIM = "bpf/test_progs/t07"
_LAPSED = Waiver(
    case=_VICTIM,
    arch=tuple(Arch),
    reason="x",
    link="https://example.org",
    owner="@me",
    until=date(2026, 11, 21),
)


class Site:
    """A run and its baselines on disk, both architectures, all well."""

    def __init__(self, root: Path) -> None:
        self.run, self.baselines = root / "run", root / "baselines"
        self.waivers: list[Waiver] = []

    def fill(self) -> None:
        for arch in Arch:
            write_record(self.record_path(arch), candidate(arch))
            for role in (ROLE_512, ROLE_S9):
                path = self.run.parent / f"{role}-{arch}.json"
                write_record(path, baseline(arch, role))
                promote([path], role, self.baselines)

    def record_path(self, arch: Arch) -> Path:
        return self.run / f"{arch}-bpf" / RECORD_NAME

    def change(self, edit: Callable[[RunRecord], RunRecord], arch: Arch = Arch.AARCH64) -> None:
        """Write another record in the candidate's place, as an engine with a fault would."""
        path = self.record_path(arch)
        path.write_text(record_text(edit(read_record(path))))

    def edit_text(self, edit: Callable[[str], str]) -> None:
        path = self.record_path(Arch.AARCH64)
        path.write_text(edit(path.read_text()))

    def verdict(self) -> Verdict | HarnessError:
        """What a caller gets: a verdict, or the error that stands for it."""
        try:
            found = gate(self._comparisons(), _POLICY, self.waivers, [], _TODAY)
            return found.verdict
        except HarnessError as error:
            return error

    def _comparisons(self) -> list[Comparison]:
        found = []
        for path in sorted(self.run.glob(f"*/{RECORD_NAME}")):
            ours = read_record(path)
            where = ours.world
            a, b = (
                load_baseline(
                    role, where.arch, ours.suite, ours.profile, where.accel, self.baselines
                )
                for role in (ROLE_512, ROLE_S9)
            )
            found.append(compare_records(ours, a, b))
        return found


def candidate(arch: Arch, cases: Mapping[str, str] = _CASES) -> RunRecord:
    return record(cases, world=world(arch=arch))


def baseline(arch: Arch, role: str) -> RunRecord:
    old = world(arch=arch, kernel_sha256=role, selftests_sha256=role)
    return record(
        dict.fromkeys(_CASES, "PPPPP"), world=old, role=role, repetitions=5, run_id=f"{role}-{arch}"
    )


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pristine")
    Site(root).fill()
    return root


@pytest.fixture
def site(pristine: Path, tmp_path: Path) -> Site:
    root = tmp_path / "site"
    shutil.copytree(pristine, root)
    return Site(root)


def test_without_a_fault_the_candidate_is_accepted(site: Site) -> None:
    """Otherwise the tests below would show nothing."""
    assert site.verdict() is Verdict.ACCEPT


def _set(record: RunRecord, marks: str, case: str = _VICTIM) -> RunRecord:
    entry = CaseRecord(case=CaseId.parse(case), attempts=attempts(marks))
    kept = [item for item in record.cases if str(item.case) != case]
    return dataclasses.replace(record, cases=tuple(sorted([*kept, entry], key=lambda e: e.case)))


def _all(marks: str) -> Callable[[RunRecord], RunRecord]:
    return lambda old: dataclasses.replace(
        old,
        cases=tuple(CaseRecord(case=item.case, attempts=attempts(marks)) for item in old.cases),
    )


def _incident(ending: Ending, during: str) -> Callable[[RunRecord], RunRecord]:
    dead = Incident(ending=ending, during=during, what="planted")
    return lambda old: dataclasses.replace(old, incidents=(dead,))


def _drop(share: float) -> Callable[[RunRecord], RunRecord]:
    return lambda old: dataclasses.replace(old, cases=old.cases[: int(len(old.cases) * share)])


def _same_sources_without(case: str) -> Callable[[RunRecord], RunRecord]:
    def edit(old: RunRecord) -> RunRecord:
        kept = tuple(item for item in old.cases if str(item.case) != case)
        same = dataclasses.replace(old.world, selftests_sha256=ROLE_S9)
        return dataclasses.replace(old, cases=kept, world=same)

    return edit


def _panic_after_the_end(old: RunRecord) -> RunRecord:
    lines = ["[   99.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"]
    return dataclasses.replace(old, splats=scan_splats(lines, during="poweroff"))


_FAULTS: dict[str, Callable[[RunRecord], RunRecord]] = {
    "a case was lost": lambda old: _set(old, "L"),
    "a case fails": lambda old: _set(old, "F"),
    "a case crashed and passed when tried again": lambda old: _set(old, "KP"),
    "a case ran out of time": lambda old: _set(old, "T"),
    "a case was not built": lambda old: _set(old, "N"),
    "a case is gone although the sources are the same": _same_sources_without(_VICTIM),
    "a case is gone although its own sources are there": lambda old: dataclasses.replace(
        old,
        cases=tuple(item for item in old.cases if str(item.case) != _VICTIM),
        test_hashes={_VICTIM: "1"},
    ),
    "half of the cases are gone": _drop(0.5),
    "all cases but one are gone": _drop(0.03),
    "there are no cases": _drop(0),
    "all were skipped": _all("S"),
    "all were left out": _all("D"),
    "all were lost": _all("L"),
    "all fail": _all("F"),
    "the run was stopped": lambda old: dataclasses.replace(old, complete=False),
    "another profile ran": lambda old: dataclasses.replace(old, profile="smoke"),
    "a part of the profile ran": lambda old: dataclasses.replace(old, selection=("t0*",)),
    "another accelerator ran": lambda old: dataclasses.replace(
        old, world=dataclasses.replace(old.world, accel=AccelKind.KVM)
    ),
    "the guest panicked after the last case": _incident(Ending.PANICKED, "poweroff"),
    "a panic stands in the log after the last case": _panic_after_the_end,
    "the guest panicked in a case that says it passed": _incident(Ending.PANICKED, _VICTIM),
    "the guest rebooted by itself": _incident(Ending.REBOOTED, "idle"),
    "the guest hung": _incident(Ending.HUNG, "agent"),
    "QEMU died": _incident(Ending.QEMU_DIED, "idle"),
    "the kernel never booted": _incident(Ending.NEVER_BOOTED, "boot"),
    "QEMU never started": _incident(Ending.NEVER_STARTED, "boot"),
    "the kernel complained": lambda old: dataclasses.replace(
        old, splats=(Splat(kind="warn", title="WARNING in f", signature="k1:1", during="x"),)
    ),
    "a damaged complaint": lambda old: dataclasses.replace(
        old,
        splats=(
            Splat(kind="oops", title="?", signature="kx:1", during="x", is_whole=False),
        ),
    ),
    "a forged second outcome": lambda old: dataclasses.replace(
        _set(old, "F"), cases=(*_set(old, "F").cases, CaseRecord(
            case=CaseId.parse(_VICTIM), attempts=attempts("P")))
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", _FAULTS)
def test_a_faulty_record_is_never_accepted(site: Site, fault: str) -> None:
    try:
        site.change(_FAULTS[fault])
    except HarnessError:
        return  # it could not even be written
    assert site.verdict() is not Verdict.ACCEPT


@pytest.mark.parametrize("share", [0, 0.2, 0.5, 0.8, 0.999])
def test_a_cut_record_is_an_error(site: Site, share: float) -> None:
    site.edit_text(lambda text: text[: int(len(text) * share)])
    assert isinstance(site.verdict(), HarnessError)


def _as_json(edit: Callable[[dict[str, dict[str, object]]], object]) -> Callable[[str], str]:
    def change(text: str) -> str:
        raw = json.loads(text)
        edit(raw)
        return json.dumps(raw)

    return change


_DAMAGE: dict[str, Callable[[str], str]] = {
    "a case was dropped from the file": _as_json(lambda raw: raw["cases"].pop(_VICTIM)),
    "a word was changed": lambda text: text.replace(
        f'"{_VICTIM}": [{{"outcome": "pass"', f'"{_VICTIM}": [{{"outcome": "xfail"'
    ),
    "an outcome that there is not": lambda text: text.replace('"pass"', '"fine"', 1),
    "a case twice": lambda text: text.replace(
        f'"{_VICTIM}":', f'"{_VICTIM}": [{{"outcome": "fail"}}],\n  "{_VICTIM}":'
    ),
    "not JSON": lambda text: text.replace("{", "[", 1),
    "another schema": lambda text: text.replace('"schema": 1', '"schema": 2'),
    "a merge conflict": lambda text: "<<<<<<< ours\n" + text,
    "NUL bytes": lambda text: text[:200] + "\0" * 512 + text[712:],
    "empty": lambda _text: "",
}


@pytest.mark.parametrize("damage", _DAMAGE)
def test_a_damaged_record_is_an_error(site: Site, damage: str) -> None:
    before = site.record_path(Arch.AARCH64).read_text()
    site.edit_text(_DAMAGE[damage])
    assert site.record_path(Arch.AARCH64).read_text() != before
    assert isinstance(site.verdict(), HarnessError)


@pytest.mark.parametrize("role", [ROLE_512, ROLE_S9])
@pytest.mark.parametrize("arch", list(Arch))
def test_a_missing_baseline_is_never_accepted(site: Site, role: str, arch: Arch) -> None:
    baseline_path(role, arch, "bpf", "full", AccelKind.TCG, site.baselines).unlink()
    assert site.verdict() is Verdict.INCONCLUSIVE


def test_all_baselines_missing_is_never_accepted(site: Site) -> None:
    for path in site.baselines.glob("*/*/*.json"):
        path.unlink()
    assert site.verdict() is Verdict.INCONCLUSIVE


def test_a_damaged_baseline_is_an_error(site: Site) -> None:
    path = baseline_path(ROLE_512, Arch.AARCH64, "bpf", "full", AccelKind.TCG, site.baselines)
    path.write_text(path.read_text()[:-40])
    assert isinstance(site.verdict(), HarnessError)


def test_a_baseline_of_another_kernel_in_a_roles_place_is_an_error(site: Site) -> None:
    paths = [
        baseline_path(role, Arch.AARCH64, "bpf", "full", AccelKind.TCG, site.baselines)
        for role in (ROLE_512, ROLE_S9)
    ]
    paths[0].write_bytes(paths[1].read_bytes())
    assert isinstance(site.verdict(), HarnessError)


@pytest.mark.parametrize("arch", list(Arch))
def test_a_missing_architecture_is_never_accepted(site: Site, arch: Arch) -> None:
    site.record_path(arch).unlink()
    assert site.verdict() is Verdict.INCONCLUSIVE


def test_one_architectures_record_in_the_others_place_is_never_accepted(site: Site) -> None:
    x86, arm = (site.record_path(arch) for arch in (Arch.X86_64, Arch.AARCH64))
    arm.write_bytes(x86.read_bytes())
    assert site.verdict() is not Verdict.ACCEPT


def test_an_empty_run_is_never_accepted(site: Site) -> None:
    for arch in Arch:
        site.record_path(arch).unlink()
    assert site.verdict() is Verdict.INCONCLUSIVE


def test_a_waiver_that_lapsed_yesterday_hides_nothing(site: Site) -> None:
    site.change(lambda old: _set(old, "F"))
    site.waivers = [_LAPSED]
    assert site.verdict() is Verdict.REJECT


@pytest.mark.parametrize("marks", ["L", "K"])
def test_a_waiver_hides_neither_a_lost_case_nor_a_crash(site: Site, marks: str) -> None:
    site.change(lambda old: _set(old, marks))
    site.waivers = [msgspec.structs.replace(_LAPSED, until=date(2027, 1, 1))]
    assert site.verdict() is Verdict.REJECT


def test_waiving_everything_is_never_accepted(site: Site) -> None:
    for arch in Arch:
        site.change(_all("F"), arch)
    site.waivers = [
        Waiver(
            case=case,
            arch=tuple(Arch),
            reason="x",
            link="https://example.org",
            owner="@me",
            until=date(2027, 1, 1),
        )
        for case in _CASES
    ]
    assert site.verdict() is Verdict.INCONCLUSIVE
