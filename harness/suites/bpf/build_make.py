"""make's side of a build: its command line, what its makefiles know, and running it.

The makefiles of the selftests change with every release. What this harness has to know of them
(which targets there are, and what they are made of) is read from make's own database.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.host.command import run, run_lines
from harness.suites.bpf.build_errors import TargetFailure, target_failures

_NOTHING = "kh-nothing"
_RULE_CHARS = 600
"""Of a rule's line this much is read: the first prerequisites; the rest may take megabytes."""

# `LSKELS := fentry_test.c fexit_test.c`, `test_usdt.skel.h-deps := test_usdt.bpf.o …`
_VARIABLE = re.compile(r"(?P<name>[\w.-]+) :?:?= (?P<value>.*)")
# `/out/test_xdp_noinline.o: BPF_CFLAGS += -fno-inline`, behind the first colon
_OWN_VARIABLE = re.compile(r" [\w-]+ [:+?]?= ")
# `  CLNG-BPF [test_progs] bpf_cubic.bpf.o`
_STEP = re.compile(r"  (?P<step>[A-Z][A-Z-]+) +(?:\[\S+\] +)?(?P<name>\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """What make knows after it read the makefiles, for one output folder."""

    variables: Mapping[str, str]
    """As make last set them, unexpanded where make expands them late."""
    rules: Mapping[str, tuple[str, ...]]
    """The first prerequisites of each target below the output folder, by its relative name."""

    def words(self, variable: str) -> tuple[str, ...]:
        return tuple(self.variables.get(variable, "").split())

    def made_from(self, folder: str, suffix: str = "", *, below: str = "") -> dict[str, str]:
        """Targets in `below` whose first prerequisite lies in `folder`: target to source name."""
        return {
            target: first[0].removeprefix(f"{folder}/")
            for target, first in self.rules.items()
            if first
            and first[0].startswith(f"{folder}/")
            and target.endswith(suffix)
            and target.rpartition("/")[0] == below
        }

    def headers_of_skeletons(self, below: str = "") -> tuple[str, ...]:
        suffixes = (".skel.h", ".lskel.h")
        return tuple(
            target
            for target in sorted(self.rules)
            if target.endswith(suffixes) and target.rpartition("/")[0] == below
        )


def parse_database(lines: Iterable[str], out: Path) -> Database:
    """Read the output of `make -p`."""
    prefix = f"{out}/"
    variables: dict[str, str] = {}
    rules: dict[str, tuple[str, ...]] = {}
    for line in lines:
        if line.startswith(prefix):
            target, colon, rest = line[:_RULE_CHARS].partition(":")
            if not colon or rest[:1] not in (" ", "\n", "") or _OWN_VARIABLE.match(rest):
                continue
            first = [word.removeprefix(prefix) for word in rest.split(" ")[1:-1] if word != "|"]
            if len(line) <= _RULE_CHARS:
                first = [word.removeprefix(prefix) for word in rest.split() if word != "|"]
            known = rules.get(target.removeprefix(prefix), ())
            rules[target.removeprefix(prefix)] = (*known, *first)
        elif match := _VARIABLE.match(line):
            variables[match["name"]] = match["value"].rstrip("\n")
    return Database(variables=variables, rules=rules)


@dataclass(slots=True)
class Make:
    """Calls make in the copy of the selftests, always with the same variables."""

    folder: Path
    """Where the Makefile is, and where everything is made."""
    program: str
    variables: dict[str, str]
    settled: tuple[str, ...]
    """Files that make takes as they are, whatever rules it has for them."""
    environment: Mapping[str, str]
    jobs: int
    log: Path
    steps_done: set[str] = field(default_factory=set)

    def argv(self, *options: str) -> tuple[str, ...]:
        settled = tuple(f"--old-file={name}" for name in self.settled)
        variables = tuple(f"{name}={value}" for name, value in self.variables.items())
        return (
            self.program, "-C", str(self.folder), "--no-print-directory", "--output-sync=target",
            *settled, *variables, *options,
        )  # fmt: skip

    def goal(self, name: str) -> str:
        """A file of the folder, as the makefiles' rules spell it."""
        return str(self.folder / name)

    def database(self) -> Database:
        """Ask make what it knows. Raises CommandError when it cannot read the makefiles."""
        path = self.log.with_name("make-database.txt")
        path.unlink(missing_ok=True)
        goal = ("-p", "-n", f"--eval={_NOTHING}:", _NOTHING)
        run(self.argv(*goal), log=path, check=False, env=self.environment)
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                return parse_database(file, self.folder)
        finally:
            path.unlink()

    def build(
        self, goals: Sequence[str], on_step: Callable[[str], None]
    ) -> tuple[TargetFailure, ...]:
        """Make the goals, going on past failures; return the failures.

        `on_step` hears the name of each file as its turn ends.
        """
        lines: list[str] = []

        def take(line: str) -> None:
            lines.append(line)
            if (step := _STEP.match(line)) and step["name"] not in self.steps_done:
                self.steps_done.add(step["name"])
                on_step(step["name"])

        argv = self.argv("--keep-going", f"--jobs={self.jobs}", *goals)
        status = run_lines(argv, take, log=self.log, env=self.environment)
        failures = target_failures(lines, self.folder)
        if status != 0 and not failures:
            failures = (TargetFailure(target="", error=lines[-1] if lines else f"status {status}"),)
        return failures

    def commands_for(self, goal: str, source: str) -> tuple[str, ...]:
        """The shell commands that would make a goal again if that source changed."""
        argv = self.argv("-n", f"--what-if={source}", self.goal(goal))
        shown = run(argv, check=False, env=self.environment)
        return tuple(shown.stdout.splitlines())
