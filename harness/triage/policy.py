"""Gate policies: what each kind of change weighs for a release. Data, in `configs/gate`."""

from pathlib import Path

import msgspec

from harness.host.config import load_toml
from harness.model.arch import AccelKind, Arch
from harness.model.change import Change, ChangeKind, Weight
from harness.model.errors import UserError
from harness.store.baselines import ROLE_FOLDERS
from harness.triage.families import Families
from harness.triage.patterns import matches_case


class CaseRule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a change weighs. An empty condition always holds; the first rule that fits decides."""

    name: str
    what: str
    """Completes "3 cases …" in the finding's text."""
    weight: Weight
    kinds: tuple[ChangeKind, ...] = ()
    tags: tuple[str, ...] = ()
    """One of them must be there."""
    arches: tuple[Arch, ...] = ()
    accels: tuple[AccelKind, ...] = ()
    causes: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    """Patterns; one of them must fit."""

    def is_for(self, change: Change, accel: AccelKind | None) -> bool:
        return (
            (not self.kinds or change.kind in self.kinds)
            and (not self.tags or any(tag in change.tags for tag in self.tags))
            and (not self.arches or change.arch in self.arches)
            and (not self.accels or accel in self.accels)
            and (not self.causes or change.cause in self.causes)
            and (not self.cases or any(matches_case(text, change.case) for text in self.cases))
        )

    @property
    def is_unconditional(self) -> bool:
        """Whether it takes every change of its kinds."""
        return not (self.tags or self.arches or self.accels or self.causes or self.cases)


class SplatRule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a complaint of the kernel weighs that no baseline has; the first that fits decides."""

    name: str
    weight: Weight
    kinds: tuple[str, ...] = ()
    accels: tuple[AccelKind, ...] = ()

    def is_for(self, kind: str, accel: AccelKind | None) -> bool:
        return (not self.kinds or kind in self.kinds) and (not self.accels or accel in self.accels)


class BaselineRule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What it weighs that a baseline is missing."""

    role: str
    weight: Weight
    min_repetitions: int
    """Fewer runs than this are a warning: the baseline's flakes are not known."""
    suites: tuple[str, ...] = ()
    """Empty is every suite."""


class LimitRule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How many changes of some kinds one comparison may have before they weigh more."""

    name: str
    what: str
    kinds: tuple[ChangeKind, ...]
    max_share: float
    """Of all changes of the comparison."""
    at_least: int
    """Fewer cases than this are never too many."""
    weight: Weight


class Policy(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One policy. What is missing, damaged or did not run never makes it accept."""

    name: str
    title: str
    arches: tuple[Arch, ...]
    suites: tuple[str, ...]
    profiles: tuple[str, ...]
    """Profiles that are enough for it."""
    baseline: tuple[BaselineRule, ...]
    rule: tuple[CaseRule, ...]
    splat: tuple[SplatRule, ...]
    limit: tuple[LimitRule, ...] = ()

    def rule_for(self, change: Change, accel: AccelKind | None) -> CaseRule:
        return next(rule for rule in self.rule if rule.is_for(change, accel))

    def splat_rule_for(self, kind: str, accel: AccelKind | None) -> SplatRule:
        return next(rule for rule in self.splat if rule.is_for(kind, accel))


def load_policy(folder: Path, name: str, families: Families | None = None) -> Policy:
    """Read `<folder>/<name>.toml`. Raises UserError for a policy that leaves a kind unweighed."""
    path = folder / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in folder.glob("*.toml")))
        raise UserError(f"no such policy: {name!r}", hint=f"policies: {known or 'none'}")
    policy = load_toml(path, Policy)
    problems = policy_problems(policy, families)
    if problems:
        raise UserError(f"{path}: {'; '.join(problems)}")
    return policy


def policy_problems(policy: Policy, families: Families | None = None) -> tuple[str, ...]:
    """What is wrong with a policy that can be read."""
    found = []
    if not policy.arches or not policy.suites or not policy.profiles:
        found.append("arches, suites and profiles must not be empty")
    weighed = {
        kind for rule in policy.rule if rule.is_unconditional for kind in rule.kinds or ChangeKind
    }
    missing = sorted(set(ChangeKind) - weighed)
    if missing:
        found.append(f"no rule for every change of kind {', '.join(missing)}")
    if not any(not rule.kinds and not rule.accels for rule in policy.splat):
        found.append("no [[splat]] for every kind of complaint")
    if families is not None:
        named = {kind for rule in policy.splat for kind in rule.kinds}
        unknown = sorted(named - families.kinds)
        found += [f"no such kind of complaint: {', '.join(unknown)}"] if unknown else []
    roles = [rule.role for rule in policy.baseline]
    found += [f"no such role: {role}" for role in roles if role not in ROLE_FOLDERS]
    names = [rule.name for rule in policy.rule] + [rule.name for rule in policy.splat]
    twice = sorted({name for name in names if names.count(name) > 1})
    found += [f"rules of one name: {', '.join(twice)}"] if twice else []
    return tuple(found)
