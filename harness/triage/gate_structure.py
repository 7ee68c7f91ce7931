"""What the gate needs before any case counts: results, whole ones, with a basis."""

from collections.abc import Iterable, Sequence

from harness.model.arch import Arch
from harness.model.change import Comparison, Finding, Standing, Weight
from harness.triage.policy import Policy

_HAS_RUN = frozenset(
    {
        Standing.PASS, Standing.FAIL, Standing.CRASH, Standing.TIMEOUT, Standing.FLAKY,
        Standing.SKIP, Standing.SKIP_ENV, Standing.UNKNOWN_OK, Standing.ERROR,
    }
)  # fmt: skip


def structure_findings(comparisons: Sequence[Comparison], policy: Policy) -> Iterable[Finding]:
    """Say what is missing. These weights are no matter of policy, except a baseline's."""
    if not comparisons:
        yield _unknown("nothing_ran", "there is no result at all")
    for arch in policy.arches:
        for suite in policy.suites:
            yield from _cell_findings(arch, suite, comparisons)
    for comparison in comparisons:
        yield from _comparison_findings(comparison, policy)
        yield from _baseline_findings(comparison, policy)


def cell_text(comparison: Comparison) -> str:
    return f"{comparison.arch} {comparison.suite}"


def _cell_findings(arch: Arch, suite: str, comparisons: Sequence[Comparison]) -> Iterable[Finding]:
    found = [item for item in comparisons if item.arch is arch and item.suite == suite]
    if not found:
        yield _unknown("cell_missing", f"{arch} {suite}: there is no result")
    if len({(item.accel, item.kernel) for item in found}) < len(found):
        yield _unknown("cell_twice", f"{arch} {suite}: there are several results of one kernel")
    if len({item.kernel for item in found}) > 1:
        yield _unknown("cell_twice", f"{arch} {suite}: there are results of several kernels")


def _comparison_findings(comparison: Comparison, policy: Policy) -> Iterable[Finding]:
    cell = cell_text(comparison)
    if comparison.refused:
        yield _unknown("not_comparable", f"{cell}: may not be compared: {comparison.refused}")
        return
    if not comparison.is_complete:
        yield _unknown("incomplete", f"{cell}: the run ended before each case had its turn")
    if comparison.profile not in policy.profiles:
        wanted = ", ".join(policy.profiles)
        yield _unknown(
            "profile", f"{cell}: ran with the profile {comparison.profile!r}, wanted is {wanted}"
        )
    standings = [change.candidate.standing for change in comparison.changes]
    if not any(standing in _HAS_RUN for standing in standings):
        yield _unknown("nothing_ran", f"{cell}: not one case ran")
    elif Standing.PASS not in standings:
        yield _unknown("nothing_passed", f"{cell}: not one case passed")


def _baseline_findings(comparison: Comparison, policy: Policy) -> Iterable[Finding]:
    cell = cell_text(comparison)
    repetitions = dict(comparison.baseline_repetitions)
    for rule in policy.baseline:
        if rule.suites and comparison.suite not in rule.suites:
            continue
        if rule.role in comparison.missing_baselines or rule.role not in repetitions:
            yield Finding(
                weight=rule.weight,
                rule="baseline_missing",
                what=f"{cell}: there is no {rule.role} baseline to compare with",
            )
        elif repetitions[rule.role] < rule.min_repetitions:
            yield Finding(
                weight=Weight.WARNS,
                rule="baseline_thin",
                what=f"{cell}: the {rule.role} baseline rests on {repetitions[rule.role]} run(s), "
                f"wanted are {rule.min_repetitions}",
            )


def _unknown(rule: str, what: str) -> Finding:
    return Finding(weight=Weight.INCONCLUSIVE, rule=rule, what=what)
