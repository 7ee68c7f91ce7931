"""Counts what was read, to be held against the summary that test_progs prints."""

import re
from collections import Counter

from harness.model.case import Outcome
from harness.suites.base import UNSURE_OK, CaseReport
from harness.suites.bpf.dialects import Dialect
from harness.suites.bpf.skips import SkipJudge


class Tally:
    """Results as they were read, tests and subtests apart."""

    def __init__(self) -> None:
        self._tests = dict.fromkeys(Outcome, 0)
        self._subtests = dict.fromkeys(Outcome, 0)
        self._unsure = 0
        self._passed_of: Counter[str] = Counter()
        self._taken_back: set[str] = set()

    def add(self, report: CaseReport) -> None:
        level = self._tests if len(report.path) == 1 else self._subtests
        level[report.outcome] += 1
        self._unsure += report.raw == UNSURE_OK
        if len(report.path) > 1:
            self._passed_of[report.path[0]] += report.outcome is Outcome.PASS
        if report.outcome is Outcome.XFAIL:
            self._taken_back.add(report.path[0])

    @property
    def is_empty(self) -> bool:
        return not any((*self._tests.values(), *self._subtests.values()))

    def contradictions(self, summary: re.Match[str], judge: SkipJudge) -> list[str]:
        """What the summary counts otherwise; each dialect counts in its own way."""
        tests, subtests = self._tests, self._subtests
        failed, sub_failed = tests[Outcome.FAIL], subtests[Outcome.FAIL]
        # Until 5.15 failed subtests are counted among the failed tests.
        most_failed = failed if summary["sub_failed"] else failed + sub_failed
        whole, passed = tests[Outcome.PASS] + tests[Outcome.SKIP], subtests[Outcome.PASS]
        ranges = [
            ("tests passed", "tests", whole, whole),
            ("failed", "failed", failed, most_failed),
        ]
        if judge.dialect is not Dialect.C or judge.is_verbose:  # C hides subtests without -v
            # A test that takes failures back takes the counts of its subtests back with them.
            slack = self._unsure + sum(self._passed_of[test] for test in self._taken_back)
            ranges.append(("subtests passed", "subtests", passed - slack, passed))
        if judge.dialect is Dialect.A:
            most = judge.recognised + self._unsure
            ranges.append(("skipped", "skipped", judge.recognised, most))
        return [
            f"the summary counts {summary[group]} {what}, read were {most}"
            for what, group, least, most in ranges
            if not least <= int(summary[group]) <= most
        ]
