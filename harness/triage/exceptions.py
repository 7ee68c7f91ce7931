"""What people have decided not to count: waivers and known issues, each with an end.

Both are read whole before anything is judged: an unknown key, an empty reason or a pattern that is
too wide is the person's mistake. The calendar is no mistake: what has lapsed is not applied, and
said.
"""

import re
from collections.abc import Callable, Sequence
from datetime import date
from enum import StrEnum
from pathlib import Path

import msgspec

from harness.host.config import load_toml
from harness.model.arch import AccelKind, Arch
from harness.model.case import CaseId
from harness.model.change import Change, ChangeKind, Standing
from harness.model.errors import UserError
from harness.model.record import Splat
from harness.triage.cause import Culprit, compiled
from harness.triage.patterns import check_pattern, matches_case

# What ran and went wrong, or was left out by the test itself. What did not run cannot be excused.
EXCUSABLE = frozenset(
    {
        ChangeKind.REGRESSION, ChangeKind.REGRESSION_VS_S9, ChangeKind.REGRESSION_VS_512,
        ChangeKind.INHERITED_S9, ChangeKind.WORSE_THAN_FLAKY, ChangeKind.KNOWN_BASELINE_FAILURE,
        ChangeKind.CHANGED_FAILURE, ChangeKind.NO_BASIS, ChangeKind.EXPOSED_FAILURE,
        ChangeKind.NEW_TEST_FAILING, ChangeKind.FLAKY_KNOWN, ChangeKind.FLAKY_NEW,
        ChangeKind.COVERAGE_LOST, ChangeKind.ENV_SKIP, ChangeKind.XPASS,
    }
)  # fmt: skip


