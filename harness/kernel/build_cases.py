"""What became of each part of a kernel's build, as cases of the suite `build`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.kernel.build_errors import Failure
from harness.kernel.kconfig import NotGranted
from harness.model.case import CaseId, Outcome

SUITE = "build"
_PROGRAM = "kernel"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildCase:
    """One part of a build: `build/kernel/vmlinux`, `build/kernel/btrfs.ko`."""

    case: CaseId
    outcome: Outcome
    error: str = ""
    """The first telling line; "" for what was built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known after a build."""

    required: Collection[str]
    """Options without which nothing can be tested."""
    not_granted: Sequence[NotGranted]
    kernel_failures: Sequence[Failure]
    """Of vmlinux and the image."""
    has_vmlinux: bool
    has_image: bool
    btf_problem: str
    """Why the kernel's types cannot be used; "" when they can."""
    modules: Collection[str]
    """Built ones, as lsmod prints them."""
    lost_modules: Mapping[str, str]
    """Not built: name to error."""
    wanted_modules: Mapping[str, str]
    """Those that are asked for, by name: their option."""
    builtin: Collection[str]
    """Options that are built into the kernel."""


def case_id(part: str) -> CaseId:
    return CaseId(SUITE, (_PROGRAM, part))


def cases_of(facts: Facts) -> tuple[BuildCase, ...]:
    """One case for each part: config, vmlinux, image, BTF, and each module; sorted."""
    return tuple(sorted(_cases(facts), key=lambda item: item.case))


def _cases(facts: Facts) -> Iterable[BuildCase]:
    denied = [item for item in facts.not_granted if item.option in facts.required]
    yield _case(
        "config",
        "; ".join(f"CONFIG_{item.option} is {item.got}: {item.reason}" for item in denied),
    )
    error = facts.kernel_failures[0].error if facts.kernel_failures else "not built"
    yield _case("vmlinux", "" if facts.has_vmlinux else error)
    if not facts.has_vmlinux:
        yield _not_built("image", "vmlinux was not built")
        yield _not_built("BTF", "vmlinux was not built")
    else:
        yield _case("image", "" if facts.has_image else error)
        yield _case("BTF", facts.btf_problem)
    for name in facts.modules:
        yield _case(f"{name}.ko", "")
    for name, error in facts.lost_modules.items():
        yield _case(f"{name}.ko", error)
    yield from _wanted(facts)


def _wanted(facts: Facts) -> Iterable[BuildCase]:
    for name, option in facts.wanted_modules.items():
        if name in facts.modules or name in facts.lost_modules:
            continue
        if option in facts.builtin:
            yield _case(f"{name}.ko", "")
            continue
        reasons = [item.reason for item in facts.not_granted if item.option == option]
        reason = f"CONFIG_{option}: {reasons[0]}" if reasons else "modules were not built"
        yield _not_built(f"{name}.ko", reason)


def _case(part: str, error: str) -> BuildCase:
    return BuildCase(
        case=case_id(part), outcome=Outcome.FAIL if error else Outcome.PASS, error=error
    )


def _not_built(part: str, error: str) -> BuildCase:
    return BuildCase(case=case_id(part), outcome=Outcome.NOT_BUILT, error=error)
