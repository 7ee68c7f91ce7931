"""One candidate record beside the two baselines of its architecture and suite, case by case."""

from collections.abc import Mapping
from dataclasses import fields

from harness.model.change import Change, Comparison, SplatChange
from harness.model.record import RunRecord, World
from harness.store.baselines import ROLE_512, ROLE_S9
from harness.triage.pairing import NO_RULES, Pairing
from harness.triage.pairing import Rules as Rules
from harness.triage.signature import can_match

_NOT_PART_OF_THE_WORLD = ("arch",)  # it chooses the records; another one is refused


def compare_records(
    candidate: RunRecord,
    base_512: RunRecord | None,
    base_s9: RunRecord | None,
    rules: Rules = NO_RULES,
) -> Comparison:
    """Compare a candidate with its baselines; `None` is a baseline that there is not.

    Each case of any of the three gets exactly one change; a baseline's cases outside of the
    candidate's profile get none. Records of another architecture, suite or accelerator are refused:
    then there are no changes and `refused` says why. Pure, and total over all records.
    """
    bases = {ROLE_512: base_512, ROLE_S9: base_s9}
    present = {role: record for role, record in bases.items() if record is not None}
    refused = "; ".join(_refusals(candidate, present))
    world = candidate.world
    changes: tuple[Change, ...] = ()
    if not refused:
        changes = Pairing(candidate, base_512, base_s9, rules).changes()
    return Comparison(
        arch=world.arch,
        suite=candidate.suite,
        candidate_run=candidate.run_id,
        missing_baselines=tuple(role for role in bases if role not in present),
        world_differences=_world_differences(world, base_512, base_s9),
        refused=refused,
        changes=changes,
        accel=world.accel,
        profile=_profile_text(candidate),
        kernel=f"{world.kernel_release} ({world.kernel_source})",
        is_complete=candidate.complete,
        baseline_repetitions=tuple((role, base.repetitions) for role, base in present.items()),
        incidents=candidate.incidents,
        splats=_splat_changes(candidate, base_512, base_s9),
        lost_capabilities=_lost_capabilities(candidate, present),
    )


def _profile_text(record: RunRecord) -> str:
    """The profile, and what of it was picked: a part is never the whole to a gate."""
    return record.profile + (f" ({' '.join(record.selection)} only)" if record.selection else "")


def _refusals(candidate: RunRecord, bases: Mapping[str, RunRecord]) -> list[str]:
    found = [
        f"a case is twice in the {what}"
        for what, record in (("candidate", candidate), *bases.items())
        if len({entry.case for entry in record.cases}) < len(record.cases)
    ]
    for role, base in bases.items():
        for name, ours, theirs in (
            ("architecture", candidate.world.arch, base.world.arch),
            ("suite", candidate.suite, base.suite),
            ("accelerator", candidate.world.accel, base.world.accel),
        ):
            if ours != theirs:
                found.append(f"{name}: {ours} here, {theirs} in the {role} baseline")
        if not base.complete:
            found.append(f"the {role} baseline is not complete")
    return found


def _world_differences(
    ours: World, base_512: RunRecord | None, base_s9: RunRecord | None
) -> tuple[tuple[str, str, str, str], ...]:
    found = []
    for item in fields(World):
        if item.name in _NOT_PART_OF_THE_WORLD:
            continue
        own = str(getattr(ours, item.name))
        others = [
            str(getattr(base.world, item.name)) if base is not None else None
            for base in (base_512, base_s9)
        ]
        if any(other is not None and other != own for other in others):
            first, second = (other or "" for other in others)
            found.append((item.name, own, first, second))
    return tuple(found)


def _splat_changes(
    candidate: RunRecord, base_512: RunRecord | None, base_s9: RunRecord | None
) -> tuple[SplatChange, ...]:
    known_512, known_s9 = _splat_signatures(base_512), _splat_signatures(base_s9)
    return tuple(
        SplatChange(
            splat=splat,
            in_512=splat.is_whole and splat.signature in known_512,
            in_s9=splat.is_whole and splat.signature in known_s9,
        )
        for splat in candidate.splats
    )


def _splat_signatures(record: RunRecord | None) -> frozenset[str]:
    splats = record.splats if record else ()
    return frozenset(
        splat.signature for splat in splats if splat.is_whole and can_match(splat.signature)
    )


def _lost_capabilities(
    candidate: RunRecord, bases: Mapping[str, RunRecord]
) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, role)
        for role, base in bases.items()
        for name, value in sorted(base.capabilities.items())
        if value == "yes" and candidate.capabilities.get(name) == "no"
    )
