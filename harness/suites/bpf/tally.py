"""Counts what was read, to be held against the summary that test_progs prints."""

import re

from harness.model.case import Outcome
from harness.suites.base import CaseReport
from harness.suites.bpf.dialects import Dialect
from harness.suites.bpf.skips import SkipJudge


class Tally:
    """Results as they were read, tests and subtests apart."""

    def __init__(self) -> None:
        self._tests = dict.fromkeys(Outcome, 0)
        self._subtests = dict.fromkeys(Outcome, 0)

    def add(self, report: CaseReport) -> None:
        level = self._tests if len(report.path) == 1 else self._subtests
        level[report.outcome] += 1

    @property
    def is_empty(self) -> bool:
        return not any((*self._tests.values(), *self._subtests.values()))

    def contradictions(self, summary: re.Match[str], judge: SkipJudge) -> list[str]:
        """What the summary counts otherwise; each dialect counts in its own way."""
        tests, subtests = self._tests, self._subtests
        failed, sub_failed = tests[Outcome.FAIL], subtests[Outcome.FAIL]
        # Until 5.14, and in 5.15, failed subtests are counted among the failed tests.
        expected_failed = {failed} if summary["sub_failed"] else {failed, failed + sub_failed}
        pairs = [
            ("tests passed", {tests[Outcome.PASS] + tests[Outcome.SKIP]}, summary["tests"]),
            ("failed", expected_failed, summary["failed"]),
        ]
        if judge.dialect is not Dialect.C or judge.is_verbose:  # C hides subtests without -v
            pairs.append(("subtests passed", {subtests[Outcome.PASS]}, summary["subtests"]))
        if judge.dialect is Dialect.A:
            pairs.append(("skipped", {judge.recognised}, summary["skipped"]))
        return [
            f"the summary counts {said} {what}, read were {max(read)}"
            for what, read, said in pairs
            if int(said) not in read
        ]
