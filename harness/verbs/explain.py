"""`harness explain`: one case with all that is known of it, from stored files."""

import argparse
import difflib
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.model.case import Attempt, CaseId, Outcome
from harness.model.change import Change
from harness.model.errors import ExitStatus, UserError
from harness.model.record import RunRecord
from harness.model.text import inert, inert_line
from harness.report.words import (
    ACCEL_WORDS,
    BAD_OUTCOMES,
    OUTCOME_WORDS,
    counted,
    duration_text,
    kind_words,
    rerun_command,
    side_words,
)
from harness.store.calls import read_call
from harness.triage.cause import Cause
from harness.verbs.judge import Judged, find_run, judge_run, load_rulebook
from harness.verbs.screen import program_name
from harness.vm.timeline import offset_at, read_timeline, time_of

_LOG_LINES = 24
_KERNEL_LINES = 12
_MOST_NAMED = 12
_READ_B = 1 << 20


def verb_explain(args: argparse.Namespace) -> int:
    """Say what became of one case on each architecture, why, and how to see it again."""
    folder = find_run(args.run, args.results)
    judged = judge_run(folder, args.results / "baselines", load_rulebook("release", None))
    case = find_case(args.case, judged.records)
    for record, changes in zip(judged.records, judged.comparisons, strict=True):
        if args.arch and record.world.arch not in args.arch:
            continue
        change = next((item for item in changes.changes if item.case == case), None)
        print("\n".join(_told(judged, record, case, change, _cell_folder(folder, record))))
        print()
    return int(ExitStatus.ACCEPT)


def find_case(text: str, records: Sequence[RunRecord]) -> CaseId:
    """The one case that a person means: its whole name, its last part, or a part of its name.

    Raises UserError for a text that no case has, or several have.
    """
    names = {str(entry.case): entry.case for record in records for entry in record.cases}
    whole = [text] if text in names else []
    ends = [name for name in names if name.endswith(f"/{text}")]
    parts = [name for name in names if text in name]
    found = next((choice for choice in (whole, ends, parts) if choice), [])
    if len(found) == 1:
        return names[found[0]]
    if not found:
        last = {name.rpartition("/")[2]: name for name in names}
        near = difflib.get_close_matches(text.rpartition("/")[2], last, n=4)
        hint = f"did you mean {', '.join(last[name] for name in near)}?" if near else ""
        raise UserError(f"no case is called {text!r}", hint=hint or "`harness plan` lists them")
    shown = ", ".join(sorted(found)[:_MOST_NAMED])
    raise UserError(
        f"{text!r} is a part of {len(found)} cases: {inert_line(shown)}"
        + (", …" if len(found) > _MOST_NAMED else ""),
        hint="write out more of the one that is meant",
    )


def _told(
    judged: Judged, record: RunRecord, case: CaseId, change: Change | None, folder: Path
) -> Iterable[str]:
    """Everything about one case on one architecture, line by line."""
    world = record.world
    yield inert_line(f"{case} on {world.arch}")
    yield _row("kernel", f"{world.kernel_release}, {ACCEL_WORDS[world.accel]}, run {record.run_id}")
    entry = next((item for item in record.cases if item.case == case), None)
    if change is not None:
        yield from _judgement(judged, record, change)
    elif entry is None:
        yield _row("candidate", "no such case in this run")
    yield from _subtests(record, case)
    attempts = entry.attempts if entry else ()
    for number, attempt in enumerate(attempts, start=1):
        if len(attempts) > 1:
            yield _row("attempt", _attempt_text(attempt, number, len(attempts)))
        yield from _evidence(record, case, attempt, folder)
    yield from _incidents(record, case)
    yield _row("again", _again(judged, record, case, attempts))


def _judgement(judged: Judged, record: RunRecord, change: Change) -> Iterable[str]:
    missing = _missing_roles(judged, record)
    for name, role, side in (
        ("candidate", "", change.candidate),
        ("5.12", "5.12", change.base_512),
        ("Stream 9", "stream9", change.base_s9),
    ):
        words = "no baseline" if role in missing else side_words(side)
        yield _row(name, f"{words}: {side.detail}" if side.detail else words)
    yield _row("verdict", kind_words(change.kind, change.tags))
    if change.explanation and not missing:
        yield _row("because", change.explanation)
    cause = _cause(judged, change.cause)
    if cause is not None:
        yield _row("cause", f"{cause.title} ({cause.culprit})")
        if cause.hint:
            yield _row("try", cause.hint)


def _missing_roles(judged: Judged, record: RunRecord) -> tuple[str, ...]:
    index = judged.records.index(record)
    return judged.comparisons[index].missing_baselines


def _cause(judged: Judged, name: str) -> Cause | None:
    return next((cause for cause in judged.causes.causes if cause.id == name), None)


