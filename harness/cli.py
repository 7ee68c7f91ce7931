"""The command line: reads arguments, calls one verb, turns errors into words and an exit status.

Nothing heavy is imported before a verb is called, so that `--help` answers at once.
"""

import argparse
import contextlib
import importlib
import logging
import math
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from harness.host.streams import lasting, settle
from harness.model.arch import Arch
from harness.model.errors import ExitStatus, HarnessError
from harness.model.text import inert

Adder = Callable[[argparse.ArgumentParser], None]

EPILOG = """\
exit status: 0 accept (or done), 1 reject: a finding about the kernel blocks, 2 wrong usage or
configuration, 3 inconclusive: nothing can be said about the kernel, 130 interrupted

environment: HARNESS_CACHE is where things are kept that can be made again, HARNESS_DATA is a folder
with configs/ and selftests/ to use instead of the harness's own, HARNESS_DEBUG=1 shows tracebacks,
NO_COLOR=1 leaves colours out
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit status; no traceback for a foreseeable error."""
    try:
        with _signals_interrupt():
            return _run_verb(argv)
    except KeyboardInterrupt:
        _say("harness: interrupted")
        return int(ExitStatus.INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error, and not to be told to it.
        settle(sys.stdout)
        return int(ExitStatus.INCONCLUSIVE)
    except Exception as error:
        known = error if isinstance(error, HarnessError) else _as_known(error, argv)
        if os.environ.get("HARNESS_DEBUG", "0") not in ("", "0"):
            traceback.print_exception(error, file=lasting(sys.stderr))
        _print_error(known)
        return int(known.status)


def _run_verb(argv: Sequence[str] | None) -> int:
    # What rooms log is for the run's own file: on the terminal it would be a second voice.
    logging.getLogger().addHandler(logging.NullHandler())
    logging.raiseExceptions = False
    try:
        args = command_line_parser().parse_args(argv)
        verb = importlib.import_module(f"harness.verbs.{_MODULES[args.verb]}")
        handler: Callable[[argparse.Namespace], int] = getattr(verb, f"verb_{args.verb}")
        return int(handler(args))
    finally:
        sys.stdout.flush()  # here, where a full disk or a reader that left can still be told


def _as_known(error: Exception, argv: Sequence[str] | None) -> HarnessError:
    from harness.host.faults import as_known

    if isinstance(error, OSError):
        settle(sys.stdout)  # it may be what failed, and Python flushes it once more at the end
    return as_known(error, sys.argv[1:] if argv is None else argv)


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """End in good order, as by Ctrl-C, when told to terminate: by a CI's limit, by a hung-up line.

    A signal that our caller has us ignore (`nohup`) stays ignored.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    names = (signal.SIGTERM, signal.SIGHUP)
    is_ours = threading.current_thread() is threading.main_thread()
    caught = [name for name in names if is_ours and signal.getsignal(name) is signal.SIG_DFL]
    for name in caught:
        signal.signal(name, interrupt)
    try:
        yield
    finally:
        for name in caught:
            signal.signal(name, signal.SIG_DFL)


def _print_error(error: HarnessError) -> None:
    lines = [f"harness: {inert(str(error))}"]
    lines += [f"  log     {inert(line)}" for line in error.evidence]
    lines += [f"  try     {inert(error.hint)}"] if error.hint else []
    _say(*lines, f"  blame   {error.blame}   (exit status {int(error.status)})")


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=lasting(sys.stderr), flush=True)


def command_line_parser() -> argparse.ArgumentParser:
    """Every verb with its options."""
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Boot candidate kernels, run their selftests, compare, and say yes or no.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, summary, adders in _VERBS:
        sub = verbs.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for add in adders:
            add(sub)
    return parser


# -- groups of options ---------------------------------------------------------------------------


def _arch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--arch",
        action="append",
        type=_arch_named,
        metavar="ARCH",
        help=f"{' or '.join(Arch)}; may be repeated (default: both, or what --kernel is made for)",
    )


def _kernel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kernel",
        action="append",
        default=[],
        metavar="[ARCH=]KERNEL",
        help="PACKAGE.deb, or IMAGE[,MODULES[,CONFIG]]; may be repeated, once an architecture "
        "(default: the distribution's newest packaged kernel)",
    )


def _source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source",
        type=Path,
        metavar="TREE",
        help="kernel source tree to build the selftests from (default: the distribution's source "
        "package of the same version as the kernel)",
    )


def _selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile",
        default="quick",
        choices=["quick", "full"],
        help="quick leaves out the verif_scale family and says so (default: quick)",
    )
    parser.add_argument(
        "--program",
        action="append",
        default=[],
        metavar="NAME",
        help="only this program: test_progs, test_verifier, test_maps; may be repeated",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="CASE",
        help="only cases that match: a name, a part of it, or a glob; may be repeated",
    )


def _results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="folder with runs/ and baselines/ (default: results)",
    )


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gate", action="store_true", help="compare and gate; exit by the verdict")
    parser.add_argument(
        "--repeat", type=_positive, default=1, metavar="N", help="run each cell N times"
    )
    parser.add_argument(
        "--budget-factor", type=_factor, default=1.0, metavar="X", help="stretch all time budgets"
    )
    parser.add_argument("--serial", action="store_true", help="one guest at a time")
    _dry_run(parser)


def _policy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--policy",
        default="release",
        metavar="NAME",
        help="configs/gate/NAME.toml (default: release)",
    )
    parser.add_argument(
        "--today",
        metavar="YYYY-MM-DD",
        help="judge waivers as of this day (default: today)",
    )


def _run_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        nargs="?",
        default="latest",
        help="a run: its id, its folder, a record file, or `latest` (default)",
    )


def _dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print facts as JSON")


def _shell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--memory", type=_positive, default=2048, metavar="MIB", help="guest memory"
    )
    parser.add_argument(
        "--no-selftests", action="store_true", help="do not build nor carry the selftests"
    )
    _dry_run(parser)


def _format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        default="terminal",
        choices=["terminal", "html", "junit", "markdown", "ktap", "kcidb"],
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there, not to stdout")


def _parse(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", type=Path, help="what the program printed")
    parser.add_argument(
        "--program-name",
        default="test_progs",
        choices=["test_progs", "test_verifier", "test_maps"],
        help="which program printed it (default: test_progs)",
    )


def _baseline(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["record", "promote", "list", "show"])
    parser.add_argument("run", nargs="?", default="latest", help="promote: a run (default: latest)")
    parser.add_argument("--role", choices=["5.12", "stream9"], help="which baseline it becomes")
    parser.add_argument(
        "--repeat", type=_positive, default=5, metavar="N", help="record: runs a cell"
    )
    parser.add_argument("--budget-factor", type=_factor, default=1.0, help=argparse.SUPPRESS)
    parser.add_argument(
        "--min-runs", type=_positive, default=5, help="promote: refuse fewer repetitions"
    )
    parser.add_argument(
        "--allow-candidate",
        action="store_true",
        help="promote: also a run that was made as a candidate",
    )


def _case(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("case", help="suite/program/test[/subtest], or a part that names one case")
    parser.add_argument("--run", default="latest", help="a run: its id, its folder, or `latest`")


def _unpack(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", nargs="?", help="PACKAGE.deb or an image (default: as in run)")


def _arch_named(text: str) -> Arch:
    if text not in list(Arch):
        raise argparse.ArgumentTypeError(f"no such architecture: {text!r}: {' or '.join(Arch)}")
    return Arch(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"wanted a whole number of 1 or more, not {text!r}")
    return int(text)


def _factor(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"wanted a number above 0, not {text!r}")


_VERBS: tuple[tuple[str, str, tuple[Adder, ...]], ...] = (
    (
        "doctor",
        "what this host can do, what is missing, and the command that installs it",
        (_json,),
    ),
    (
        "build",
        "source tree → selftests built for a kernel of each architecture; prints where they are",
        (_arch, _kernel, _source, _json),
    ),
    (
        "unpack",
        "package or image → kernel artifact; prints what it is and where its files are",
        (_unpack, _arch, _json),
    ),
    (
        "plan",
        "the cases that a run would have, those left out, and why",
        (_arch, _kernel, _source, _selection, _json),
    ),
    ("boot", "boot a kernel to its agent, say what it is, power off", (_arch, _kernel, _shell)),
    (
        "shell",
        "an interactive shell in a guest, with the selftests in it",
        (_arch, _kernel, _source, _shell),
    ),
    (
        "run",
        "kernels and architectures → results/runs/<id>: one record a cell",
        (_arch, _kernel, _source, _selection, _results, _policy, _run),
    ),
    ("parse", "a saved log of a test program → its cases", (_parse, _json)),
    (
        "baseline",
        "record, promote, list and show the records that candidates are compared with",
        (_baseline, _arch, _kernel, _source, _selection, _results),
    ),
    ("compare", "a run's records and the two baselines → changes", (_run_folder, _results, _json)),
    (
        "explain",
        "one case: three outcomes, cause, evidence, and the command that reproduces it",
        (_case, _arch, _results),
    ),
    (
        "gate",
        "a run's changes, policy, waivers and date → verdict and exit status",
        (_run_folder, _results, _policy, _json),
    ),
    (
        "report",
        "a run → terminal, html, junit, markdown, ktap or kcidb",
        (_run_folder, _results, _policy, _format),
    ),
)

_MODULES = {
    "doctor": "host",
    **dict.fromkeys(("build", "unpack", "plan", "parse"), "facts"),
    **dict.fromkeys(("boot", "shell", "run"), "runs"),
    **dict.fromkeys(("compare", "gate", "report"), "judge"),
    "baseline": "baselines",
    "explain": "explain",
}
