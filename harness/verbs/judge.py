"""Verbs that read files only: compare, explain, gate, report, and the end of a gated run."""

import argparse
import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.host.cache import write_atomically
from harness.host.config import data_root
from harness.model.arch import Arch
from harness.model.case import Attempt
from harness.model.change import Comparison, Gate, Verdict
from harness.model.errors import ExitStatus, HarnessError, UserError
from harness.model.record import RunRecord
from harness.report.assemble import build_report, cause_texts
from harness.report.content import Report
from harness.report.terminal import print_report
from harness.store.baselines import ROLE_512, ROLE_S9, load_baseline
from harness.store.calls import read_call
from harness.store.cell_errors import read_cell_errors
from harness.store.records import RECORD_NAME, read_record
from harness.store.runs import list_runs, record_paths
from harness.triage.across import tag_across
from harness.triage.cause import CauseTable, load_causes
from harness.triage.compare import compare_records
from harness.triage.exceptions import (
    KnownIssue,
    Waiver,
    expectation,
    load_known_issues,
    load_waivers,
)
from harness.triage.gate import gate
from harness.triage.gate_errors import with_errors
from harness.triage.pairing import Rules
from harness.triage.policy import Policy, load_policy
from harness.triage.renames import Renames, load_renames
from harness.verbs.options import day_of
from harness.verbs.screen import program_name, report_console

