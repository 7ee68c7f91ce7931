"""Reads test_verifier: numbered programs, each loaded unprivileged (u) and privileged (p)."""

import re
from collections.abc import Sequence
from dataclasses import replace

from harness.model.case import Outcome
from harness.model.plan import PlannedCase
from harness.model.text import inert_line
from harness.suites.base import CaseReport, LogLine, Stretch
from harness.suites.bpf.ending import ending_text, is_refusal
from harness.suites.bpf.names import MAX_NAME, Occurrences, case_name, without_occurrence
from harness.suites.bpf.order import Order, Unplanned

# `#935/p scale: scale test 1 OK`; the result may stand on a later line.
_HEADER = re.compile(r"#(?P<number>\d+)/(?P<side>[up]) (?P<rest>.*)", re.ASCII)
_BODY = (
    r"(?:Did not run the program \((?:not supported|no permission)\) )*"
    r"(?:(?P<ok>(?:\d+ cases )?OK(?: \(NOTE: [^)]*\))?)"
    r"|(?P<skip>SKIP(?: \([^)]*\))?)"
    r"|(?P<fail>FAIL(?:: .*| retval .*)?))"
)
_RESULT = re.compile(_BODY + "$", re.ASCII)
_WHOLE = re.compile(rf"(?P<descr>.*?) (?P<body>{_BODY})$", re.ASCII)
# `Summary: 1532 PASSED, 12 SKIPPED, 0 FAILED`
_SUMMARY = re.compile(
    r"Summary: (?P<passed>\d+) PASSED, \d+ SKIPPED, (?P<failed>\d+) FAILED$", re.ASCII
)
_RAW_CHARS = 80
_DETAIL_CHARS = 300
_SIGNALS = 128

# The worst of both sides, in this order, is what becomes of the case.
_SEVERITY = (Outcome.CRASH, Outcome.FAIL, Outcome.LOST, Outcome.PASS, Outcome.SKIP)