def _subtests(record: RunRecord, case: CaseId) -> Iterable[str]:
    """What became of a test's subtests: how many, and each that is not well."""
    own = [e for e in record.cases if e.case.is_subtest and e.case.parent == case]
    if not own:
        return
    last = [(entry, entry.attempts[-1]) for entry in own]
    counts = {word: sum(item.outcome is word for _, item in last) for word in OUTCOME_WORDS}
    told = ", ".join(f"{OUTCOME_WORDS[word]} {count}" for word, count in counts.items() if count)
    yield _row("subtests", told)
    for entry, attempt in last:
        if attempt.outcome in BAD_OUTCOMES:
            yield _row("", f"{attempt.outcome}: {entry.case.path[-1]}: {attempt.detail}")


def _attempt_text(attempt: Attempt, number: int, total: int) -> str:
    took = f" after {duration_text(attempt.duration_s)}" if attempt.duration_s is not None else ""
    where = ", alone in a guest of its own" if attempt.fresh_vm else ""
    detail = f": {attempt.detail}" if attempt.detail else ""
    return f"{number} of {total}: {OUTCOME_WORDS[attempt.outcome]}{took}{where}{detail}"


def _evidence(record: RunRecord, case: CaseId, attempt: Attempt, folder: Path) -> Iterable[str]:
    """The attempt's piece of the test's log, the kernel's lines of that time, its complaints."""
    span = attempt.log
    if span is not None:
        log = (folder / span.log).resolve()
        if not log.is_relative_to(folder.resolve()) or not log.is_file():
            yield _row("log", f"{span.log} is not there any more")
            return
        yield _row("log", f"{log}, bytes {span.begin_b} to {span.end_b}")
        lines = _lines(log, span.begin_b, span.end_b)
        yield from (f"    | {line}" for line in excerpt(lines, attempt.detail, _LOG_LINES))
        kernel = _kernel_lines(log.parent, span.begin_b, span.end_b)
        if kernel:
            yield _row("kernel log", f"{log.parent / 'console.log'}, meanwhile")
            yield from (f"    | {line}" for line in kernel)
    for splat in record.splats:
        if splat.signature in attempt.splats and splat.during == str(case):
            yield _row("complaint", f"{splat.kind}: {splat.title}")
            yield from (f"    | {_raw(frame)}" for frame in splat.frames[:_KERNEL_LINES])


def excerpt(lines: Sequence[str], telling: str, limit: int) -> list[str]:
    """The lines that matter most, `limit` at the most: around the telling one, or the last ones."""
    if len(lines) <= limit:
        return list(lines)
    at = next((i for i, line in enumerate(lines) if telling and telling in line), len(lines))
    begin = max(0, min(at - limit // 2, len(lines) - limit))
    shown = list(lines[begin : begin + limit])
    left = len(lines) - begin - len(shown)
    before = [f"… {counted(begin, 'line')} before …"] if begin else []
    return [*before, *shown, *([f"… {counted(left, 'line')} more …"] if left else [])]


def _kernel_lines(guest: Path, begin_b: int, end_b: int) -> list[str]:
    """What the kernel said while the case ran: the two logs are aligned by the timeline."""
    timeline, console = guest / "timeline.jsonl", guest / "console.log"
    if not timeline.is_file() or not console.is_file():
        return []
    try:
        moments = read_timeline(timeline)
    except (ValueError, TypeError):  # damaged: the logs are whole all the same
        return []
    # A test's output comes at its end, all at once: it began when the one before it had ended.
    begin_s = time_of(moments, "output", begin_b - 1) or 0.0
    end_s = time_of(moments, "output", end_b - 1)
    if end_s is None:
        return []
    later = [m.offset_b for m in moments if m.channel == "console" and m.t_s > end_s]
    first = offset_at(moments, "console", begin_s)
    last = min(later, default=console.stat().st_size)
    return _lines(console, first, last)[-_KERNEL_LINES:]


def _incidents(record: RunRecord, case: CaseId) -> Iterable[str]:
    for incident in record.incidents:
        if incident.during == str(case):
            ending = str(incident.ending).replace("_", " ")
            yield _row("guest", f"{ending}: {incident.what}; its last words:")
            yield from (f"    | {_raw(line)}" for line in incident.evidence[-_KERNEL_LINES:])


def _again(judged: Judged, record: RunRecord, case: CaseId, attempts: Sequence[Attempt]) -> str:
    command = rerun_command(
        (record.world.arch,), str(case), read_call(judged.folder), program_name()
    )
    if any(attempt.outcome is Outcome.DENIED for attempt in attempts):
        command = (*command, "--profile", "full")
    elif record.profile != "quick":
        command = (*command, "--profile", record.profile)
    return shlex.join(command)


def _raw(line: str) -> str:
    """A line of a log with its white space, which aligns it with its neighbours."""
    return inert(line).replace("\n", " ")


def _row(name: str, text: str) -> str:
    return f"  {name:10} {inert_line(text)}".rstrip()


def _lines(path: Path, begin_b: int, end_b: int) -> list[str]:
    with path.open("rb") as file:
        file.seek(begin_b)
        raw = file.read(min(max(end_b - begin_b, 0), _READ_B))
    return [inert(line) for line in raw.decode(errors="backslashreplace").splitlines() if line]


def _cell_folder(run: Path, record: RunRecord) -> Path:
    if run.is_file():
        return run.parent
    return run / f"{record.world.arch}-{record.suite}"
