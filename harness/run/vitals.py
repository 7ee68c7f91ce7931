"""Whether a guest lives, who ends it, and how it died.

A sign of death is a claim of the console, an event of QEMU's, or QEMU's end. Between the sign and
the end a guest has its last words, often the best of all: they are waited for, and then the console
is complete before anybody judges.
"""

import time
from collections.abc import Callable

from harness.model.errors import RigError
from harness.model.record import Ending
from harness.run.boot_error import STOPPED, RunStopped
from harness.run.death import Death, GuestGone, is_ending, judge
from harness.run.kernel_log import KernelLog
from harness.vm.guest_vm import VirtualMachine

LONGEST = 4
"""Times the usual, for a boot and for last words of a console that still speaks."""
_SETTLE_S = 2.0
_READ_ON_S = 1.0
"""What a stopped run may still read of what its guest had said."""


class Vitals:
    """Of one machine; one thread asks, any thread may `interrupt`."""

    def __init__(
        self,
        vm: VirtualMachine,
        log: KernelLog,
        *,
        last_words_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.death: Death | None = None
        """How it died, once somebody has looked."""
        self._vm = vm
        self._log = log
        self._last_words_s = last_words_s
        self._clock = clock
        self._sign_since: float | None = None
        self._interrupted_at: float | None = None
        self._is_starting = False

    def start(self) -> None:
        """Start the machine. Raises RigError, and RunStopped when it was interrupted meanwhile."""
        self._is_starting = True
        try:
            if not self.is_interrupted:
                self._vm.start()
        except RigError:
            if not self.is_interrupted:
                raise
        finally:
            self._is_starting = False
        if self.is_interrupted:
            raise RunStopped(STOPPED)

    def interrupt(self) -> None:
        """End the machine at once, from any thread."""
        self._interrupted_at = self._clock()
        self._vm.kill()
        while self._is_starting and self._clock() < self._interrupted_at + _SETTLE_S:
            time.sleep(0.02)
            self._vm.kill()  # it may have been made in this moment

    @property
    def is_interrupted(self) -> bool:
        return self._interrupted_at is not None

    @property
    def may_read_on(self) -> bool:
        """Whether there is time to read what the guest has said: no, soon after an interrupt."""
        at = self._interrupted_at
        return at is None or self._clock() < at + _READ_ON_S

    # -- signs -----------------------------------------------------------------------------------

    @property
    def is_told_by_qemu(self) -> bool:
        """Whether QEMU has ended or said that the guest did: a fact, not a claim."""
        return self._vm.poll() is not None or any(map(is_ending, self._vm.monitor_events()))

    def is_past_hope(self) -> bool:
        """Whether a sign of death is so old that the end should have come."""
        if self.is_interrupted:
            return True
        if not self._has_sign():
            self._sign_since = None
            return False
        if self._sign_since is None:
            self._sign_since = self._clock()
        limit_s, now = self._last_words_s, self._clock()
        age_s, silent_s = now - self._sign_since, now - self._log.last_heard
        return age_s >= limit_s and (silent_s >= limit_s / 2 or age_s >= LONGEST * limit_s)

    def hope_again(self) -> None:
        """Somebody asks the guest whether it lives: the answer may take as long again."""
        self._sign_since = None

    def _has_sign(self) -> bool:
        return self._log.watch.ending is not None or self.is_told_by_qemu

    # -- the end ---------------------------------------------------------------------------------

    def gone(self, otherwise: str, *, is_closed: bool = False) -> GuestGone:
        """End the machine, when it has not ended, and say how it died: `otherwise` without a sign.

        `is_closed`: a port has ended, so QEMU will. The console is complete then, and the output
        port still to be read.
        """
        if self.death is None:
            is_going = is_closed or self._has_sign()
            if is_going and not self.is_interrupted:  # its last words are on the way
                self._vm.wait(self._last_words_s)
            self.death = self._autopsy(otherwise)
        return GuestGone(self.death)

    def close(self) -> None:
        """End the machine at once, whatever it does. Harmless the second time."""
        try:
            self._vm.close()
        finally:
            self._log.finish()

    def panic(self) -> Death | None:
        """The panic of a closed machine, unless its death was told already."""
        if self.death is not None:
            return None
        death = judge(self._log.watch, self._vm.monitor_events(), None, ())
        return death if death is not None and death.ending is Ending.PANICKED else None

    def _autopsy(self, otherwise: str) -> Death:
        status = self._vm.poll()
        self._vm.kill()
        if self._vm.monitor.is_connected:
            self._vm.monitor.wait_death(_SETTLE_S)
        self._vm.console.close()
        self._log.finish()
        if self.is_interrupted:
            return Death(ending=Ending.KILLED, what=STOPPED)
        watch, stderr = self._log.watch, self._vm.stderr_text().splitlines()
        death = judge(watch, self._vm.monitor_events(), status, stderr)
        return death or Death(ending=Ending.HUNG, what=otherwise, evidence=watch.evidence)
