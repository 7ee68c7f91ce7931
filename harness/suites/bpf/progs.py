"""Reads test_progs, in each of its dialects (see dialects.py)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.model.case import Outcome
from harness.model.plan import PlannedCase
from harness.model.text import inert_line
from harness.suites.base import UNSURE_OK, CaseReport, LogLine
from harness.suites.bpf import grammar
from harness.suites.bpf.dialects import Dialect
from harness.suites.bpf.ending import ending_text, is_refusal
from harness.suites.bpf.names import MAX_NAME, Occurrences
from harness.suites.bpf.order import Order, Unplanned
from harness.suites.bpf.skips import ResultLog, SkipJudge
from harness.suites.bpf.tally import Tally

_MAX_PENDING = 20_000
_DETAIL_CHARS = 300
_RESULT_BEHIND = re.compile(r"#\d+(?:/\d+)? \S.*:OK$", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Subtest:
    """A subtest's result; its test's name may only come later."""

    number: int
    name: str
    word: str
    log: ResultLog


class ProgsReader:
    """Reader of one test_progs process. Without planned cases it takes what comes, by name."""

    def __init__(
        self, cases: Sequence[PlannedCase] = (), dialect: Dialect = Dialect.UNKNOWN
    ) -> None:
        self.problems: list[str] = []
        self.notices: list[str] = []
        self.refused = ""
        self._order = Order(cases)
        self._judge = SkipJudge(dialect)
        self._tally = Tally()
        self._subtests: list[_Subtest] = []
        self._held: CaseReport | None = None
        """A FAIL that may yet be a crash: the crash handler prints the one before the other."""
        self._unsure: list[CaseReport] = []
        """OKs that only the summary can clear of hiding a skip, and their tests."""
        self._crash = ""
        self._watchdog = ""
        self._damaged: dict[str, str] = {}
        self._last_line = ""
        self._summary: re.Match[str] | None = None
        self._is_over = False  # all results were said
        self._has_crashed = False
        self._whole = ResultLog()  # since the last test
        self._recent = ResultLog()  # since the last test or subtest

    @property
    def in_flight(self) -> tuple[str, ...] | None:
        case = self._order.in_flight
        return None if case is None else (case[1],)

    def feed(self, line: LogLine) -> Sequence[CaseReport]:
        text = line.text.rstrip()
        self._last_line = text or self._last_line
        if summary := grammar.SUMMARY.search(text):
            self._summary, self._is_over = summary, True
            return self._release()
        if self._is_over or text == grammar.REPEATED_LOGS:
            self._is_over = True  # what follows repeats what was said
            return self._release()
        found_test = self._find_test(text) if grammar.may_be_result(text) else None
        found = found_test or (self._find_subtest(text) if grammar.may_be_result(text) else None)
        self._keep(line, found)
        if crash := grammar.CRASH.search(text):
            self._crash = crash[0]
            return ()
        if found_test:
            return self._on_test(found_test)
        if found:
            self._on_subtest(found)
        else:
            self._on_log(text)
        return () if self._crash else self._release()

    def finish(self, rc: int | None) -> Sequence[CaseReport]:
        self._release_as_ended()
        reports = [*self._settled(), *self._release(), *self._cut_off(rc)]
        if self._summary:
            self.problems += self._tally.contradictions(self._summary, self._judge)
        elif rc in (0, 1) and not self.refused:
            self.problems.append(f"{ending_text(rc)} without its summary")
        if self._subtests:
            self.problems.append(f"{len(self._subtests)} subtests of a test without a name")
        return reports

    # -- lines ---------------------------------------------------------------------------------

    # Tests print text without a newline, and with -v nothing parts it from the result. Behind
    # other text a result counts only where the plan waits for it.

    def _find_test(self, text: str) -> re.Match[str] | None:
        found = grammar.TEST.match(text)
        if found or not self._order.in_flight:
            return found
        found = grammar.TEST.match(text, text.rfind("#"))
        is_ours = found and self._order.awaits(int(found["number"]), found["name"])
        return found if is_ours else None

    def _find_subtest(self, text: str) -> re.Match[str] | None:
        found = grammar.SUBTEST.match(text)
        case = self._order.in_flight
        if found or not case:
            return found
        start = text.find(f"#{case[0]}/")
        return grammar.SUBTEST.match(text, start) if start > 0 else None

    def _keep(self, line: LogLine, result: re.Match[str] | None) -> None:
        """Keep a line's text for the logs, unless it is a result and nothing else."""
        for log in (self._whole, self._recent):
            if result and result.start() == 0:
                log.cover(line)
            else:
                log.add(line)

    def _on_log(self, text: str) -> None:
        if grammar.VERBOSE_MARK.match(text):
            self._judge.is_verbose = True
        if grammar.WATCHDOG.search(text):
            self._watchdog = inert_line(text, _DETAIL_CHARS)
        if grammar.NOTICE.search(text) and text not in self.notices:
            self.notices.append(inert_line(text, _DETAIL_CHARS))
        begun = grammar.TEST_BEGINNING.match(text)
        if begun and self._order.awaits(int(begun["number"]), begun["name"]):
            self._damaged[begun["name"]] = inert_line(text, _DETAIL_CHARS)

    def _on_subtest(self, found: re.Match[str]) -> None:
        name = inert_line(found["name"])
        if not name or len(name) > MAX_NAME or len(self._subtests) >= _MAX_PENDING:
            self.problems.append(f"not the name of a subtest: {name[:80]}")
            return
        number = int(found["number"])
        self._judge.learn("", found["word"])
        self._subtests.append(_Subtest(number, name, found["word"], self._recent))
        self._recent = ResultLog()

    def _on_test(self, found: re.Match[str]) -> list[CaseReport]:
        number, name = int(found["number"]), found["name"]
        whole, recent = self._whole, self._recent
        self._whole, self._recent = ResultLog(), ResultLog()
        reports = self._survived(name) if self._crash else self._release()
        if self._held and self._held.path == (name,):
            self._held = None  # a child's word; this one is the program's own
        else:
            try:
                reports += [
                    self._lost(each, "a later test has a result")
                    for each in self._order.take(number, name)
                ]
            except Unplanned as error:
                self.problems.append(str(error))
                self._subtests = []
                return reports
        self._judge.learn(found["pad"], found["word"])
        return [*reports, *self._results(number, name, found["word"], whole, recent)]

    def _survived(self, name: str) -> list[CaseReport]:
        """A result after a crash line: it was a child that crashed."""
        self.notices.append(f"{name}: {self._crash}, and the program went on")
        self._crash = ""
        return self._release() if self._held and self._held.path != (name,) else []

    # -- results -------------------------------------------------------------------------------

    def _results(
        self, number: int, name: str, word: str, whole: ResultLog, recent: ResultLog
    ) -> list[CaseReport]:
        """The reports of a test and its subtests, less what has to be held back."""
        subtests = self._subtest_reports(number, name)
        outcome, raw = self._judge.judge(name, word, recent)
        if outcome is not Outcome.FAIL:
            subtests = [_taken_back(report) for report in subtests]
        if raw == UNSURE_OK and subtests:
            outcome, raw = _outcome_of_parent(subtests)
        reports = [*subtests, _report((name,), outcome, raw, whole)]
        if outcome is Outcome.FAIL:
            self._held = reports.pop()
        if any(each.raw == UNSURE_OK for each in reports):
            self._unsure += reports
            return []
        return self._counted(reports)

    def _subtest_reports(self, number: int, parent: str) -> list[CaseReport]:
        pending, self._subtests = self._subtests, []
        prefix = f"{parent}/"
        if self._judge.dialect is Dialect.UNKNOWN and pending:
            is_named = all(sub.name.startswith(prefix) for sub in pending)
            self._judge.dialect = Dialect.B if is_named else Dialect.A
        occurrences = Occurrences()
        reports = []
        for sub in pending:
            if sub.number != number:
                self.problems.append(f"#{sub.number}/… {sub.name} came within #{number} {parent}")
                continue
            is_bare = self._judge.dialect is Dialect.A
            name = sub.name if is_bare else sub.name.removeprefix(prefix)
            outcome, raw = self._judge.judge(parent, sub.word, sub.log)
            reports.append(_report((parent, occurrences.name(name)), outcome, raw, sub.log))
        return reports

    def _lost(self, name: str, what: str) -> CaseReport:
        if name in self._damaged:
            what = f"damaged result line: {self._damaged[name]}"
        return CaseReport(path=(name,), outcome=Outcome.LOST, raw="", detail=what)

    def _counted(self, reports: list[CaseReport]) -> list[CaseReport]:
        for report in reports:
            self._tally.add(report)
        return reports

    def _release(self) -> list[CaseReport]:
        """Give what was held back: it was a plain FAIL after all."""
        held, self._held = self._held, None
        return self._counted([held]) if held else []

    # -- the end -------------------------------------------------------------------------------

    def _settled(self) -> list[CaseReport]:
        """The unsure OKs: plain ones when the summary counts no skip beyond those recognised."""
        unsure, self._unsure = self._unsure, []
        if self._summary and int(self._summary["skipped"]) == self._judge.recognised:
            unsure = [
                replace(report, raw="OK") if report.raw == UNSURE_OK else report
                for report in unsure
            ]
        return self._counted(unsure)

    def _release_as_ended(self) -> None:
        """Turn a held FAIL into the crash that its program ended with."""
        if self._held and self._crash:
            self._held = replace(
                self._held,
                outcome=Outcome.TIMEOUT if self._watchdog else Outcome.CRASH,
                detail=self._watchdog or self._crash,
                log_lines=(*self._held.log_lines, *self._recent.lines),
                end_b=max(self._held.end_b, self._whole.end_b),
            )
            self._crash, self._has_crashed = "", True

    def _cut_off(self, rc: int | None) -> list[CaseReport]:
        """Reports of the case that the end of the process interrupted, if it did."""
        case = self._order.in_flight
        if self._tally.is_empty and rc is not None and is_refusal(rc) and not self._subtests:
            self.refused = self._last_line or ending_text(rc)
            return []
        if self._is_over and rc is not None:
            what = "the program finished without a result of it"
            return self._counted([self._lost(name, what) for name in self._order.take_rest()])
        if self._is_over or self._has_crashed or case is None:
            return []
        subtests = self._counted(self._subtest_reports(*case))
        if rc is None and not self._crash:
            return subtests
        detail = self._watchdog or self._crash or f"{ending_text(rc or 0)} before its result"
        outcome = Outcome.TIMEOUT if self._watchdog else Outcome.CRASH
        self._order.take(*case)
        report = _report((case[1],), outcome, "", self._whole)
        return [*subtests, *self._counted([replace(report, detail=detail)])]