class VerifierReader:
    """Reader of one test_verifier process. Without planned cases it takes what comes, by name.

    A case is a number; its sides `u` and `p` are its subtests, `p` is always the last. The log of
    a failure follows its result line, so a failed side is held until the next header.
    """

    def __init__(self, cases: Sequence[PlannedCase] = ()) -> None:
        self.problems: list[str] = []
        self.notices: list[str] = []
        self.refused = ""
        self._order = Order(cases)
        self._is_free = not cases
        self._occurrences = Occurrences()
        self._names: dict[int, str] = {}
        self._sides: list[CaseReport] = []
        """Sides of the case in `_number` that are complete."""
        self._number: int | None = None
        self._side = ""
        self._result: re.Match[str] | None = None
        self._log = Stretch()
        self._counts = dict.fromkeys(Outcome, 0)
        self._summary: re.Match[str] | None = None
        self._last_line = ""

    @property
    def in_flight(self) -> tuple[str, ...] | None:
        case = self._order.in_flight
        return None if case is None else (case[1],)

    def feed(self, line: LogLine) -> Sequence[CaseReport]:
        text = line.text.rstrip()
        self._last_line = text or self._last_line
        if self._summary:
            return ()
        if summary := _SUMMARY.match(text):
            self._summary = summary
            return self._close_case()
        if header := _HEADER.match(text):
            return self._on_header(header, line)
        self._log.add(line)
        if self._side and not self._result:
            self._on_result(_RESULT.match(inert_line(text)))
        return ()

    def finish(self, rc: int | None) -> Sequence[CaseReport]:
        is_cut = bool(self._side) and not self._result and not self._summary
        reports = [] if is_cut else self._close_case()
        if self._summary:
            self._check_summary(self._summary)
        if rc is None:
            return reports
        if self._summary:
            what = "the program finished without a result of it"
            return [*reports, *(self._lost(name, what) for name in self._order.take_rest())]
        if not any(self._counts.values()) and not self._side and (is_refusal(rc) or rc == 1):
            self.refused = self._last_line or ending_text(rc)
            return reports
        return [*reports, *self._interrupted(rc)]

    # -- lines ---------------------------------------------------------------------------------

    def _on_header(self, header: re.Match[str], line: LogLine) -> list[CaseReport]:
        number, side = int(header["number"]), header["side"]
        is_other_side = number == self._number and side == "p" and self._side == "u"
        if is_other_side and self._is_free:
            self._correct_name(number, case_name(header["rest"]))
        reports = self._close_side() if is_other_side else self._close_case()
        name, body = self._parted(number, inert_line(header["rest"]))
        if is_other_side and name != self._names[number]:
            self.problems.append(f"#{number}/p is {self._names[number]}, not {name}")
            name, body = self._names[number], ""
        elif not is_other_side:
            try:
                passed = self._order.pass_to(number, name)
            except Unplanned as error:
                self.problems.append(str(error))
                return reports
            reports += [self._lost(each, "a later case has a result") for each in passed]
        self._names[number] = name
        self._number, self._side, self._log = number, side, Stretch()
        self._log.add(line)
        self._on_result(_RESULT.match(body))
        return reports

    def _correct_name(self, number: int, text: str) -> None:
        """Without a plan, noise behind a descriptor looks like its end until the other side comes.

        `#9/u test1 success Failed to load BTF spec: '…'`, `OK`, `#9/p test1 success OK`
        """
        found, known = _WHOLE.match(text), without_occurrence(self._names[number])
        if found and known.startswith(found["descr"] + " "):
            self._names[number] = self._occurrences.name(found["descr"][:MAX_NAME])

    def _parted(self, number: int, rest: str) -> tuple[str, str]:
        """Part a descriptor from what follows it: by the plan, else by the result's own form."""
        if number == self._number:
            planned = self._names[number]
        else:
            planned = self._order.planned_name(number) or ""
        text = case_name(rest)
        for known in (planned, without_occurrence(planned)):
            if known and (text == known or text.startswith(known + " ")):
                return planned, rest[len(known) + 1 :]
        if found := _WHOLE.match(rest):
            name = case_name(found["descr"])[:MAX_NAME]
            return (self._occurrences.name(name) if self._is_free else name), found["body"]
        return text[:MAX_NAME], ""

    def _on_result(self, result: re.Match[str] | None) -> None:
        self._result = result
        case = self._order.in_flight
        if result and self._side == "p" and case and case[0] == self._number:
            self._order.take(*case)

    # -- results -------------------------------------------------------------------------------

    def _close_side(self) -> list[CaseReport]:
        """Complete the side that was being read."""
        if not self._side or self._number is None:
            return []
        report = self._side_report(self._names[self._number], self._side, self._result)
        self._counts[report.outcome] += 1
        self._sides.append(report)
        self._side, self._result = "", None
        # A side whose result is damaged is not reported itself: it makes its case a lost one.
        return [] if report.outcome is Outcome.LOST else [report]

    def _side_report(self, name: str, side: str, result: re.Match[str] | None) -> CaseReport:
        reason = ""
        if result is None:
            outcome, raw = Outcome.LOST, ""
        elif result["ok"]:
            outcome, raw = Outcome.PASS, result["ok"]
        elif result["skip"]:
            outcome, raw, reason = Outcome.SKIP, "SKIP", result["skip"].removeprefix("SKIP").strip()
        else:
            outcome, raw = Outcome.FAIL, "FAIL"
        return CaseReport(
            path=(name, side),
            outcome=outcome,
            raw=raw[:_RAW_CHARS],
            detail=reason[:_DETAIL_CHARS],
            log_lines=() if outcome in (Outcome.PASS, Outcome.SKIP) else self._log.lines,
            begin_b=self._log.begin_b or 0,
            end_b=self._log.end_b,
        )

    def _close_case(self) -> list[CaseReport]:
        """Complete the case that was being read, its last side first."""
        reports = self._close_side()
        sides, self._sides = self._sides, []
        if not sides or self._number is None:
            return reports
        worst = min(sides, key=lambda report: _SEVERITY.index(report.outcome))
        case = self._order.in_flight
        if case and case[0] == self._number:  # its p never had a result
            self._order.take(*case)
            worst = replace(worst, outcome=Outcome.LOST, raw="") if _is_good(worst) else worst
        detail = "its result line is damaged" if worst.outcome is Outcome.LOST else worst.detail
        whole = replace(
            worst,
            path=(self._names.pop(self._number),),
            detail=detail,
            begin_b=sides[0].begin_b,
            end_b=sides[-1].end_b,
        )
        self._number = None
        return [*reports, whole]

    def _lost(self, name: str, what: str) -> CaseReport:
        return CaseReport(path=(name,), outcome=Outcome.LOST, raw="", detail=what)

    def _interrupted(self, rc: int) -> list[CaseReport]:
        """The case in flight when the process ended in the middle."""
        case = self._order.in_flight
        if case is None:
            if rc < _SIGNALS:
                self.problems.append(f"{ending_text(rc)} without its summary")
            return []
        self._order.take(*case)
        return [
            CaseReport(
                path=(case[1],),
                outcome=Outcome.CRASH,
                raw="",
                detail=f"{ending_text(rc)} before its result",
                log_lines=self._log.lines,
                begin_b=self._log.begin_b or 0,
                end_b=self._log.end_b,
            )
        ]

    def _check_summary(self, summary: re.Match[str]) -> None:
        for what, outcome in (("passed", Outcome.PASS), ("failed", Outcome.FAIL)):
            if int(summary[what]) != self._counts[outcome]:
                self.problems.append(
                    f"the summary counts {summary[what]} {what}, read were {self._counts[outcome]}"
                )


def _is_good(report: CaseReport) -> bool:
    return report.outcome in (Outcome.PASS, Outcome.SKIP)
