"""Reads test_maps: one case, the program as a whole, and the map_tests that name themselves."""

import re
from collections.abc import Sequence

from harness.model.case import Outcome
from harness.model.plan import PlannedCase
from harness.model.text import inert_line
from harness.suites.base import CaseReport, LogLine, Stretch
from harness.suites.bpf.ending import ending_text
from harness.suites.bpf.names import MAX_NAME, Occurrences

# `test_htab_map_batch_ops:PASS`, `test_map_in_map_batch_ops:PASS with inner ARRAY map`
_PASS = re.compile(r"(?P<name>\w+):(?P<word>PASS)(?: with (?P<variant>[\w ]+))?$", re.ASCII)
# `test_sockmap SKIP (unsupported map type BPF_MAP_TYPE_SOCKMAP)`
_SKIP = re.compile(r"(?P<name>\w+) (?P<word>SKIP)(?P<why> \(.*\))?$", re.ASCII)
# `test_maps: OK, 0 SKIPPED`
_DONE = re.compile(r"test_maps: (?P<raw>OK, \d+ SKIPPED)$", re.ASCII)
# `check_map(45):FAIL:lookup err`, an assert of glibc, `Failed to create hashmap …`
_TELLING = re.compile(
    r"\w+\(\d+\):FAIL:|: Assertion `.*' failed\.|^Failed |^Couldn't spawn |^error -?\d", re.ASCII
)
_DETAIL_CHARS = 300
_SIGNALS = 128
_NOT_STARTED = (125, 126, 127)  # of stdbuf and the shell; a failed check ends with 255 or 1


class MapsReader:
    """Reader of one test_maps process; the first failure ends the program."""

    def __init__(self, cases: Sequence[PlannedCase] = ()) -> None:
        self.problems: list[str] = []
        self.notices: list[str] = []
        self.refused = ""
        self._is_done = False
        self._raw = ""
        self._telling = ""
        self._last_line = ""
        self._occurrences = Occurrences()
        self._whole = Stretch()

    @property
    def in_flight(self) -> tuple[str, ...] | None:
        return None if self._is_done else ()

    def feed(self, line: LogLine) -> Sequence[CaseReport]:
        text = line.text.rstrip()
        self._last_line = text or self._last_line
        self._whole.add(line)
        if done := _DONE.match(text):
            self._raw = done["raw"]
        elif _TELLING.search(text):
            self._telling = self._telling or inert_line(text, _DETAIL_CHARS)
        elif passed := _PASS.match(text):
            variant = f" {passed['variant']}" if passed["variant"] else ""
            return [self._part(passed["name"] + variant, Outcome.PASS, passed["word"], "", line)]
        elif skipped := _SKIP.match(text):
            why = inert_line(skipped["why"] or "", _DETAIL_CHARS)
            return [self._part(skipped["name"], Outcome.SKIP, skipped["word"], why, line)]
        return ()

    def finish(self, rc: int | None) -> Sequence[CaseReport]:
        if rc is None:
            return ()
        if not self._raw and not self._telling and rc in _NOT_STARTED:
            self.refused = self._last_line or ending_text(rc)
            return ()
        self._is_done = True
        outcome, detail = self._judged(rc)
        is_pass = outcome is Outcome.PASS
        return [
            CaseReport(
                path=(),
                outcome=outcome,
                raw=self._raw,
                detail=detail,
                log_lines=() if is_pass else self._whole.lines,
                begin_b=self._whole.begin_b or 0,
                end_b=self._whole.end_b,
            )
        ]

    def _judged(self, rc: int) -> tuple[Outcome, str]:
        """What the end means; status and text must both say OK for a pass."""
        if rc == 0 and self._raw and not self._telling:
            return Outcome.PASS, ""
        if rc == 0 and not self._raw:
            self.problems.append("ended with status 0 without its summary")
            return Outcome.LOST, "the program finished without its last line"
        if self._raw:
            self.problems.append(f"said {self._raw}, and {self._telling or ending_text(rc)}")
        is_crash = rc > _SIGNALS and not self._telling
        return (Outcome.CRASH if is_crash else Outcome.FAIL), self._telling or ending_text(rc)

    def _part(
        self, name: str, outcome: Outcome, raw: str, detail: str, line: LogLine
    ) -> CaseReport:
        return CaseReport(
            path=(self._occurrences.name(name[:MAX_NAME]),),
            outcome=outcome,
            raw=raw,
            detail=detail,
            begin_b=line.begin_b,
            end_b=line.end_b,
        )
