"""What a console says about its kernel's end: pure reading of lines.

x86 and arm64 differ in most of these texts; the panic line is kernel/panic.c's own and the same on
both. A line here means that the guest will not come back; complaints that it survives are splats.
"""

import re

from harness.model.record import Ending

# "[    3.141592] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"
_PANIC = re.compile(r"Kernel panic - not syncing: (?P<what>.*)")
# "[    0.000000] Linux version 6.1.0-44-arm64 (…)": every boot says it once, first of all.
_BANNER = re.compile(r"\] Linux version |^Linux version ")
_STAMP = re.compile(r"^\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])? ?")


class ConsoleWatch:
    """Follows one guest's console line by line and knows how it died, if it did."""

    def __init__(self) -> None:
        self.ending: Ending | None = None
        self.what = ""
        self.has_spoken = False
        self._banners = 0

    def feed(self, line: str) -> None:
        """Take one line without its newline. The first sign of death stays."""
        self.has_spoken = self.has_spoken or bool(line.strip())
        panic = _PANIC.search(line)
        if panic and self.ending is not Ending.PANICKED:
            self.ending, self.what = Ending.PANICKED, f"Kernel panic: {panic['what'].strip()}"
            return
        if _BANNER.search(line):
            self._banners += 1
            if self._banners > 1 and self.ending is None:
                self.ending, self.what = Ending.REBOOTED, "the guest booted a second time"


def without_stamp(line: str) -> str:
    """The line without printk's time stamp and caller."""
    return _STAMP.sub("", line, count=1)
