"""Verbs that tell facts and boot nothing: build, unpack, plan, parse."""

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.model.errors import ExitStatus, UserError
from harness.model.kernel import KernelArtifact, SelftestsArtifact
from harness.model.plan import Batch, Plan
from harness.model.text import inert_line
from harness.pipeline import Workshop
from harness.run.lines import LineSplitter
from harness.suites.base import CaseReport
from harness.suites.bpf.plan import plan_bpf
from harness.suites.bpf.readers import reader_for
from harness.verbs.options import existing_file, kernels_of, run_options
from harness.verbs.screen import live_view

_DETAIL = 100


def verb_build(args: argparse.Namespace) -> int:
    """Build the selftests for each kernel; say where they are and what was not built."""
    built: list[SelftestsArtifact] = []
    with live_view() as view:
        workshop = Workshop(on_event=view)
        arches, kernels = kernels_of(args.kernel, args.arch, workshop.arch_of)
        for arch in arches:
            kernel = workshop.kernel(arch, kernels.get(arch))
            built.append(workshop.selftests(kernel, args.source))
    if args.json:
        _print_json([_selftests_facts(item) for item in built])
        return int(ExitStatus.ACCEPT)
    for item in built:
        counts = ", ".join(f"{len(runner.tests)} of {runner.program}" for runner in item.runners)
        print(f"{item.arch}: {counts}; {len(item.not_built)} not built\n  {item.root}")
        for lost in item.not_built:
            print(f"  not built: {lost.object_name} ({lost.stage}): {_line(lost.error)}")
    return int(ExitStatus.ACCEPT)


def verb_unpack(args: argparse.Namespace) -> int:
    """Read a package or an image and say what it is."""
    with live_view() as view:
        workshop = Workshop(on_event=view)
        texts = [args.package] if args.package else []
        arches, kernels = kernels_of(texts, args.arch, workshop.arch_of)
        artifacts = [workshop.kernel(arch, kernels.get(arch)) for arch in arches]
    if args.json:
        _print_json([_kernel_facts(item) for item in artifacts])
        return int(ExitStatus.ACCEPT)
    for item in artifacts:
        for name, value in _kernel_facts(item).items():
            print(f"{name:14} {value if value not in (None, '') else '-'}")
        print()
    return int(ExitStatus.ACCEPT)


def verb_plan(args: argparse.Namespace) -> int:
    """The cases of a run, those left out, and why."""
    with live_view() as view:
        workshop = Workshop(on_event=view)
        options = run_options(args, workshop.arch_of)
        plans: list[Plan] = []
        for arch in options.arches:
            kernel = workshop.kernel(arch, options.kernels.get(arch))
            selftests = workshop.selftests(kernel, options.source)
            plans.append(
                plan_bpf(
                    selftests,
                    profile=options.profile,
                    programs=options.programs,
                    patterns=options.only,
                )
            )
    if args.json:
        _print_json([_plan_facts(plan) for plan in plans])
        return int(ExitStatus.ACCEPT)
    for plan in plans:
        _print_plan(plan)
    return int(ExitStatus.ACCEPT)


def _print_plan(plan: Plan) -> None:
    total = sum(len(batch.cases) for batch in plan.batches)
    print(
        f"{plan.arch} {plan.suite} ({plan.profile}): {total} cases in {len(plan.batches)} batches, "
        f"{len(plan.denied)} left out, {len(plan.not_built)} not built"
    )
    for batch in plan.batches:
        own = ", in a guest of its own" if batch.own_vm else ""
        print(f"  {batch.program}: {len(batch.cases)} cases{own}")
        for item in batch.cases:
            print(f"    {item.selector:>5}  {item.budget_s:5.0f} s  {item.case}")
    for denial in plan.denied:
        print(f"  left out: {denial.case}: {denial.reason} ({denial.source})")
    for case, error in plan.not_built:
        print(f"  not built: {case}: {_line(error)}")


def verb_parse(args: argparse.Namespace) -> int:
    """Read a saved log of a test program: one line a case, as the run would have had them."""
    log = existing_file(args.log)
    reports, problems = parse_log(log, args.program_name)
    if not reports:
        raise UserError(
            f"{log}: no result of {args.program_name} in it",
            hint="name the program that printed it with --program-name",
        )
    if args.json:
        _print_json([_report_facts(report) for report in reports])
        return int(ExitStatus.ACCEPT)
    for report in reports:
        name = "/".join((args.program_name, *report.path))
        print(f"{report.outcome:9} {inert_line(name)}  {_line(report.detail)}".rstrip())
    for problem in problems:
        print(f"problem   {_line(problem)}")
    return int(ExitStatus.ACCEPT)


@dataclasses.dataclass(frozen=True, slots=True)
class _LogLine:
    text: str
    begin_b: int
    end_b: int


def parse_log(log: Path, program: str) -> tuple[list[CaseReport], list[str]]:
    """Cases of a saved log, and the contradictions in it."""
    splitter = LineSplitter()
    reader = reader_for(program)
    reports: list[CaseReport] = []
    with log.open("rb") as file:
        while chunk := file.read(1 << 20):
            for line in splitter.feed(chunk):
                reports.extend(reader.feed(_LogLine(*line)))
    for line in splitter.finish():
        reports.extend(reader.feed(_LogLine(*line)))
    reports.extend(reader.finish(None))
    return reports, [*reader.problems, *reader.notices]


def _line(text: str) -> str:
    return inert_line(text, _DETAIL)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, sort_keys=True, default=str))


def _kernel_facts(kernel: KernelArtifact) -> Mapping[str, Any]:
    facts = dataclasses.asdict(kernel)
    provenance = facts.pop("provenance")
    return {**facts, "kind": provenance["kind"], "from": _source_text(provenance)}


def _source_text(provenance: Mapping[str, str]) -> str:
    return f"{provenance['name']} {provenance['version']}".strip()


def _selftests_facts(item: SelftestsArtifact) -> Mapping[str, Any]:
    return {
        "arch": item.arch,
        "root": item.root,
        "source": item.source_name,
        "compiler": item.compiler,
        "programs": {runner.program: len(runner.tests) for runner in item.runners},
        "not_built": [dataclasses.asdict(lost) for lost in item.not_built],
    }


def _plan_facts(plan: Plan) -> Mapping[str, Any]:
    return {
        "arch": plan.arch,
        "suite": plan.suite,
        "profile": plan.profile,
        "batches": [_batch_facts(batch) for batch in plan.batches],
        "denied": {str(denial.case): denial.reason for denial in plan.denied},
        "not_built": {str(case): error for case, error in plan.not_built},
    }


def _batch_facts(batch: Batch) -> Mapping[str, Any]:
    return {
        "program": batch.program,
        "own_vm": batch.own_vm,
        "cases": {str(item.case): item.budget_s for item in batch.cases},
    }


def _report_facts(report: CaseReport) -> Mapping[str, Any]:
    return {
        "path": report.path,
        "outcome": report.outcome,
        "raw": report.raw,
        "detail": report.detail,
    }
