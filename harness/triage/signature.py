"""Signatures: the same failure gets the same one, whatever its addresses, numbers and times.

A signature is a prefix that names its algorithm and a hash: `c1:` is made from what a program
printed, `k1:` from a kernel complaint, `kx:` marks one whose text was cut or interleaved; that one
never matches anything.
"""

import hashlib
import re
from collections.abc import Sequence

from harness.model.text import inert_line

UNMATCHABLE = "kx:"
_LIMIT = 400  # of what is hashed: a line of a megabyte says no more than its beginning
_LINE_LIMIT = 4000
_HASH_CHARS = 16

# "[    3.141592] BUG: …", with CONFIG_PRINTK_CALLER "[    3.141592][  T123] BUG: …"
STAMP = re.compile(r"^(?:<\d+>)?\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])? ?")

# Read from the top; each replaces one thing that changes from run to run or from build to build.
_NORMALISATIONS: tuple[tuple[re.Pattern[str], str], ...] = (
    (STAMP, ""),
    # "#12/3 name:FAIL": the number is the position in the list.
    (re.compile(r"#\d+(?:/\d+)?\b"), "#"),
    # "do_one_initcall+0x56/0x220"
    (re.compile(r"\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?"), ""),
    # "test_attach_probe:FAIL:1234:" and "prog_tests/d_path.c:120"
    (re.compile(r"(?<=:FAIL:)\d+(?=[:\s]|$)"), "LINE"),
    (re.compile(r"(?P<file>[\w./-]+\.[chS]):\d+(?::\d+)?"), r"\g<file>:LINE"),
    (re.compile(r"\(\w+\.[chS]:\d+\)"), "(LINE)"),
    # "[bpf_testmod]" stays; "pid 123" falls to the numbers below.
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.I), "UUID"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "IP"),
    (re.compile(r"\b0x[0-9a-f]+\b", re.I), "ADDR"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", re.I), "ADDR"),
    # An error number is what a failure is about: it stays. "strerror_r(-524)=22", "err -95",
    # "errno 524", "unexpected error: -22 (errno 22)"
    (re.compile(r"(?<![\w.)])-(?P<number>\d{1,3})\b(?!\.\d)"), r"ERRNO<\g<number>>"),
    (
        re.compile(
            r"\b(?P<word>errno|strerror_r|error|err|ret)(?P<gap>[ =:(]{1,2})"
            r"(?P<number>[1-9]\d{0,2})\b(?!\.\d)"
        ),
        r"\g<word>\g<gap>ERRNO<\g<number>>",
    ),
    # What stands alone: counts, pids, durations. "r1", "ipv6" and "loop3" are names.
    (
        re.compile(
            r"(?<![\w<])\d+(?:\.\d+)?(?=(?:ns|us|ms|s|nsec|usec|sec|kB|KB|MB|%|x)?(?:\W|$))"
        ),
        "N",
    ),
)


def normalised(line: str) -> str:
    """The line without what changes from run to run; empty when nothing else is on it."""
    text = inert_line(line[: 4 * _LIMIT])
    for pattern, replacement in _NORMALISATIONS:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())[:_LIMIT]


def signature(lines: Sequence[str]) -> str:
    """Sign a program's log by its first telling line; "" when there is nothing to sign."""
    text = normalised(first_telling_line(lines))
    return hashed("c1:", text) if text else ""


def hashed(prefix: str, *parts: str) -> str:
    """A signature over normalised parts."""
    joined = "\x00".join(parts)
    return prefix + hashlib.sha256(joined.encode(errors="replace")).hexdigest()[:_HASH_CHARS]


def can_match(text: str) -> bool:
    """Whether a signature says anything: not empty, and not of a damaged text."""
    return bool(text) and not text.startswith(UNMATCHABLE)


# -- the line that tells ------------------------------------------------------------------------

