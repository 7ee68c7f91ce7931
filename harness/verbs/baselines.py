"""Verbs about baselines: record one, promote a run to one, list them, show one."""

import argparse
from pathlib import Path

from harness.model.case import Outcome
from harness.model.errors import ExitStatus, UserError
from harness.model.record import RunRecord
from harness.run.recorder import outcome_counts
from harness.store.baselines import BaselineEntry, Promotion, list_baselines, promote
from harness.store.records import RECORD_NAME
from harness.store.runs import record_paths
from harness.verbs.judge import find_run
from harness.verbs.runs import record_run, worst_status


def verb_baseline(args: argparse.Namespace) -> int:
    """One verb with four actions."""
    actions = {"record": _record, "promote": _promote, "list": _list, "show": _show}
    return actions[args.action](args)


def _record(args: argparse.Namespace) -> int:
    """Run the cells as a baseline of a role; nothing is promoted yet."""
    args.role = _role(args)
    args.gate = args.serial = args.dry_run = False
    result = record_run(args)
    if result is None:
        return int(ExitStatus.ACCEPT)
    for record in result.records:
        _print_record(record, str(result.folder))
    if result.interrupted:
        return int(ExitStatus.INTERRUPTED)
    print(f"to make it the baseline: harness baseline promote {result.run_id} --role {args.role}")
    return int(worst_status(result.errors))


def _promote(args: argparse.Namespace) -> int:
    """Make a run's records the baselines of a role."""
    role = _role(args)
    folder = find_run(args.run, args.results)
    paths = (folder,) if folder.is_file() else record_paths(folder)
    if not paths:
        raise UserError(f"{folder}: no record in it", hint=f"each cell's is called {RECORD_NAME}")
    for path in paths:
        promotion = promote(
            [path],
            role,
            args.results / "baselines",
            min_repetitions=args.min_runs,
            allow_candidate=args.allow_candidate,
        )
        _print_promotion(promotion)
    return int(ExitStatus.ACCEPT)


def _print_promotion(promotion: Promotion) -> None:
    record, before = promotion.record, promotion.replaced
    _print_record(record, str(promotion.path))
    if before is None:
        print("  there was none before")
        return
    old = {entry.case: entry.attempts for entry in before.cases}
    new = {entry.case: entry.attempts for entry in record.cases}
    changed = sum(
        tuple(item.outcome for item in old[case]) != tuple(item.outcome for item in attempts)
        for case, attempts in new.items()
        if case in old
    )
    print(
        f"  instead of {before.world.kernel_release} of {before.started_utc}: "
        f"{changed} cases changed, {len(new.keys() - old.keys())} new, "
        f"{len(old.keys() - new.keys())} gone"
    )


def _list(args: argparse.Namespace) -> int:
    entries = list_baselines(args.results / "baselines")
    for entry in entries:
        _print_entry(entry)
    if not entries:
        print(f"no baseline in {args.results / 'baselines'}")
    return int(ExitStatus.ACCEPT)


def _show(args: argparse.Namespace) -> int:
    """Every case of the stored baselines of a role, with its outcomes."""
    role = _role(args)
    chosen = [
        entry
        for entry in list_baselines(args.results / "baselines")
        if entry.role == role
        and (not args.arch or (entry.record and entry.record.world.arch in args.arch))
    ]
    if not chosen:
        raise UserError(f"there is no {role} baseline", hint="harness baseline list")
    for entry in chosen:
        _print_entry(entry)
        for case in entry.record.cases if entry.record else ():
            print(f"  {' '.join(str(item.outcome) for item in case.attempts):24} {case.case}")
    return int(ExitStatus.ACCEPT)


def _role(args: argparse.Namespace) -> str:
    if args.role is None:
        raise UserError(
            f"baseline {args.action} needs a role", hint="--role 5.12 or --role stream9"
        )
    return str(args.role)


def _print_entry(entry: BaselineEntry) -> None:
    if entry.record is None:
        print(f"{entry.role}: {entry.path}: damaged: {entry.problem}")
    else:
        _print_record(entry.record, str(Path(entry.path)))


def _print_record(record: RunRecord, where: str) -> None:
    counts = outcome_counts(record.cases)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])
    whole = "" if record.complete else ", NOT COMPLETE"
    print(
        f"{record.role} {record.world.arch} {record.suite} ({record.profile}, "
        f"{record.world.accel}): {record.world.kernel_release}, {record.repetitions} repetitions, "
        f"{told}{whole}\n  {where}"
    )