def _taken_back(subtest: CaseReport) -> CaseReport:
    """A subtest of a test that passed: a failure in it was meant to be one.

    test_progs fails the test of a failed subtest; prog_tests_framework, which tests just that,
    takes it back.
    """
    if subtest.outcome is not Outcome.FAIL:
        return subtest
    return replace(subtest, outcome=Outcome.XFAIL, detail="its test takes the failure back")


def _outcome_of_parent(subtests: Sequence[CaseReport]) -> tuple[Outcome, str]:
    """What an OK over subtests means: a skip where all are, as later dialects have it."""
    if all(report.outcome is Outcome.SKIP for report in subtests):
        return Outcome.SKIP, "OK"
    is_told = any(report.outcome is Outcome.PASS and report.raw == "OK" for report in subtests)
    return Outcome.PASS, "OK" if is_told else UNSURE_OK


def _report(path: tuple[str, ...], outcome: Outcome, raw: str, log: ResultLog) -> CaseReport:
    is_plain = outcome is Outcome.PASS
    return CaseReport(
        path=path,
        outcome=outcome,
        raw=raw,
        detail=_RESULT_BEHIND.sub("", inert_line(log.skip, _DETAIL_CHARS))
        if outcome is Outcome.SKIP
        else "",
        log_lines=() if is_plain else log.lines,
        begin_b=log.begin_b or 0,
        end_b=log.end_b,
    )
