"""Tells a skip from a pass where test_progs prints OK for both (5.11 to 5.14).

The summary counts skips but does not name them; the verbose log of most skips does. What neither
settles stays marked as unsure, never guessed.
"""

from dataclasses import dataclass

from harness.model.case import Outcome
from harness.suites.base import UNSURE_OK, LogLine, Stretch
from harness.suites.bpf import grammar
from harness.suites.bpf.dialects import Dialect

# Of the tests of 5.11 to 5.14 that skip, these call test__skip() without a word in their log.
_SILENT_SKIPPERS = frozenset({"core_reloc", "ksyms_module", "select_reuseport"})


class ResultLog(Stretch):
    """The log before a result, with what it says of skips."""

    def __init__(self) -> None:
        super().__init__()
        self.skip = ""
        """The first line that says so."""
        self.has_passes = False

    def add(self, line: LogLine) -> None:
        super().add(line)
        if not self.skip and grammar.SKIP_MARK.search(line.text):
            self.skip = line.text.strip()
        self.has_passes = self.has_passes or bool(grammar.PASS_MARK.match(line.text))


@dataclass(slots=True)
class SkipJudge:
    """Knows a process's dialect as far as it has shown itself."""

    dialect: Dialect
    is_verbose: bool = False
    recognised: int = 0
    """Results whose log has a skip in it, as the summary of dialect A counts them."""

    @property
    def ok_hides_skips(self) -> bool:
        return self.dialect in (Dialect.A, Dialect.UNKNOWN)

    def learn(self, pad: str, word: str) -> None:
        """Narrow an unknown dialect down by one result line."""
        if self.dialect is not Dialect.UNKNOWN:
            return
        if len(pad) > 1:
            self.dialect = Dialect.E if "(" in word else Dialect.D
        elif "SKIP" in word:
            self.dialect = Dialect.B

    def judge(self, test: str, word: str, log: ResultLog) -> tuple[Outcome, str]:
        """Outcome and raw word of a test or subtest that has no subtests itself."""
        if log.skip:
            self.recognised += 1
        if word == "FAIL":
            return Outcome.FAIL, word
        if word == "SKIP":
            return Outcome.SKIP, word
        if word != "OK" or not self.ok_hides_skips:
            return Outcome.PASS, word
        if log.skip:
            return Outcome.SKIP, word
        is_told = (self.is_verbose or log.has_passes) and test not in _SILENT_SKIPPERS
        return Outcome.PASS, word if is_told else UNSURE_OK
