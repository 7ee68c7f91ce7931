"""Every format against its golden file; `UPDATE_GOLDEN=1 pytest` rewrites them for review."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.model.arch import Arch
from harness.report.content import Report
from harness.report.html import html_text
from harness.report.junit import junit_text
from harness.report.kcidb import kcidb_text
from harness.report.ktap import ktap_text
from harness.report.markdown import markdown_text
from harness.report.terminal import report_text
from tests.unit.report_fixtures import REPORTS, mixed_record

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "report"
RECORD = mixed_record(Arch.AARCH64)
FORMATS: dict[str, Callable[[Report], str]] = {
    "80.txt": report_text,
    "140.txt": lambda report: report_text(report, width=140),
    "md": markdown_text,
    "html": lambda report: html_text(report, (RECORD,)),
    "junit.xml": lambda report: junit_text(report, (RECORD,)),
}


def check(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path} differs; UPDATE_GOLDEN=1 rewrites it"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", REPORTS)
def test_report_is_as_in_the_golden_file(name: str, form: str) -> None:
    check(f"{name}.{form}", FORMATS[form](REPORTS[name]()))


def test_ktap_is_as_in_the_golden_file() -> None:
    check("record.ktap", ktap_text(RECORD))


def test_kcidb_is_as_in_the_golden_file() -> None:
    check("record.kcidb.json", kcidb_text((RECORD,), origin="hyperscale", tree="centos"))
