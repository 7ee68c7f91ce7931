"""A guest's channels: always drained, kept in a log, matched by pexpect. The one door to pexpect.

A serial line that nobody reads stops the guest after some 280 bytes, in the middle of its oops. So
each channel has a thread that reads whatever comes, whoever waits for what.
"""

import codecs
import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from io import FileIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
from pexpect.spawnbase import SpawnBase

from harness.host.faults import hint_of
from harness.model.errors import RigError
from harness.vm.backlog import Backlog
from harness.vm.timeline import Timeline

if TYPE_CHECKING:
    _Spawn = SpawnBase[str]
else:
    _Spawn = SpawnBase

EOF = pexpect.EOF
TIMEOUT = pexpect.TIMEOUT

_READ_B = 65536
_BACKLOG_LOSSLESS_B = 4 << 20
_BACKLOG_LOSSY_B = 1 << 20
_WINDOW_CHARS = 1 << 18
"""Unmatched text that is kept for a match that spans reads, and for `before`."""
_TRICKLE_B = 128
_TRICKLE_PAUSE_S = 0.0005
"""A UART sends byte by byte: a reader that runs for each takes the CPU that emulates the guest.

Its socket fills in twice this time (280 bytes at 180 KB/s). Measured: a chatty emulated boot takes
8 s with the pause and 14 s without.
"""
_SEND_TIMEOUT_S = 10.0
_SETTLE_S = 5.0

_LOG = logging.getLogger(__name__)

BytesHook = Callable[[bytes], None]


class ChannelError(RigError):
    """A channel cannot do what was asked of it."""


class ChannelClosed(ChannelError):
    """The far end is gone, and all that it sent has been read."""


class ChannelStuck(ChannelError):
    """The guest takes no input; a part of what was sent may have reached it."""