# "test_fentry_test:FAIL:fentry_attach unexpected error: -524 (errno 524)"; old form
# "test_map_lock:FAIL:run err -1 errno 2"; with the line number "main:FAIL:123"
_ASSERT_FAILED = re.compile(r"^\s*(?:#\d+(?:/\d+)?\s+)?\w[\w.]*:FAIL:")
_ASSERT = re.compile(r"^\s*(?:#\d+(?:/\d+)?\s+)?\w[\w.]*:(?:PASS|FAIL|SKIP|OK):?")
# "libbpf: prog 'test1': failed to attach: ERROR: strerror_r(-524)=22"
_LIBBPF_ERROR = re.compile(
    r"^\s*libbpf: .*(?:fail|error|can't|not found|not supported|invalid)", re.I
)
# What libbpf says after the line that tells, for each object on the way up.
_LIBBPF_ECHO = re.compile(
    r"^\s*libbpf: (?:-- (?:BEGIN|END)|failed to load (?:object|BPF skeleton)|"
    r"failed to load program|prog '[^']*': (?:BPF program load failed|failed to load:)|"
    r"load bpf program failed|Kernel error message|failed to auto-attach|"
    r"failed to initialize skeleton)"
)
# "libbpf: -- BEGIN DUMP LOG ---", since v5.17 "libbpf: prog 'x': -- BEGIN PROG LOAD LOG --"
_FENCE_BEGIN = re.compile(
    r"^\s*(?:libbpf: )?(?:prog '[^']*': )?-- BEGIN (?:DUMP LOG ---|PROG LOAD LOG --)"
)
_FENCE_END = re.compile(r"^\s*(?:libbpf: )?-- END (?:LOG|PROG LOAD LOG) --")
# The verifier's statistics and its trace of the program: not what it complained of.
_VERIFIER_NOISE = re.compile(
    r"^\s*(?:$|processed \d+ insns|verification time|stack depth|max_states|mark_precise|"
    r"\d+: (?:\([0-9a-f]{2}\)|R\d)|; |from \d+ to \d+|func#\d+ @|last_idx|regs=|parent |"
    r"peak_states|arg#\d+ |Validating |caller:|callee:|returning from|propagating)"
)
# test_verifier, after "Unexpected error message!": what it wanted and what it got
# "\tRES: R0 has pointer with unsupported alu operation"
_VERIFIER_GOT = re.compile(r"^RES: \S")
# "Failed to load prog 'Permission denied'!", then the verifier's log without a fence
_LOAD_FAILED = re.compile(r"^Failed to load prog '")
_PROGRAM_ERROR = re.compile(
    r"\b(?:fail(?:ed|ure)?|error|unexpected|cannot|can't|unable|assert(?:ion)?|not found|"
    r"no such|denied|invalid|timed out|timeout|segmentation fault|killed|aborted)\b",
    re.IGNORECASE,
)
_RESULT_LINE = re.compile(r"^\s*#\d+(?:/\w+)?\s+.*(?:OK|FAIL|SKIP)\b.*$|^Summary: ")


def first_telling_line(lines: Sequence[str]) -> str:
    """Return the line of a program's log that best says why it failed; "" for an empty log.

    That is what libbpf or the verifier said just before the first failed assertion, or else the
    assertion, or else the first line that speaks of an error, or else the last line.
    """
    texts = [STAMP.sub("", line[:_LINE_LIMIT]).strip() for line in lines]
    failed = next((index for index, text in enumerate(texts) if _ASSERT_FAILED.match(text)), None)
    if failed is not None:
        begin = _after_last_assertion(texts, failed)
        return _reason(texts[begin:failed]) or texts[failed]
    reason = _reason(texts)
    if reason:
        return reason
    spoken = [text for text in texts if text and not _RESULT_LINE.match(text)]
    for text in spoken:
        if _PROGRAM_ERROR.search(text):
            return text
    return spoken[-1] if spoken else next((text for text in texts if text), "")


def _after_last_assertion(texts: Sequence[str], end: int) -> int:
    for index in range(end - 1, -1, -1):
        if _ASSERT.match(texts[index]):
            return index + 1
    return 0


def _reason(texts: Sequence[str]) -> str:
    """What the verifier or libbpf complained of in these lines, or ""."""
    got = next((text for text in texts if _VERIFIER_GOT.match(text)), "")
    complaint = got or _verifier_complaint(texts) or _unfenced_complaint(texts)
    if complaint:
        return complaint
    errors = [text for text in texts if _LIBBPF_ERROR.match(text)]
    first_hand = [text for text in errors if not _LIBBPF_ECHO.match(text)]
    return (first_hand or errors or [""])[0]


def _verifier_complaint(texts: Sequence[str]) -> str:
    """The last line of the first fenced verifier log that is neither trace nor statistics."""
    complaint, is_inside = "", False
    for text in texts:
        if _FENCE_BEGIN.match(text):
            is_inside, complaint = True, ""
        elif _FENCE_END.match(text):
            if complaint:
                return complaint
            is_inside = False
        elif is_inside and not _VERIFIER_NOISE.match(text):
            complaint = text.removeprefix("libbpf:").strip()
    return complaint


def _unfenced_complaint(texts: Sequence[str]) -> str:
    """The last telling line of the verifier's log below "Failed to load prog", or ""."""
    begin = next((index for index, text in enumerate(texts) if _LOAD_FAILED.match(text)), None)
    if begin is None:
        return ""
    complaint = texts[begin]
    for text in texts[begin + 1 :]:
        if text.startswith("processed "):
            return complaint
        if not _VERIFIER_NOISE.match(text):
            complaint = text
    return texts[begin]
