"""Child processes: the one door to `subprocess`.

Commands are tuples, never shell strings. A child gets no standard input, its own process group and
the death signal of its parent, so that a killed harness leaves nothing behind.
"""

import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.model.errors import RigError

Child = subprocess.Popen[bytes]
"""A child that was spawned; others name its type without a door of their own to subprocess."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None, use_errno=True)
_TAIL_LINES = 12


class CommandError(RigError):
    """A child process could not be started or ended with a status other than 0."""

    def __init__(
        self,
        argv: Sequence[str],
        what: str,
        *,
        status: int | None,
        output: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(
            f"{what}: {shlex.join(argv)}",
            hint=hint,
            evidence=tuple(output.splitlines()[-_TAIL_LINES:]),
        )
        self.argv = tuple(argv)
        self.command_status = status
        """Exit status, negative for a signal; None when the program never started."""
        self.output = output


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A child that has ended, with what it printed, decoded with replacement of bad bytes."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str


def _die_with_parent() -> None:
    # Runs between fork and exec. The signal comes when the *thread* that forked ends: spawn from a
    # thread that lives as long as the child should.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": "", **(extra or {})}


def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    log: Path | None = None,
    check: bool = True,
    stdin: bytes | None = None,
) -> Finished:
    """Run a command to its end and return what it printed.

    With `log`, both outputs go to that file (appended) and come back as "". Raises CommandError
    when it cannot be started, runs over `timeout_s`, or (with `check`) ends with a status other
    than 0; on any exception its whole process group is killed.
    """
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(log.open("ab")) if log else None
        child = spawn(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=sink or subprocess.PIPE,
            stderr=subprocess.STDOUT if sink else subprocess.PIPE,
        )
        try:
            out, err = child.communicate(input=stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            kill_group(child)
            raise CommandError(argv, f"still running after {timeout_s} s", status=None) from None
        except BaseException:
            kill_group(child)
            raise
    finished = Finished(
        argv=tuple(argv),
        status=child.returncode,
        stdout=(out or b"").decode(errors="backslashreplace"),
        stderr=(err or b"").decode(errors="backslashreplace"),
    )
    if check and finished.status != 0:
        text = finished.stderr or finished.stdout
        raise CommandError(argv, _ending_text(finished.status), status=finished.status, output=text)
    return finished


def run_lines(
    argv: Sequence[str],
    on_line: Callable[[str], None],
    *,
    log: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> int:
    """Run a command, append all that it prints to `log`, give each line to `on_line` as it comes.

    Returns its exit status, negative for a signal; never raises for a status. The process group is
    killed on any exception, Ctrl-C included.
    """
    with log.open("ab") as sink:
        child = spawn(argv, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert child.stdout is not None  # PIPE was asked for
        try:
            with child.stdout:
                for raw in child.stdout:
                    sink.write(raw)
                    on_line(raw.decode(errors="backslashreplace").rstrip("\n"))
            return child.wait()
        except BaseException:
            kill_group(child)
            raise


def spawn(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
) -> Child:
    """Start a child in a process group of its own and return at once.

    It is killed when the calling *thread* ends. Raises CommandError when it cannot be started.
    """
    try:
        return subprocess.Popen(
            tuple(argv),
            cwd=cwd,
            env=_environment(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    except FileNotFoundError as error:
        missing = argv[0] if error.filename in (argv[0], None) else error.filename
        raise CommandError(
            argv, f"no such program: {missing}", status=None, hint="run `harness doctor`"
        ) from error
    except OSError as error:
        raise CommandError(argv, f"cannot be started ({error})", status=None) from error


def wait_for(child: Child, timeout_s: float) -> int | None:
    """Wait for a child's end up to `timeout_s`; None when it still runs then."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return child.wait(timeout_s)
    return None


def kill_group(child: Child) -> None:
    """Kill a child and all that it started, and reap it. Does nothing to one that was reaped."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


def _ending_text(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    return f"killed by {signal.Signals(-status).name}"
