"""Arguments as the pipeline wants them; a wrong one is a UserError here and nowhere further in."""

import argparse
import datetime
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.model.arch import Arch
from harness.model.errors import UserError
from harness.pipeline import RunOptions


def kernels_of(
    texts: list[str], arches: list[Arch] | None, detect: Callable[[str], Arch]
) -> tuple[tuple[Arch, ...], Mapping[Arch, str]]:
    """The architectures to work on, and the kernel named for each.

    `detect(text)` tells what a kernel that was named without an architecture is made for.
    """
    named: dict[Arch, str] = {}
    for text in texts:
        prefix, equals, rest = text.partition("=")
        known = equals and prefix in list(Arch)
        arch = Arch(prefix) if known else _only(arches) or detect(text)
        if arch in named:
            raise UserError(
                f"two kernels for {arch}: {named[arch]} and {rest if known else text}",
                hint="name one for each architecture: --kernel ARCH=KERNEL",
            )
        named[arch] = rest if known else text
    chosen = tuple(dict.fromkeys(arches)) if arches else tuple(named) or tuple(Arch)
    stray = [arch for arch in named if arch not in chosen]
    if stray:
        raise UserError(
            f"a kernel for {stray[0]} is named, and --arch leaves {stray[0]} out",
            hint=f"add --arch {stray[0]}, or leave that kernel out",
        )
    return chosen, named


def _only(arches: list[Arch] | None) -> Arch | None:
    return arches[0] if arches and len(set(arches)) == 1 else None


def run_options(args: argparse.Namespace, detect: Callable[[str], Arch]) -> RunOptions:
    """Read the arguments of `run`, `plan` and `baseline record`."""
    arches, kernels = kernels_of(args.kernel, args.arch, detect)
    return RunOptions(
        arches=arches,
        kernels=kernels,
        source=args.source,
        profile=args.profile,
        programs=tuple(args.program),
        only=tuple(args.only),
        repeat=getattr(args, "repeat", 1),
        budget_factor=getattr(args, "budget_factor", 1.0),
        serial=getattr(args, "serial", False),
        role=getattr(args, "role", None) or "candidate",
    )


def day_of(text: str | None) -> datetime.date:
    """The day that waivers are judged by; today in UTC where none is named."""
    if text is None:
        return datetime.datetime.now(datetime.UTC).date()
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"not a day: {text!r}", hint="write it as 2027-03-31") from error


def existing_file(path: Path) -> Path:
    if not path.is_file():
        what = "a folder, where a file was expected" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {what}", hint="name a file with a program's output")
    return path
