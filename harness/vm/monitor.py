"""QEMU's monitor (QMP) for code that does not know asyncio. The one door to qemu.qmp.

All monitors of the process live on one event loop, in one thread. Events are kept, in memory and in
a file, from the moment of connecting: who asks for one that came already finds it.
"""

import asyncio
import atexit
import concurrent.futures
import contextlib
import json
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Collection, Coroutine, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import EventListener, QMPClient, QMPError
from qemu.qmp.message import Message
from qemu.qmp.protocol import Runstate
from qemu.qmp.qmp_client import ExecuteError

from harness.model.errors import RigError

T = TypeVar("T")

_COMMAND_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 2.0
_EVENTS_KEPT = 10_000  # a guest can cause events for ever; the file has them all

# It reports lost connections as errors, and Python prints those of a library that nobody set up.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())


class MonitorError(RigError):
    """QEMU refused a command, did not answer in time, or is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorEvent:
    """Something that QEMU said unasked."""

    index: int
    """Its number in this monitor's life, from 0."""
    t_s: float
    """Seconds since the machine's start, by the host's clock."""
    name: str
    """`SHUTDOWN`, `GUEST_PANICKED`, `RESET`, …"""
    data: Mapping[str, Any]


class Monitor:
    """One QEMU's monitor. Its methods may be called from any thread but the event loop's."""

    def __init__(self, name: str, log: Path, start: float | None = None) -> None:
        """Write events to `log`, with times since `start` (of `time.monotonic`; None is now)."""
        self._name = name
        self._log = FileIO(log, "a")
        self._end: socket.socket | None = None
        self._start = time.monotonic() if start is None else start
        self._events: deque[MonitorEvent] = deque(maxlen=_EVENTS_KEPT)
        self._count = 0
        self._changed = threading.Condition()
        self._is_dead = False
        self._client: QMPClient | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def is_dead(self) -> bool:
        """It was connected, and is no more: QEMU ended, or closed it."""
        return self._is_dead

    @property
    def is_connected(self) -> bool:
        return self._client is not None and not self._is_dead

    @property
    def event_count(self) -> int:
        """How many events have come: the index that the next one will have."""
        return self._count

    def connect(self, end: socket.socket | Path, timeout_s: float) -> None:
        """Say hello over a connected socket, which is the monitor's from now on, or over a path.

        Raises MonitorError when the other side is gone, answers nonsense, or not in time.
        """
        self._end = end if isinstance(end, socket.socket) else None
        try:
            _LOOP.run(self._connect(end, timeout_s), timeout_s + _CLOSE_TIMEOUT_S)
        except TimeoutError:
            raise MonitorError(
                f"the monitor of {self._name} said nothing within {timeout_s:g} s"
            ) from None
        except (QMPError, OSError, EOFError) as error:
            raise MonitorError(f"no monitor of {self._name}: {error}") from error

    async def _connect(self, end: socket.socket | Path, timeout_s: float) -> None:
        client = QMPClient(self._name)
        client.events.event_filter = _nothing  # it would keep all events for ever
        client.register_listener(_Listener(self))  # before connecting, or the first ones are lost
        if isinstance(end, socket.socket):
            end.setblocking(False)
            address: socket.socket | str = end
        else:
            address = str(end)
        try:
            await asyncio.wait_for(client.connect(address), timeout_s)
        except AssertionError:
            # qemu.qmp 0.0.6 asserts at the end of connect that the peer has not died meanwhile.
            if client.runstate is Runstate.IDLE:
                raise
        self._client = client
        self._watcher = asyncio.create_task(self._watch(client))
        _LOOP.monitors.add(self)

    async def _watch(self, client: QMPClient) -> None:
        # A listener says nothing when its connection dies: look at the connection itself.
        while client.runstate is Runstate.RUNNING:
            await client.runstate_changed()
        with self._changed:
            self._is_dead = True
            self._changed.notify_all()
        with contextlib.suppress(Exception):  # the reason is of no use: QEMU's stderr tells it
            await client.disconnect()

    def _record(self, message: Message) -> None:
        t_s = round(time.monotonic() - self._start, 4)
        entry = {"t_s": t_s, **message}
        with self._changed:
            if not self._log.closed:
                self._log.write(json.dumps(entry).encode() + b"\n")
            name, data = str(message["event"]), message.get("data")
            self._events.append(
                MonitorEvent(
                    index=self._count,
                    t_s=t_s,
                    name=name,
                    data=data if isinstance(data, Mapping) else {},
                )
            )
            self._count += 1
            self._changed.notify_all()

    def command(
        self, name: str, *, timeout_s: float = _COMMAND_TIMEOUT_S, **arguments: object
    ) -> Any:
        """Run a QMP command and return its value; `_` in an argument's name stands for `-`.

        Raises MonitorError when QEMU refuses it, does not answer in time, or is gone.
        """
        client = self._client
        if client is None or self._is_dead:
            raise MonitorError(f"{self._name}: no monitor to ask {name}")
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        try:
            return _LOOP.run(client.execute(name, named or None), timeout_s)
        except ExecuteError as error:
            raise MonitorError(f"{self._name}: QEMU refused {name}: {error}") from error
        except QMPError as error:
            raise MonitorError(f"{self._name}: QEMU is gone ({name}: {error})") from error
        except TimeoutError:
            raise MonitorError(f"{self._name}: no answer to {name} in {timeout_s:g} s") from None

    def events_since(self, index: int) -> tuple[MonitorEvent, ...]:
        """All events from that index on, without waiting."""
        with self._changed:
            return tuple(event for event in self._events if event.index >= index)

    def wait_event(
        self, names: Collection[str], timeout_s: float, since: int = 0
    ) -> MonitorEvent | None:
        """Return the first event of these names from index `since` on, also one that came before.

        None when none came in time, or the connection ended without one.
        """

        def found() -> MonitorEvent | None:
            wanted = (e for e in self._events if e.index >= since and e.name in names)
            return next(wanted, None)

        with self._changed:
            self._changed.wait_for(lambda: self._is_dead or found() is not None, timeout_s)
            return found()

    def wait_death(self, timeout_s: float) -> bool:
        """Wait until the connection has ended and its last event is kept; False after the time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_dead, timeout_s)

    def close(self) -> None:
        """Disconnect, if connected, and close the file; does nothing the second time."""
        if self._client is not None:
            with contextlib.suppress(TimeoutError):
                _LOOP.run(self._close(self._client), _CLOSE_TIMEOUT_S)
            self._client = None
        if self._end is not None:
            self._end.close()
        with self._changed:
            self._log.close()

    async def _close(self, client: QMPClient) -> None:
        _LOOP.monitors.discard(self)
        if self._watcher is not None:
            if client.runstate is Runstate.RUNNING:
                with contextlib.suppress(Exception):
                    await client.disconnect()
            await self._watcher


class _Listener(EventListener):
    """Hands each event on at once, and keeps none."""

    def __init__(self, monitor: Monitor) -> None:
        super().__init__()
        self._monitor = monitor

    async def put(self, event: Message) -> None:
        self._monitor._record(event)


def _nothing(event: Message) -> bool:
    return False


class _LoopThread:
    """The event loop, in a thread that starts with the first use and ends with the process."""

    def __init__(self) -> None:
        self.monitors: set[Monitor] = set()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run a coroutine on the loop to its end. Raises TimeoutError, and then cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._started())
        try:
            return future.result(timeout_s)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise TimeoutError from None

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="monitors", daemon=True
                )
                self._thread.start()
                atexit.register(self._stop)
            return self._loop

    def _stop(self) -> None:
        # Monitors that nobody closed would print about pending tasks while the interpreter ends.
        for monitor in tuple(self.monitors):
            monitor.close()
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSE_TIMEOUT_S)
            if not self._thread.is_alive():
                self._loop.close()


_LOOP = _LoopThread()
