"""What the machine-read formats promise: nothing lost, nothing twice, nothing that executes."""

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model.arch import Arch
from harness.model.case import Outcome
from harness.report.html import html_text
from harness.report.junit import junit_text
from harness.report.kcidb import kcidb_text
from harness.report.ktap import ktap_text
from harness.report.markdown import markdown_text
from tests.unit.report_fixtures import (
    HOSTILE,
    REPORTS,
    case_record,
    mixed_record,
    no_basis,
    record,
    reject,
)

RECORD = mixed_record(Arch.AARCH64)
PATH = re.compile(r"([a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*)?")


def test_junit_has_each_case_of_each_record_once() -> None:
    root = ET.fromstring(junit_text(reject(), (RECORD, mixed_record(Arch.X86_64))))
    suites = root.findall("testsuite")
    names = [(case.attrib["classname"], case.attrib["name"]) for case in root.iter("testcase")]
    assert len(names) == len(set(names))
    assert [suite.attrib["tests"] for suite in suites[:2]] == [str(len(RECORD.cases))] * 2


def test_junit_calls_what_blocks_a_failure_and_what_cannot_be_told_an_error() -> None:
    blocked = record(Arch.AARCH64, (case_record("bpf/test_progs/ringbuf", Outcome.CRASH),))
    (case,) = ET.fromstring(junit_text(reject(), (blocked,))).iter("testcase")
    assert case.find("failure") is not None
    told = record(Arch.X86_64, (case_record("bpf/test_progs/test_1", Outcome.FAIL),))
    first = next(ET.fromstring(junit_text(no_basis(), (told,))).iter("testcase"))
    assert first.find("error") is not None


def test_junit_tells_a_kernel_that_does_not_boot() -> None:
    root = ET.fromstring(junit_text(REPORTS["never_booted"](), ()))
    cases = [case for case in root.iter("testcase") if case.find("failure") is not None]
    assert "QEMU ended before the guest said hello" in cases[0].attrib["name"]


def test_junit_shows_a_failure_that_no_comparison_speaks_of() -> None:
    root = ET.fromstring(junit_text(REPORTS["accept"](), (RECORD,)))
    failed = {
        case.attrib["name"] for case in root.iter("testcase") if case.find("failure") is not None
    }
    assert {"crash", "lost", "timeout", "a_test"} <= failed


@settings(max_examples=30)
@given(st.text(max_size=300))
def test_junit_is_well_formed_for_any_text(text: str) -> None:
    hostile = record(Arch.X86_64, (case_record("bpf/test_progs/x", Outcome.FAIL, text),))
    assert len(list(ET.fromstring(junit_text(reject(), (hostile,))).iter("testcase"))) == 1


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


def _tags(text: str) -> _Tags:
    parser = _Tags()
    parser.feed(text)
    return parser


@settings(max_examples=30)
@given(st.text(max_size=200))
def test_html_holds_no_element_that_a_guest_wrote(text: str) -> None:
    hostile = record(Arch.X86_64, (case_record("bpf/test_progs/x", Outcome.FAIL, text),))
    plain = record(Arch.X86_64, (case_record("bpf/test_progs/x", Outcome.FAIL, "x"),))
    assert _tags(html_text(reject(), (hostile,))).tags == _tags(html_text(reject(), (plain,))).tags


def test_html_has_no_script_and_loads_nothing() -> None:
    text = html_text(reject(), (RECORD,))
    tags = _tags(text)
    assert not {"script", "img", "link", "iframe", "object"} & set(tags.tags)
    assert all(link.startswith("#") for link in tags.links)
    assert "default-src 'none'" in text
    assert "<script>alert" not in text


def test_html_lists_every_case_the_bad_ones_first() -> None:
    text = html_text(reject(), (RECORD,))
    rows = re.findall(r'<tr><td class="(bad|)">([^<]*)</td><td><code>([^<]*)</code>', text)
    assert len(rows) == len(RECORD.cases)
    assert [kind for kind, _, _ in rows] == sorted((kind for kind, _, _ in rows), reverse=True)


def test_markdown_leaves_no_way_out_of_a_cell() -> None:
    text = markdown_text(reject())
    (row,) = [
        line for line in text.splitlines() if line.startswith("| `bpf/test_verifier/hostile`")
    ]
    assert len(re.findall(r"(?<!\\)\|", row)) == 7
    assert "\x1b" not in text


def test_markdown_stops_at_its_limit_and_says_so() -> None:
    text = markdown_text(reject(), limit_b=700)
    assert len(text.encode()) < 1000
    assert "Cut here" in text
    assert text.startswith("# REJECT")


def test_ktap_plans_are_kept() -> None:
    open_plans: list[list[int]] = []
    for line in ktap_text(RECORD).splitlines():
        depth = (len(line) - len(line.lstrip(" "))) // 2
        body = line.strip()
        if plan := re.fullmatch(r"1\.\.(\d+)", body):
            open_plans[depth:] = [[int(plan[1]), 0]]
        elif result := re.match(r"(?:not )?ok (\d+) ", body):
            open_plans[depth][1] += 1
            assert int(result[1]) == open_plans[depth][1]
            del open_plans[depth + 1 :]
    assert open_plans[0][0] == open_plans[0][1] == 3


def test_ktap_has_no_directive_that_a_name_made() -> None:
    text = ktap_text(RECORD)
    assert "sub one: <1> _2" in text
    assert "ok 1 a_test" in text
    assert "\x1b" not in text


def test_ktap_never_says_a_bare_ok_of_a_case_that_did_not_pass() -> None:
    for outcome in set(Outcome) - {Outcome.PASS}:
        text = ktap_text(record(Arch.X86_64, (case_record("bpf/test_progs/x", outcome, "why"),)))
        (line,) = [line for line in text.splitlines() if re.match(r"  (not )?ok", line)]
        assert line.startswith("  not ok") or " # SKIP" in line


def test_kcidb_has_fit_paths_and_no_id_twice() -> None:
    value = json.loads(kcidb_text((RECORD, mixed_record(Arch.X86_64)), origin="hyperscale"))
    tests = value["tests"]
    assert len(tests) == 2 * len(RECORD.cases)
    assert len({test["id"] for test in tests}) == len(tests)
    assert len({(test["build_id"], test["path"]) for test in tests}) == len(tests)
    assert all(PATH.fullmatch(test["path"]) for test in tests)
    assert {test["build_id"] for test in tests} == {build["id"] for build in value["builds"]}


def test_kcidb_never_says_pass_of_a_case_that_did_not() -> None:
    value = json.loads(kcidb_text((RECORD,), origin="hyperscale"))
    passed = {test["misc"]["outcome"] for test in value["tests"] if test["status"] == "PASS"}
    assert passed == {"pass"}


def test_kcidb_refuses_an_origin_it_cannot_send() -> None:
    with pytest.raises(ValueError, match="not an origin"):
        kcidb_text((RECORD,), origin="Hyper-Scale")


@pytest.mark.parametrize("render", [markdown_text, html_text])
def test_every_format_is_the_same_twice(render: object) -> None:
    assert callable(render)
    assert render(reject()) == render(reject())


def test_the_fixtures_text_is_hostile() -> None:
    assert {"\x1b", "\x9b", "\u202e"} <= set(HOSTILE)