class Waiver(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A failure that is shown and not counted."""

    case: str
    """Pattern; see `patterns`."""
    arch: tuple[Arch, ...]
    reason: str
    link: str
    owner: str
    until: date
    """The last day on which it holds."""
    kernel: str = ""
    """Part of the candidate's release or source that must be there; "" is any kernel."""
    cause: tuple[str, ...] = ()
    allow_crash: bool = False

    @property
    def name(self) -> str:
        return f"waiver of {self.case} until {self.until} by {self.owner}"

    def is_for(self, change: Change, kernel: str) -> bool:
        """Whether it excuses this change, whatever the date."""
        return (
            change.kind in EXCUSABLE
            and change.arch in self.arch
            and matches_case(self.case, change.case)
            and self.kernel in kernel
            and (not self.cause or change.cause in self.cause)
            and (self.allow_crash or "crash" not in change.tags)
        )


class WaiversFile(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The content of a file of `configs/waivers`."""

    waiver: tuple[Waiver, ...] = ()


class Effect(StrEnum):
    """What a known issue explains."""

    EXPECTED_FAIL = "expected_fail"
    FLAKE = "flake"
    IGNORE_SPLAT = "ignore_splat"


class KnownIssue(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A failure whose reason somebody has understood and owns."""

    id: str
    title: str
    effect: Effect
    culprit: Culprit
    reason: str
    link: str
    owner: str
    until: date
    """The last day on which it holds."""
    case: str = ""
    """Pattern; must be there unless a splat is ignored."""
    arch: tuple[Arch, ...] = ()
    """Empty is any."""
    accel: tuple[AccelKind, ...] = ()
    cause: tuple[str, ...] = ()
    signature: tuple[str, ...] = ()
    text: str = ""
    """Expression that is searched in the failure's telling line, or in the splat's title."""
    max_rate: float = 1.0
    """Of a flake: share of attempts that may fail."""
    allow_crash: bool = False
    allow_timeout: bool = False

    @property
    def name(self) -> str:
        return f"known issue {self.id}: {self.title}"

    def is_for(self, change: Change, accel: AccelKind | None) -> bool:
        """Whether it explains this change, whatever the date."""
        return (
            self.effect is not Effect.IGNORE_SPLAT
            and change.kind in EXCUSABLE
            and change.kind is not ChangeKind.XPASS
            and self._is_here(change.arch, accel)
            and matches_case(self.case, change.case)
            and (self.allow_crash or "crash" not in change.tags)
            and (self.allow_timeout or "timeout" not in change.tags)
            and self._has_content(change.cause, change.candidate.signature, change.candidate.detail)
            and self._fits_rate(change)
        )

    def is_for_splat(self, splat: Splat, arch: Arch, accel: AccelKind | None) -> bool:
        """Whether it explains this complaint; one whose text is damaged is never explained."""
        return (
            self.effect is Effect.IGNORE_SPLAT
            and splat.is_whole
            and self._is_here(arch, accel)
            and self._has_content("", splat.signature, splat.title)
        )

    def expects_failure(self, case: CaseId, arch: Arch) -> bool:
        """Whether the case is to fail while the issue lasts."""
        return (
            self.effect is Effect.EXPECTED_FAIL
            and (not self.arch or arch in self.arch)
            and matches_case(self.case, case)
        )

    def _is_here(self, arch: Arch, accel: AccelKind | None) -> bool:
        return (not self.arch or arch in self.arch) and (not self.accel or accel in self.accel)

    def _has_content(self, cause: str, signature: str, text: str) -> bool:
        return (
            (not self.cause or cause in self.cause)
            and (not self.signature or signature in self.signature)
            and (not self.text or re.search(self.text, text) is not None)
        )

    def _fits_rate(self, change: Change) -> bool:
        if self.effect is not Effect.FLAKE:
            return True
        marks = change.candidate.marks
        bad = sum(mark in (Standing.FAIL, Standing.TIMEOUT, Standing.LOST) for mark in marks)
        return change.candidate.standing is Standing.FLAKY and bad / len(marks) <= self.max_rate


class KnownFile(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The content of a file of `configs/known`."""

    issue: tuple[KnownIssue, ...] = ()


def load_waivers(folder: Path) -> tuple[Waiver, ...]:
    """Read `configs/waivers`. Raises UserError for what could hide more than it says."""
    found: list[Waiver] = []
    for path in sorted(folder.glob("*.toml")):
        for waiver in load_toml(path, WaiversFile).waiver:
            where = f"{path}: waiver {waiver.case!r}"
            _check_words(where, reason=waiver.reason, owner=waiver.owner)
            _check_link(where, waiver.link)
            check_pattern(waiver.case, where)
            if not waiver.arch:
                raise UserError(f"{where}: names no architecture")
            found.append(waiver)
    return tuple(found)


def load_known_issues(folder: Path) -> tuple[KnownIssue, ...]:
    """Read `configs/known`. Raises UserError for what could hide more than it says."""
    found: list[KnownIssue] = []
    for path in sorted(folder.glob("*.toml")):
        for issue in load_toml(path, KnownFile).issue:
            _check_issue(issue, f"{path}: issue {issue.id!r}")
            found.append(issue)
    ids = [issue.id for issue in found]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise UserError(f"{folder}: issues that are there twice: {', '.join(twice)}")
    return tuple(found)


def _check_issue(issue: KnownIssue, where: str) -> None:
    _check_words(where, id=issue.id, title=issue.title, reason=issue.reason, owner=issue.owner)
    _check_link(where, issue.link)
    if issue.text:
        compiled([issue.text], where)
    if issue.effect is Effect.IGNORE_SPLAT:
        if issue.case or issue.cause:
            raise UserError(f"{where}: a splat has neither case nor cause; use text or signature")
    else:
        check_pattern(issue.case, where)
    if not (issue.cause or issue.signature or issue.text):
        raise UserError(
            f"{where}: says nothing of how it fails",
            hint="a name alone would hide another bug: add cause, signature or text",
        )


def _check_words(where: str, **texts: str) -> None:
    for name, text in texts.items():
        if not re.search(r"\w", text):
            raise UserError(f"{where}: `{name}` is empty")


def _check_link(where: str, link: str) -> None:
    if not re.fullmatch(r"https?://\S+", link):
        raise UserError(f"{where}: `link` is no web address: {link!r}")


def expectation(
    issues: Sequence[KnownIssue], today: date
) -> Callable[[CaseId, Arch], bool]:  # fmt: skip
    """For the comparison: whether an issue that still holds expects a case to fail."""
    active = [issue for issue in issues if today <= issue.until]

    def expects(case: CaseId, arch: Arch) -> bool:
        return any(issue.expects_failure(case, arch) for issue in active)

    return expects
