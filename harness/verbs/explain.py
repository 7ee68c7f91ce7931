"""`harness explain`: one case with all that is known of it, from stored files."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from harness.model.case import Attempt, CaseId, CaseRecord
from harness.model.change import Change, Side
from harness.model.errors import ExitStatus, UserError
from harness.model.record import RunRecord
from harness.model.text import inert, inert_line
from harness.report.words import rerun_command, side_words
from harness.triage.cause import Cause
from harness.verbs.judge import Judged, find_run, judge_run, load_rulebook
from harness.vm.timeline import offset_at, read_timeline, time_of

_LOG_LINES = 24
_KERNEL_LINES = 12
_MOST_NAMED = 12


def verb_explain(args: argparse.Namespace) -> int:
    """Say what became of one case on each architecture, why, and how to see it again."""
    folder = find_run(args.run, args.results)
    judged = judge_run(folder, args.results / "baselines", load_rulebook("release", None))
    case = find_case(args.case, judged.records)
    for record, changes in zip(judged.records, judged.comparisons, strict=True):
        if args.arch and record.world.arch not in args.arch:
            continue
        change = next((item for item in changes.changes if item.case == case), None)
        entry = next((item for item in record.cases if item.case == case), None)
        _print_one(judged, record, case, entry, change, _cell_folder(folder, record))
    return int(ExitStatus.ACCEPT)


def find_case(text: str, records: Sequence[RunRecord]) -> CaseId:
    """The one case that a person means: its whole name, or a part that no other case has."""
    names = {str(entry.case): entry.case for record in records for entry in record.cases}
    if text in names:
        return names[text]
    ends = [name for name in names if name.endswith(f"/{text}")]
    found = ends or [name for name in names if text in name]
    if len(found) == 1:
        return names[found[0]]
    if not found:
        raise UserError(f"no case is called {text!r}", hint="`harness plan` lists them")
    shown = ", ".join(sorted(found)[:_MOST_NAMED])
    raise UserError(f"{text!r} is a part of {len(found)} cases: {inert_line(shown)}")


def _print_one(
    judged: Judged,
    record: RunRecord,
    case: CaseId,
    entry: CaseRecord | None,
    change: Change | None,
    folder: Path,
) -> None:
    arch = record.world.arch
    print(f"{case} on {arch} ({record.world.kernel_release}, {record.world.accel})")
    if change is not None:
        for name, side in _sides(change):
            print(f"  {name:10} {side_words(side)}  {inert_line(side.detail)}".rstrip())
        print(f"  {'verdict':10} {change.kind}{_tags_text(change)}")
        if change.explanation:
            print(f"  {'because':10} {inert_line(change.explanation)}")
        cause = _cause(judged, change.cause)
        if cause is not None:
            print(f"  {'cause':10} {cause.title} ({cause.culprit})")
            print(
                f"  {'try':10} {cause.hint}" if cause.hint else "", end="\n" if cause.hint else ""
            )
    for attempt in entry.attempts if entry else ():
        _print_evidence(attempt, folder)
    program_case = case.parent if case.is_subtest else case
    print(f"  {'again':10} {shlex.join(rerun_command((arch,), str(program_case)))}")
    print()


def _sides(change: Change) -> tuple[tuple[str, Side], ...]:
    return (
        ("candidate", change.candidate),
        ("5.12", change.base_512),
        ("Stream 9", change.base_s9),
    )


def _tags_text(change: Change) -> str:
    return f" [{', '.join(change.tags)}]" if change.tags else ""


def _cause(judged: Judged, name: str) -> Cause | None:
    return next((cause for cause in judged.causes.causes if cause.id == name), None)


def _print_evidence(attempt: Attempt, folder: Path) -> None:
    span = attempt.log
    if span is None:
        return
    log = (folder / span.log).resolve()
    if not log.is_relative_to(folder.resolve()) or not log.is_file():
        print(f"  {'log':10} {span.log} is not there any more")
        return
    print(f"  {'log':10} {log}, bytes {span.begin_b} to {span.end_b}")
    for line in _lines(log, span.begin_b, span.end_b)[:_LOG_LINES]:
        print(f"    | {inert_line(line)}")
    for line in _kernel_lines(log.parent, span.begin_b, span.end_b):
        print(f"    kernel | {inert_line(line)}")


def _kernel_lines(guest: Path, begin_b: int, end_b: int) -> list[str]:
    """What the kernel said while the case ran: the two logs are aligned by the timeline."""
    timeline, console = guest / "timeline.jsonl", guest / "console.log"
    if not timeline.is_file() or not console.is_file():
        return []
    moments = read_timeline(timeline)
    begin_s, end_s = time_of(moments, "output", begin_b), time_of(moments, "output", end_b)
    if begin_s is None or end_s is None:
        return []
    first, last = offset_at(moments, "console", begin_s), offset_at(moments, "console", end_s)
    return _lines(console, first, last)[-_KERNEL_LINES:]


def _lines(path: Path, begin_b: int, end_b: int) -> list[str]:
    with path.open("rb") as file:
        file.seek(begin_b)
        raw = file.read(max(end_b - begin_b, 0))
    return [inert(line) for line in raw.decode(errors="backslashreplace").splitlines() if line]


def _cell_folder(run: Path, record: RunRecord) -> Path:
    if run.is_file():
        return run.parent
    return run / f"{record.world.arch}-{record.suite}"
