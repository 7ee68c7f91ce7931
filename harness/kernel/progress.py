"""Steps of work as events."""

import contextlib
import time
from collections.abc import Callable, Iterator

from harness.model.arch import Arch
from harness.model.events import Event, PhaseEnded, PhaseStarted

OnEvent = Callable[[Event], None]


@contextlib.contextmanager
def phase(on_event: OnEvent, arch: Arch | None, name: str, detail: str) -> Iterator[None]:
    """Tell of a step's begin and, when it succeeded, of its end."""
    begin_s = time.monotonic()
    on_event(PhaseStarted(arch=arch, phase=name, detail=detail))
    yield
    on_event(
        PhaseEnded(arch=arch, phase=name, duration_s=time.monotonic() - begin_s, detail=detail)
    )
