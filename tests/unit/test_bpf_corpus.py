"""Recorded and typed logs of the BPF programs, each with what must be read from it.

A file is TOML between two `+++` lines, then the log. `pytest --update-corpus` rewrites what is
expected; review the diff. A new oddity becomes a new file.
"""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.suites.bpf.dialects import Dialect
from tests.unit.bpf_samples import Reading, read_log

CORPUS = Path(__file__).parent.parent / "corpus" / "bpf"
FENCE = "+++\n"
ORIGINS = ("measured", "printf", "issue")


@dataclass(frozen=True)
class Sample:
    head: dict[str, Any]
    log: str

    def read(self) -> Reading:
        plan = [(int(number), name) for number, _, name in map(_parted, self.head["plan"])]
        rc = self.head["rc"]
        return read_log(
            self.head["program"],
            plan,
            self.log,
            None if rc == "killed" else rc,
            Dialect(self.head["dialect"]),
        )


def _parted(entry: str) -> tuple[str, str, str]:
    return entry.partition(" ")


def load(path: Path) -> Sample:
    _, head, log = path.read_text(encoding="utf-8", errors="surrogateescape").split(FENCE, 2)
    return Sample(tomllib.loads(head), log)


def expectations(reading: Reading) -> dict[str, Any]:
    return {
        "reports": [
            f"{each.outcome} {json.dumps(each.raw)} {'/'.join(each.path) or '.'}"
            + (f" | {each.detail}" if each.detail else "")
            for each in reading.reports
        ],
        "problems": reading.reader.problems,
        "notices": reading.reader.notices,
        "refused": reading.reader.refused,
    }


def rewrite(path: Path, sample: Sample, found: dict[str, Any]) -> None:
    head = {**sample.head, **found}
    lines = []
    for key, value in head.items():
        if isinstance(value, list) and value:
            items = "".join(f"    {json.dumps(item)},\n" for item in value)
            lines.append(f"{key} = [\n{items}]\n")
        else:
            lines.append(f"{key} = {json.dumps(value)}\n")
    text = FENCE + "".join(lines) + FENCE + sample.log
    path.write_text(text, encoding="utf-8", errors="surrogateescape")


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.log")), ids=lambda path: path.stem)
def test_log_reads_as_expected(path: Path, request: pytest.FixtureRequest) -> None:
    sample = load(path)
    found = expectations(sample.read())
    if request.config.getoption("--update-corpus"):
        rewrite(path, sample, found)
        return
    assert sample.head["origin"].startswith(ORIGINS)
    assert {key: sample.head[key] for key in found} == found


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.log")), ids=lambda path: path.stem)
def test_every_truncation_of_a_log_adds_no_pass(path: Path) -> None:
    sample = load(path)
    passes = {report.path for report in sample.read().reports if report.outcome == "pass"}
    lines = sample.log.splitlines(keepends=True)
    for count in range(len(lines)) if len(lines) < 200 else range(0, len(lines), 37):
        cut = Sample({**sample.head, "rc": "killed"}, "".join(lines[:count])).read()
        assert {each.path for each in cut.reports if each.outcome == "pass"} <= passes
