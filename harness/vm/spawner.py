"""Children that live as long as this process, whichever thread asks for them.

A child's death signal comes when the *thread* that forked it ends; so one thread, that never ends
before the process does, forks them all.
"""

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from harness.host.command import Child, kill_group, spawn


class Spawner:
    """The thread, started with its first child."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[tuple[_Order, Future[Child]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def spawn(self, argv: Sequence[str], *, output: Path, pass_fds: Sequence[int]) -> Child:
        """Start a child whose outputs are appended to `output`.

        Raises CommandError when it cannot be started. It is killed when this process ends.
        """
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="spawner", daemon=True)
                self._thread.start()
        future: Future[Child] = Future()
        self._orders.put(((tuple(argv), output, tuple(pass_fds)), future))
        try:
            return future.result()
        except KeyboardInterrupt:
            future.add_done_callback(_kill_unwanted)
            raise

    def _serve(self) -> None:
        while True:
            (argv, output, pass_fds), future = self._orders.get()
            try:
                with output.open("ab") as sink:
                    child = spawn(argv, stdout=sink, stderr=sink, pass_fds=pass_fds)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(child)


_Order = tuple[tuple[str, ...], Path, tuple[int, ...]]


def _kill_unwanted(future: "Future[Child]") -> None:
    if future.exception() is None:
        kill_group(future.result())


SPAWNER = Spawner()
