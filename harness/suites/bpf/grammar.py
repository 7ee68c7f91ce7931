"""The lines of test_progs: one grammar that holds for all its dialects."""

import re

# `#5       atomics:OK`, `#120     tailcalls:OK (SKIP: 2/25)`
TEST = re.compile(
    r"#(?P<number>\d+)(?P<pad> +)(?P<name>\w+):(?P<word>OK(?: \(SKIP: \d+/\d+\))?|FAIL|SKIP)$",
    re.ASCII,
)
# `#402/1   tcp_hdr_options/simple_estab:FAIL`, in dialect A `#5/3 and:OK`. The name may hold
# anything, `:` and `/` too; the sub-number is cut to what fits into 7 characters until 6.8.
SUBTEST = re.compile(
    r"#(?P<number>\d+)/\d* +(?P<name>\S.*):(?P<word>OK|FAIL|SKIP)$",
    re.ASCII,
)
# `Summary: 1/7 PASSED, 0 SKIPPED, 0 FAILED`; since 2026 `… 2 SKIPPED (1 not built), 0/3 FAILED`
SUMMARY = re.compile(
    r"Summary: (?P<tests>\d+)/(?P<subtests>\d+) PASSED, (?P<skipped>\d+) SKIPPED"
    r"(?: \(\d+ not built\))?, (?P<failed>\d+)(?:/(?P<sub_failed>\d+))? FAILED$",
    re.ASCII,
)
# The beginning of a test's result line, whatever became of the rest.
TEST_BEGINNING = re.compile(r"#(?P<number>\d+) +(?P<name>\w+):(?! )", re.ASCII)
REPEATED_LOGS = "All error logs:"
# `Caught signal #11!`, from a worker `[3]: Caught signal #11!`; text without newline may precede it
CRASH = re.compile(r"Caught signal #\d+!$", re.ASCII)
# `WATCHDOG: test case tailcalls executes for 120 seconds, terminating with SIGSEGV`
WATCHDOG = re.compile(r"WATCHDOG: test case .+ executes for \d+ seconds, terminating")
# `test_send_signal_nmi:SKIP:no PERF_COUNT_HW_CPU_CYCLES`
SKIP_MARK = re.compile(r"\b\w+:SKIP:|Can't test with flow dissector attached", re.ASCII)
# `serial_test_cgroup_link:PASS:skel_open_load 0 nsec`
PASS_MARK = re.compile(r"\w+:PASS:", re.ASCII)
# Only -v prints these, and before anything else.
VERBOSE_MARK = re.compile(r"Loading bpf_testmod\.ko|bpf_testmod\.ko is already unloaded")
NOTICE = re.compile(
    r"WARNING! Selftests relying on bpf_testmod\.ko|(?:Can't find|Failed to load) bpf_testmod\.ko"
)


def may_be_result(text: str) -> bool:
    """A cheap look that spares most lines the regular expressions."""
    return "#" in text and text.endswith(("OK", "FAIL", "SKIP", ")"))
