"""Finds kernel complaints in a console log, line by line, on x86_64 and aarch64.

A complaint is open from its first line to its end; what is told about it (the case in flight, its
place in the log) is what held at its first line. One that was cut, or into which another broke, is
marked: it may be shown, and never matches anything.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from harness.model.case import LogSpan
from harness.model.record import Splat
from harness.model.text import inert_line
from harness.triage.families import End, Families, Family, FamilyConfig, Frame, default_families
from harness.triage.signature import STAMP, UNMATCHABLE, hashed, normalised

_LINE_LIMIT = 1000
_LINES_LIMIT = 400  # a complaint that is longer has lost its end
_FRAMES_KEPT = 5
_SAME_LIMIT = 20  # of one signature in one guest's life: a flood says nothing new
_ALL_LIMIT = 500
_TITLE_LIMIT = 120

# " do_one_initcall+0x56/0x220", " ? foo+0x1/0x2", " btrfs_x+0x1/0x2 [btrfs]", arm64 of 6.13 and
# later " foo+0x1/0x2 (P)"
_FRAME = re.compile(
    r"^ {0,4}(?P<guess>\? )?(?:\[<[0-9a-f]+>\] )?(?P<name>[A-Za-z_][\w.$]*)"
    r"\+0x(?P<offset>[0-9a-f]+)/0x[0-9a-f]+(?: \[[^\]]+\])?(?: \([A-Z]+\))?\s*$"
)
# x86 "RIP: 0010:sysrq_handle_crash+0x16/0x20", arm64 "pc : sysrq_handle_crash+0x20/0x30"
_POINTER = re.compile(r"^\s*(?:RIP: [0-9a-f]{4}:|pc : )(?P<name>[A-Za-z_][\w.$]*)\+0x[0-9a-f]+/0x")
# arm64 writes "Call trace:", x86 "Call Trace:"
_STACK_BEGIN = re.compile(r"^\s*Call [Tt]race:\s*$|^\s*Call [Tt]race: *\(")
# What stands between the frames of one stack: " <TASK>", " </IRQ>", "RIP: 0033:0x7f…"
_STACK_PART = re.compile(r"^ *</?[A-Z_#]+(?:>|\w)|^\s*$")
_END_OF_TRACE = re.compile(r"^---\[ end (?:trace|Kernel panic)")
_CUT_HERE = re.compile(r"^-+\[ cut here \]-+")
# A stamp in the middle of a line: two writers shared it.
_TORN = re.compile(r".\[\s*\d{1,6}\.\d{6}\](?:\[\s*[TC]\d+\])? ")
_SUFFIX = re.compile(r"\.(?:cold|isra|constprop|part|llvm|lto_priv)(?:\.\d+)*.*$")
# One system call has several names: "__x64_sys_bpf", "__arm64_sys_bpf", "__do_sys_bpf", "ksys_read"
_SYSCALL = re.compile(r"^(?:__(?:x64|ia32|arm64|se|do)_(?:compat_)?sys_|ksys_)")


def scan_splats(
    lines: Sequence[str], *, log: str = "console.log", during: str = ""
) -> tuple[Splat, ...]:
    """Find the complaints in a whole log. Offsets count each line's bytes and its newline."""
    scanner = SplatScanner(log=log)
    found: list[Splat] = []
    offset_b = 0
    for line in lines:
        end_b = offset_b + len(line.encode(errors="replace")) + 1
        found += scanner.feed(line, offset_b, end_b, during=during)
        offset_b = end_b
    found += scanner.finish()
    return tuple(found)


@dataclass(slots=True)
class _Open:
    """A complaint whose end has not been seen."""

    config: FamilyConfig
    groups: dict[str, str]
    begin_b: int
    end_b: int
    during: str
    is_torn: bool
    lines: int = 0
    pointer: str = ""
    stacks: int = 0
    is_in_stack: bool = False
    frames: list[str] = field(default_factory=list)
    guesses: list[str] = field(default_factory=list)