_LOG_LIMIT_B = 256 * 1024
_STATUS = {
    Verdict.ACCEPT: ExitStatus.ACCEPT,
    Verdict.REJECT: ExitStatus.REJECT,
    Verdict.INCONCLUSIVE: ExitStatus.INCONCLUSIVE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A run with all that is concluded from it."""

    folder: Path
    records: tuple[RunRecord, ...]
    comparisons: tuple[Comparison, ...]
    gate: Gate
    causes: CauseTable
    errors: tuple[tuple[Arch, HarnessError], ...]

    @property
    def status(self) -> ExitStatus:
        return _STATUS[self.gate.verdict]

    def report(self, *, with_verdict: bool = True) -> Report:
        return build_report(
            self.gate if with_verdict else None,
            self.comparisons,
            self.records,
            errors=self.errors,
            causes=cause_texts(self.causes),
            run_folder=str(self.folder),
            kernel_args=read_call(self.folder),
            program=program_name(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rulebook:
    """All that people have decided about judging, and the day that it is judged as of."""

    policy: Policy
    waivers: Sequence[Waiver]
    known: Sequence[KnownIssue]
    causes: CauseTable
    renames: Renames
    day: datetime.date


def load_rulebook(policy: str, today: str | None) -> Rulebook:
    """Read the configuration that judging rests on; `today` None is today.

    Raises UserError for a policy or a day that is none, and for a file that does not fit: before a
    run is better than after it.
    """
    configs = data_root() / "configs"
    return Rulebook(
        policy=load_policy(configs / "gate", policy),
        waivers=load_waivers(configs / "waivers"),
        known=load_known_issues(configs / "known"),
        causes=load_causes(configs / "causes"),
        renames=load_renames(configs / "renames"),
        day=day_of(today),
    )


def judge_run(folder: Path, baselines: Path, book: Rulebook) -> Judged:
    """Compare a run's records with the baselines and weigh the changes. Reads files only."""
    records, comparisons = compared(folder, baselines, book)
    errors = read_cell_errors(folder) if folder.is_dir() else ()
    weighed = gate(comparisons, book.policy, book.waivers, book.known, book.day)
    return Judged(
        folder=folder,
        records=records,
        comparisons=comparisons,
        gate=with_errors(weighed, errors),
        causes=book.causes,
        errors=errors,
    )


def compared(
    folder: Path, baselines: Path, book: Rulebook
) -> tuple[tuple[RunRecord, ...], tuple[Comparison, ...]]:
    """The records of a run, and each beside its two baselines."""
    records: list[RunRecord] = []
    comparisons: list[Comparison] = []
    for path in _records_at(folder):
        record = read_record(path)
        rules = Rules(
            causes=book.causes,
            renames=book.renames,
            expects_failure=expectation(book.known, book.day),
            log_of=_LogReader(path.parent),
        )
        world = record.world
        base_512, base_s9 = (
            load_baseline(role, world.arch, record.suite, record.profile, world.accel, baselines)
            for role in (ROLE_512, ROLE_S9)
        )
        records.append(record)
        comparisons.append(compare_records(record, base_512, base_s9, rules))
    return tuple(records), tag_across(comparisons, book.causes)


class _LogReader:
    """The log lines of an attempt, from the files beside its record."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, attempt: Attempt) -> Sequence[str]:
        told = (attempt.detail,) if attempt.detail else ()
        span = attempt.log
        if span is None:
            return told
        path = self._folder / span.log
        # A record may come from anybody: its spans lead nowhere but into its own folder.
        if not path.resolve().is_relative_to(self._folder.resolve()) or not path.is_file():
            return told
        with path.open("rb") as file:
            file.seek(span.begin_b)
            raw = file.read(min(max(span.end_b - span.begin_b, 0), _LOG_LIMIT_B))
        return (*told, *raw.decode(errors="backslashreplace").splitlines())


def find_run(text: str, results: Path) -> Path:
    """The folder (or the record) that a person named: `latest`, an id, a path."""
    runs = results / "runs"
    if text == "latest":
        found = [path for path in list_runs(runs) if record_paths(path) or read_cell_errors(path)]
        if not found:
            raise UserError(f"no finished run in {runs}", hint="`harness run` makes one")
        return found[0]
    for path in (runs / text, Path(text)):
        if path.exists():
            return path
    raise UserError(f"no such run: {text}", hint=f"runs are in {runs}")


def _records_at(path: Path) -> tuple[Path, ...]:
    if path.is_file():
        return (path,)
    if (path / RECORD_NAME).is_file():
        return (path / RECORD_NAME,)
    return record_paths(path)


def print_judged(judged: Judged, *, with_verdict: bool = True) -> None:
    print_report(judged.report(with_verdict=with_verdict), report_console())


def verb_gate(args: argparse.Namespace) -> int:
    """Weigh a stored run again; no guest is booted."""
    judged = _judged(args)
    if args.json:
        print(_json_text(judged.gate))
    else:
        print_judged(judged)
    return int(judged.status)


def verb_compare(args: argparse.Namespace) -> int:
    """What changed, without a verdict."""
    args.policy, args.today = "release", None
    judged = _judged(args)
    if args.json:
        print(_json_text(judged.comparisons))
    else:
        print_judged(judged, with_verdict=False)
    return int(ExitStatus.ACCEPT)


def verb_report(args: argparse.Namespace) -> int:
    """The report of a stored run in one of the formats."""
    if args.output is not None and not args.output.parent.is_dir():
        raise UserError(
            f"{args.output}: there is no folder {args.output.parent}", hint="make it first"
        )
    judged = _judged(args)
    if args.format == "terminal" and args.output is None:
        print_judged(judged)
        return int(ExitStatus.ACCEPT)
    text = report_in(args.format, judged)
    if args.output is None:
        print(text, end="" if text.endswith("\n") else "\n")
    else:
        write_atomically(args.output, text.encode())
    return int(ExitStatus.ACCEPT)


def report_in(name: str, judged: Judged) -> str:
    """The report in the format of this name."""
    from harness.report.html import html_text
    from harness.report.junit import junit_text
    from harness.report.kcidb import kcidb_text
    from harness.report.ktap import ktap_text
    from harness.report.markdown import markdown_text
    from harness.report.terminal import report_text

    report, records = judged.report(), judged.records
    match name:
        case "html":
            return html_text(report, records)
        case "junit":
            return junit_text(report, records)
        case "markdown":
            return markdown_text(report)
        case "ktap":
            return "".join(ktap_text(record) for record in records)
        case "kcidb":
            return kcidb_text(records, origin="kernel_harness")
    return report_text(report)


def _judged(args: argparse.Namespace) -> Judged:
    book = load_rulebook(args.policy, args.today)
    folder = find_run(args.run, args.results)
    judged = judge_run(folder, args.results / "baselines", book)
    if not judged.records and not judged.errors:
        raise UserError(f"{folder}: no record in it", hint="the run did not get that far")
    return judged


def _json_text(value: object) -> str:
    return json.dumps(_plain(value), indent=2, sort_keys=True)


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)
