"""From built selftests to a plan: each case that they promise, run, denied or not built."""

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from harness.model.case import CaseId
from harness.model.errors import UserError
from harness.model.kernel import NotBuilt, RunnerListing, SelftestsArtifact
from harness.model.plan import Batch, Denial, Plan, PlannedCase
from harness.suites.bpf.names import case_name, numbered
from harness.suites.bpf.readers import is_progs
from harness.suites.bpf.settings import (
    CONFIG_NAME,
    BpfSettings,
    ProfileSettings,
    ProgramSettings,
    load_bpf_settings,
)
from harness.suites.denials import DenialRule, first_denial, load_denials

SUITE = "bpf"
_SUGGESTIONS = 4


def plan_bpf(
    artifact: SelftestsArtifact,
    *,
    profile: str = "",
    programs: Sequence[str] = (),
    patterns: Sequence[str] = (),
    settings: BpfSettings | None = None,
    denials: Sequence[DenialRule] | None = None,
) -> Plan:
    """Plan the artifact's cases; `settings` and `denials` default to the files in `configs/`.

    `profile` "" is the default one. `programs` and `patterns` narrow it down: a pattern is a case,
    a subtest (which selects its test), a glob over whole cases, or any part of a case's text.
    Raises UserError for a profile or program that is not there, and for patterns that match
    nothing. A profile leaves out nothing that a pattern picks, nor a program that is named and
    runs as a whole.
    """
    settings = load_bpf_settings() if settings is None else settings
    denials = load_denials() if denials is None else denials
    profile = profile or settings.default_profile
    chosen = settings.profile_named(profile)
    _check_programs(artifact, programs)
    batches: list[Batch] = []
    denied: list[Denial] = []
    selection = Selection(patterns)
    for program, listing in _listings(artifact, settings, programs):
        runnable: list[PlannedCase] = []
        for case in _promised(listing, program, settings):
            if not selection.takes(case.case):
                continue
            # What a person names is run, whatever the profile leaves to the patient; a denial of
            # `configs/denials` stands, because running the case hurts.
            is_named = bool(patterns) or (bool(programs) and len(case.case.path) == 1)
            left_out = None if is_named else _denial(case.case, profile, chosen)
            denial = left_out or first_denial(denials, case.case, artifact.arch)
            if denial:
                denied.append(denial)
            else:
                runnable.append(case)
        batches += _batches(program, runnable, chosen)
    running = {case.case for batch in batches for case in batch.cases}
    known = running | {denial.case for denial in denied}
    not_built = _not_built(artifact.not_built, programs, selection, known)
    if not selection.has_taken:
        raise _nothing_matches(artifact, programs, patterns)
    return Plan(
        arch=artifact.arch,
        suite=SUITE,
        profile=profile,
        batches=tuple(sorted(batches, key=lambda batch: batch.own_vm)),
        denied=tuple(denied),
        not_built=not_built,
    )


class Selection:
    """Patterns that people give to pick cases; without any, all are taken."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = tuple(patterns)
        self.has_taken = not patterns

    def takes(self, case: CaseId) -> bool:
        text = str(case)
        is_taken = not self._patterns or any(_picks(each, text) for each in self._patterns)
        self.has_taken = self.has_taken or is_taken
        return is_taken


def _picks(pattern: str, text: str) -> bool:
    """Whether a pattern picks the case with this text, or a subtest of it."""
    bare = text.removeprefix(f"{SUITE}/")
    wanted = pattern.removeprefix(f"{SUITE}/")
    if any(char in pattern for char in "*?["):
        return fnmatchcase(bare, wanted) or fnmatchcase(bare.rpartition("/")[2], wanted)
    if wanted == bare or wanted.startswith(bare + "/"):
        return True
    # A text that begins with the suite names one case and not others that begin like it.
    return wanted == pattern and pattern in text


def _listings(
    artifact: SelftestsArtifact, settings: BpfSettings, programs: Sequence[str]
) -> list[tuple[ProgramSettings, RunnerListing]]:
    """The programs to run, in the order of the settings."""
    built = {listing.program: listing for listing in artifact.runners}
    return [
        (program, built[program.name])
        for program in settings.program
        if program.name in built and (not programs or program.name in programs)
    ]


def _promised(
    listing: RunnerListing, program: ProgramSettings, settings: BpfSettings
) -> list[PlannedCase]:
    """All cases of one program, in its own order."""
    if is_progs(program.name):
        selectors = [(str(index), name) for index, name in enumerate(listing.tests, 1)]
    elif program.name == "test_verifier":
        names = numbered(case_name(name) for name in listing.tests)
        selectors = [(str(index), name) for index, name in enumerate(names)]
    else:
        selectors = [("", "")]  # it can only be run as a whole
    cases = []
    for selector, name in selectors:
        case = CaseId(SUITE, (program.name, name) if name else (program.name,))
        budget_s = settings.budget_of(case, program)
        cases.append(PlannedCase(case=case, selector=selector, budget_s=budget_s))
    return cases


def _denial(case: CaseId, profile: str, chosen: ProfileSettings) -> Denial | None:
    """What the profile itself leaves out."""
    for entry in chosen.leave_out:
        if entry.matches(case):
            return Denial(case=case, reason=entry.reason, source=f"{CONFIG_NAME}, {profile}")
    return None


def _batches(
    program: ProgramSettings, cases: Sequence[PlannedCase], chosen: ProfileSettings
) -> list[Batch]:
    """One batch in the common guest, and one for each own guest that is asked for."""
    groups: list[list[PlannedCase]] = [[] for _ in range(len(chosen.own_vm) + 1)]
    for case in cases:
        own = (index for index, entry in enumerate(chosen.own_vm, 1) if entry.matches(case.case))
        groups[next(own, 0)].append(case)
    return [
        Batch(
            program=program.name,
            cases=tuple(group),
            own_vm=index > 0,
            memory_mib=program.memory_mib,
        )
        for index, group in enumerate(groups)
        if group
    ]


def _not_built(
    lost: Sequence[NotBuilt], programs: Sequence[str], selection: Selection, known: set[CaseId]
) -> tuple[tuple[CaseId, str], ...]:
    """What the build lost, each case once with its first error; less what can run all the same."""
    cases: dict[CaseId, str] = {}
    for entry in lost:
        case = CaseId(SUITE, entry.case_path)
        is_asked = not programs or entry.case_path[0] in programs
        if is_asked and case not in known and selection.takes(case):
            cases.setdefault(case, f"{entry.object_name} ({entry.stage}): {entry.error}")
    return tuple(cases.items())


def _check_programs(artifact: SelftestsArtifact, programs: Sequence[str]) -> None:
    there = {listing.program for listing in artifact.runners}
    there |= {entry.case_path[0] for entry in artifact.not_built}
    for program in programs:
        if program not in there:
            raise UserError(
                f"no program {program!r} among the built selftests",
                hint=f"there are {', '.join(sorted(there))}",
            )


def _nothing_matches(
    artifact: SelftestsArtifact, programs: Sequence[str], patterns: Sequence[str]
) -> UserError:
    names = [
        f"{listing.program}/{case_name(test)}"
        for listing in artifact.runners
        if not programs or listing.program in programs
        for test in listing.tests
    ]
    short = {name.partition("/")[2]: name for name in names}
    near = [
        short.get(name, name)
        for pattern in patterns
        for name in difflib.get_close_matches(pattern, [*short, *names], _SUGGESTIONS)
    ]
    return UserError(
        f"no case matches {' or '.join(patterns)}",
        hint=f"did you mean {', '.join(dict.fromkeys(near))}?" if near else "see `harness plan`",
    )