class SplatScanner:
    """Takes one guest's console lines in order; gives each complaint when it is whole.

    Call `finish` at the end of the guest's life: a complaint may still be open.
    """

    def __init__(self, *, log: str, families: Families | None = None) -> None:
        self._log = log
        self._families = families or _shipped_families()
        self._open: _Open | None = None
        self._kinds: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._cut_b: int | None = None

    def feed(self, text: str, begin_b: int, end_b: int, *, during: str) -> tuple[Splat, ...]:
        """Take one line without its newline, and its place in the log in bytes."""
        body = STAMP.sub("", text[:_LINE_LIMIT].rstrip("\r\n"))
        if _CUT_HERE.match(body):
            # The complaint itself comes with the next lines; its text begins here.
            self._cut_b = begin_b
            return ()
        found = self._families.match(body)
        if found is not None and not self._goes_on(found[0]):
            return self._start(found, body, (begin_b, end_b), during)
        return self._continue(body, end_b)

    def finish(self) -> tuple[Splat, ...]:
        """The guest has gone: what is still open, ends here."""
        return self._close(is_cut=True)

    # -- inside ----------------------------------------------------------------------------------

    def _goes_on(self, family: Family) -> bool:
        """Whether the line goes on with an open complaint, or follows from an earlier one."""
        is_open = self._open is not None and self._open.config.kind in family.config.continues
        return is_open or bool(self._kinds & set(family.config.follows))

    def _start(
        self,
        found: tuple[Family, re.Match[str]],
        body: str,
        place: tuple[int, int],
        during: str,
    ) -> tuple[Splat, ...]:
        config, match = found[0].config, found[1]
        is_inside = config.frame is not Frame.NONE and self._is_unfinished()
        earlier = self._close(is_cut=True)
        begin_b = place[0] if self._cut_b is None else self._cut_b
        self._cut_b = None
        self._kinds.add(config.kind)
        groups = {name: value or "" for name, value in match.groupdict().items()}
        # Inside of another complaint the stacks of both are mixed.
        is_torn = is_inside or _is_torn(body)
        self._open = _Open(config, groups, begin_b, place[1], during, is_torn)
        if config.end is End.LINE:
            return earlier + self._close(is_cut=False)
        return earlier

    def _is_unfinished(self) -> bool:
        """Whether more of an open complaint is to come; where its stack is all, the stack came."""
        current = self._open
        if current is None:
            return False
        return current.config.end is End.TRACE or not current.frames

    def _continue(self, body: str, end_b: int) -> tuple[Splat, ...]:
        current = self._open
        if current is None:
            return ()
        current.lines += 1
        if _END_OF_TRACE.match(body):
            current.end_b = end_b
            return self._close(is_cut=False)
        if current.lines > _LINES_LIMIT:
            return self._close(is_cut=True)
        is_stack = self._read_stack(current, body)
        if current.config.end is End.STACK and current.frames and not is_stack:
            return self._close(is_cut=False)
        current.end_b = end_b
        return ()

    def _read_stack(self, current: _Open, body: str) -> bool:
        """Take a line of a stack; returns whether it was one."""
        pointer = _POINTER.match(body)
        if pointer and not current.pointer:
            current.pointer = _function(pointer["name"])
        if _STACK_BEGIN.match(body):
            current.stacks += 1
            current.is_in_stack = True
            return True
        if not current.is_in_stack:
            return False
        frame = _FRAME.match(body)
        if frame is None:
            if _is_torn(body):
                current.is_torn = True
                return True
            current.is_in_stack = bool(_STACK_PART.match(body))
            return current.is_in_stack
        # A return address at the very begin of a function belongs to the one before it, which ended
        # with a call that does not return; its name is not there.
        if current.stacks == 1 and frame["offset"] != "0":
            kept = current.guesses if frame["guess"] else current.frames
            name = _function(frame["name"])
            if kept[-1:] != [name]:  # "__arm64_sys_write" below "__se_sys_write"
                kept.append(name)
        return True

    def _close(self, *, is_cut: bool) -> tuple[Splat, ...]:
        """Make the open complaint a Splat. `is_cut`: its end was not seen."""
        current, self._open = self._open, None
        if current is None:
            return ()
        config = current.config
        telling = self._telling(current)
        frame = self._frame(current, telling, is_cut=is_cut)
        is_whole = not current.is_torn and (bool(frame) or config.frame is Frame.NONE)
        title = _title(config.title, current.groups, frame or "?")
        prefix = "k1:" if is_whole else UNMATCHABLE
        splat = Splat(
            kind=config.kind,
            title=title,
            signature=hashed(prefix, config.kind, normalised(title)),
            during=current.during,
            frames=tuple(telling[:_FRAMES_KEPT]),
            is_whole=is_whole,
            log=LogSpan(log=self._log, begin_b=current.begin_b, end_b=current.end_b),
        )
        self._counts[splat.signature] += 1
        is_flood = self._counts[splat.signature] > _SAME_LIMIT or self._counts.total() > _ALL_LIMIT
        return () if is_flood else (splat,)

    def _telling(self, current: _Open) -> list[str]:
        """The stack without the functions that only report, innermost first."""
        stack = list(current.frames)
        if current.pointer and current.pointer not in stack:
            stack.insert(0, current.pointer)
        skipped = self._families.skipped_frame
        telling = [name for name in stack if not skipped.match(name)]
        return telling or [name for name in current.guesses if not skipped.match(name)]

    def _frame(self, current: _Open, telling: Sequence[str], *, is_cut: bool) -> str:
        """The function that the complaint is named by; "" when it cannot be told."""
        skipped = self._families.skipped_frame
        named = _function(current.groups.get("at", "").partition("+")[0])
        match current.config.frame:
            case Frame.GUILTY if named and not skipped.match(named):
                return named
            case Frame.GUILTY:
                return telling[0] if telling else ""
            case Frame.ANCHOR:
                return self._below_anchor(current.frames) or (
                    telling[0] if telling and not is_cut else ""
                )
            case Frame.NONE:
                return ""

    def _below_anchor(self, stack: Sequence[str]) -> str:
        """The function that the innermost anchor entered; "" for a stack without an anchor."""
        for index, name in enumerate(stack):
            if index and self._families.anchor.match(name):
                return stack[index - 1]
        return ""


@lru_cache(maxsize=1)
def _shipped_families() -> Families:
    return default_families()


def _is_torn(body: str) -> bool:
    return _TORN.search(body) is not None


def _function(name: str) -> str:
    """A function's name without what compilers and system call tables add to it."""
    return _SYSCALL.sub("sys_", _SUFFIX.sub("", name))


def _title(template: str, groups: dict[str, str], frame: str) -> str:
    filled = {name: inert_line(value) for name, value in groups.items()}
    return inert_line(template.format(**{**filled, "frame": frame}), _TITLE_LIMIT)


def splat_lines(splat: Splat, lines: Iterable[tuple[int, str]]) -> tuple[str, ...]:
    """The lines of a log that a complaint covers, from (offset of its begin, text) pairs."""
    if splat.log is None:
        return ()
    span = splat.log
    return tuple(text for begin_b, text in lines if span.begin_b <= begin_b < span.end_b)