class Channel(_Spawn):
    """One channel of a guest.

    Read it in one of two ways: as text, by `read_line`, `expect_exact` or `expect` (which searches
    all unmatched text again at each read), or as bytes, by `read_chunk`. Both raise RigError when
    the log cannot be written or the hook failed: what came is drained even so.

    A lossless channel makes the guest wait while its reader is slow. Another one never does: what
    its reader does not fetch in time is forgotten here, and is in the log.
    """

    _before: StringIO  # pexpect's text since the last match, and the part of it still to search
    _buffer: StringIO

    def __init__(
        self, name: str, log: Path, timeline: Timeline, *, lossless: bool, on_bytes: BytesHook
    ) -> None:
        # backslashreplace: kernel text holds any bytes; surrogates would break whoever writes them.
        super().__init__(
            timeout=30, maxread=_READ_B, encoding="utf-8", codec_errors="backslashreplace"
        )
        self.name = name
        self._text = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self.delaybeforesend = None
        self.delayafterread = None
        self.received_b = 0
        """Bytes in the log."""
        self._on_bytes = on_bytes
        self._timeline = timeline
        self._log_file = FileIO(log, "a")
        limit_b = _BACKLOG_LOSSLESS_B if lossless else _BACKLOG_LOSSY_B
        self._backlog = Backlog(limit_b, lossless=lossless)
        self._send_lock = threading.Lock()
        self._failure: Exception | None = None
        self._socket: socket.socket | None = None
        self._drainer: threading.Thread | None = None

    def __str__(self) -> str:
        return f"channel {self.name}, {self.received_b} bytes received"

    @property
    def dropped_b(self) -> int:
        """Bytes that no reader will see, because none fetched them in time."""
        return self._backlog.dropped_b

    @property
    def failure(self) -> Exception | None:
        """Why the log or the hook failed; None when they did not."""
        return self._failure

    def attach(self, end: socket.socket) -> None:
        """Begin to drain a connected socket, which belongs to the channel from now on."""
        self._socket = end
        self.closed = False
        self._drainer = threading.Thread(
            target=self._drain, args=(end,), name=f"drain {self.name}", daemon=True
        )
        self._drainer.start()

    # The thread.

    def _drain(self, end: socket.socket) -> None:
        while True:
            try:
                data = end.recv(_READ_B)
            except OSError:  # a peer that dies with unread input resets the connection
                break
            if not data:
                break
            self._keep(data)
            self._backlog.put(data)
            if not self._backlog.lossless and len(data) < _TRICKLE_B:
                time.sleep(_TRICKLE_PAUSE_S)
        self._backlog.end()

    def _keep(self, data: bytes) -> None:
        try:
            self._timeline.note(self.name, self.received_b)
            view = memoryview(data)
            while view:
                view = view[self._log_file.write(view) :]
            self.received_b += len(data)
            self._on_bytes(data)
        except Exception as error:  # whatever it is: the guest must not be stopped by it
            if self._failure is None:
                self._failure = error
                _LOG.exception("channel %s", self.name)

    # The reader.

    def read_chunk(self, timeout_s: float | None) -> bytes:
        """Return what has come, b"" when nothing came within `timeout_s` (None: waits for ever).

        Text that an `expect` left unmatched comes first. Raises ChannelClosed at the end.
        """
        left_over = self._before.getvalue().encode() + self._text.getstate()[0]
        if left_over:
            self._before, self._buffer = StringIO(), StringIO()
            self._text.reset()
            return left_over
        try:
            return self._taken(_READ_B, timeout_s)
        except EOFError:
            raise ChannelClosed(f"the {self.name} channel has ended") from None

    def read_line(self, timeout_s: float) -> str | None:
        """Return the next whole line without its end, None when none came in time.

        Raises ChannelClosed at the end; a last line without an end is torn, and only in the log.
        """
        found = self.expect_exact(["\n", TIMEOUT, EOF], timeout=max(0.0, timeout_s))
        if found == 1:
            return None
        if found == 2:
            raise ChannelClosed(f"the {self.name} channel has ended")
        return (self.before or "").removesuffix("\r")

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> str:
        """For pexpect: return new text; raises its TIMEOUT and EOF."""
        self._forget_old_text()
        timeout_s = self.timeout if timeout == -1 else timeout
        try:
            data = self._taken(size, timeout_s)
        except EOFError:
            rest = self._text.decode(b"", final=True)
            if rest:
                return rest
            self.flag_eof = True
            raise EOF(f"the {self.name} channel has ended") from None
        if not data:
            raise TIMEOUT(f"nothing on the {self.name} channel for {timeout_s} s")
        return self._text.decode(data)

    def _taken(self, size_b: int, timeout_s: float | None) -> bytes:
        if self._failure is not None:
            hint = hint_of(self._failure)
            raise RigError(f"channel {self.name}: {self._failure}", hint=hint) from self._failure
        return self._backlog.take(size_b, timeout_s)

    def _forget_old_text(self) -> None:
        # pexpect keeps all text since the last match: a flood must not fill the memory with it.
        if self._before.tell() < 2 * _WINDOW_CHARS:
            return
        recent = self._before.getvalue()[-_WINDOW_CHARS:]
        self._before = StringIO()
        self._before.write(recent)
        if self._buffer.tell() > _WINDOW_CHARS:
            self._buffer = StringIO()
            self._buffer.write(recent)

    # The writer.

    def send_line(self, text: str, timeout_s: float = _SEND_TIMEOUT_S) -> None:
        """Send one line, whole, whichever threads send at the same time.

        Raises ChannelClosed, and ChannelStuck when the guest does not take it in time.
        """
        if "\n" in text:
            raise ValueError(f"more than one line: {text!r}")
        self._send_all(f"{text}\n".encode(errors="backslashreplace"), timeout_s)

    def send(self, s: str) -> int:
        """Send text as it is; returns how many bytes that were."""
        data = s.encode(errors="backslashreplace")
        self._send_all(data, _SEND_TIMEOUT_S)
        return len(data)

    def send_bytes(self, data: bytes, timeout_s: float = _SEND_TIMEOUT_S) -> None:
        """Send bytes as they are, as a person's terminal gives them. Raises as `send_line` does."""
        self._send_all(data, timeout_s)

    def _send_all(self, data: bytes, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        view = memoryview(data)
        with self._send_lock:
            while view:
                view = view[self._sent_b(view, deadline) :]

    def _sent_b(self, view: memoryview, deadline: float) -> int:
        if self._socket is None:
            raise ChannelClosed(f"the {self.name} channel is not open")
        try:
            # poll, not select: with many guests a descriptor may be above 1023.
            poller = select.poll()
            poller.register(self._socket, select.POLLOUT)
            if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise ChannelStuck(f"the guest takes no input from the {self.name} channel")
            return self._socket.send(view, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ChannelClosed(f"the {self.name} channel has ended ({error})") from error

    def close(self) -> None:
        """Stop draining and close socket and log; does nothing the second time.

        When the far end is gone already, all that it had sent is in the log before this returns.
        """
        self._backlog.release()
        if self._drainer is not None and self._socket is not None:
            self._shut(self._socket, self._drainer)
        self._socket = self._drainer = None
        self._log_file.close()
        self.closed = True

    def _shut(self, end: socket.socket, drainer: threading.Thread) -> None:
        # Data of a dead peer can still be read; a living one is told that we go.
        if not _is_hung_up(end):
            _shutdown(end)
        drainer.join(_SETTLE_S)
        _shutdown(end)
        drainer.join(_SETTLE_S)
        end.close()


def _is_hung_up(end: socket.socket) -> bool:
    poller = select.poll()
    poller.register(end, select.POLLHUP)
    return bool(poller.poll(0))


def _shutdown(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was shut already
