"""Verbs that boot guests: boot, shell, run, and the recording of a baseline."""

import argparse
import dataclasses
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from harness.model.arch import Arch
from harness.model.errors import ExitStatus, HarnessError, UserError
from harness.pipeline import MatrixRun, Prepared, RunOptions, RunResult, Workshop
from harness.run.cell import BOOT_TIMEOUT_S, GuestSetup
from harness.run.session import Session
from harness.store.calls import write_call
from harness.verbs.judge import judge_run, load_rulebook, print_judged
from harness.verbs.options import kernels_of, run_options
from harness.verbs.screen import live_view
from harness.verbs.terminal import relay_console
from harness.vm.machine import Sockets, machine_argv


def verb_run(args: argparse.Namespace) -> int:
    """Kernels and architectures to records; with --gate on to the verdict."""
    book = load_rulebook(args.policy, args.today)  # what is wrong in it is better told now
    result = record_run(args)
    if result is None:
        return int(ExitStatus.ACCEPT)
    judged = judge_run(result.folder, args.results / "baselines", book)
    print_judged(judged, with_verdict=args.gate)
    if result.interrupted:
        return int(ExitStatus.INTERRUPTED)
    if args.gate:
        return int(judged.status)
    return int(worst_status(result.errors))


def record_run(args: argparse.Namespace) -> RunResult | None:
    """Prepare and run every cell that the arguments name; None for a dry run."""
    with live_view() as view:
        workshop = Workshop(on_event=view)
        options = run_options(args, workshop.arch_of)
        if not args.dry_run:
            matrix = MatrixRun(options, args.results / "runs", view)
            return _run_all(workshop, options, matrix, kernel_args(args))
        prepared = [workshop.prepare(arch, options) for arch in options.arches]
    _print_commands(prepared)
    return None


def _run_all(
    workshop: Workshop, options: RunOptions, matrix: MatrixRun, call: Sequence[str]
) -> RunResult:
    try:
        prepared, errors = prepare_all(workshop, options)
    except BaseException:
        matrix.discard_when_empty()
        raise
    write_call(matrix.folder, call)
    for arch, error in errors:
        matrix.note_error(arch, error)
    return matrix.run(prepared)


def prepare_all(
    workshop: Workshop, options: RunOptions
) -> tuple[list[Prepared], list[tuple[Arch, HarnessError]]]:
    """What can be prepared, and why the rest cannot.

    Raises a person's mistake, and what leaves nothing to run where only one cell was asked for.
    """
    prepared: list[Prepared] = []
    errors: list[tuple[Arch, HarnessError]] = []
    for arch in options.arches:
        try:
            prepared.append(workshop.prepare(arch, options))
        except HarnessError as error:
            if error.status is ExitStatus.USAGE or len(options.arches) == 1:
                raise
            errors.append((arch, error))
    return prepared, errors


def worst_status(errors: Sequence[tuple[Arch, HarnessError]]) -> ExitStatus:
    """The exit status of a run without a gate: what is known of a kernel counts most."""
    found = {error.status for _, error in errors}
    order = (ExitStatus.REJECT, ExitStatus.USAGE, ExitStatus.INCONCLUSIVE)
    return next((status for status in order if status in found), ExitStatus.ACCEPT)


def verb_boot(args: argparse.Namespace) -> int:
    """Boot each kernel to its agent, say what it is, power it off."""
    with live_view() as view:
        workshop = Workshop(on_event=view)
        arches, kernels = kernels_of(args.kernel, args.arch, workshop.arch_of)
        setups = [
            workshop.guest(workshop.kernel(arch, kernels.get(arch)), None, memory_mib=args.memory)
            for arch in arches
        ]
    if args.dry_run:
        for setup in setups:
            print(shlex.join(pasteable(setup)))
        return int(ExitStatus.ACCEPT)
    for setup in setups:
        _boot_and_tell(setup, _scratch(workshop, setup.arch_spec.arch))
    return int(ExitStatus.ACCEPT)


def _boot_and_tell(setup: GuestSetup, folder: Path) -> None:
    guest = Session(setup.machine(), folder, setup.qemu)
    begin = time.monotonic()
    try:
        hello = guest.start(BOOT_TIMEOUT_S)
        took_s = time.monotonic() - begin
        loop_ms = guest.calibrate()
    finally:
        guest.power_off()
    print(
        f"{setup.arch_spec.arch}: {hello.release} answered after {took_s:.1f} s "
        f"({setup.accel.kind}, {hello.cpus} CPUs, {hello.memory_kib // 1024} MiB, "
        f"calibration {loop_ms:.0f} ms); kernel log in {folder / 'console.log'}"
    )


def verb_shell(args: argparse.Namespace) -> int:
    """An interactive shell on the console of one guest."""
    with live_view() as view:
        workshop = Workshop(on_event=view)
        arches, kernels = kernels_of(args.kernel, args.arch, workshop.arch_of)
        if len(args.arch or kernels) > 1:
            raise UserError("a shell is in one guest", hint="name one --arch, or one --kernel")
        arch = arches[0]
        kernel = workshop.kernel(arch, kernels.get(arch))
        selftests = None if args.no_selftests else workshop.selftests(kernel, args.source)
        setup = workshop.guest(kernel, selftests, memory_mib=args.memory)
    setup = dataclasses.replace(setup, extra_cmdline=("harness.shell", "loglevel=4"))
    if args.dry_run:
        print(shlex.join(pasteable(setup)))
        return int(ExitStatus.ACCEPT)
    folder = _scratch(workshop, arch)
    return relay_console(setup.machine(), folder, setup.qemu)


def _scratch(workshop: Workshop, arch: Arch) -> Path:
    """A folder for the logs of a guest that belongs to no run; the last one's logs go."""
    folder = workshop.cache.root / "boots" / f"{arch}-{time.time_ns()}"
    folder.mkdir(parents=True)
    return folder


def pasteable(setup: GuestSetup) -> tuple[str, ...]:
    """QEMU's command with sockets in the current folder, for a person to paste."""
    return machine_argv(setup.machine(), Sockets.in_folder(Path()), setup.qemu)


def _print_commands(prepared: list[Prepared]) -> None:
    for item in prepared:
        cases = sum(len(batch.cases) for batch in item.plan.batches)
        print(f"# {item.plan.arch}: {cases} cases, {len(item.plan.denied)} left out")
        print(shlex.join(pasteable(item.setup)))


def kernel_args(args: argparse.Namespace) -> tuple[str, ...]:
    """The arguments that name the candidate again, for commands that a report prints."""
    named = tuple(word for text in args.kernel for word in ("--kernel", text))
    return (*named, *(("--source", str(args.source)) if args.source else ()))
