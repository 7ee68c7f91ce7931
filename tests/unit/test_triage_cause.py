"""Causes: what programs print leads to the reason, and no error number is taken for one alone."""

from pathlib import Path

import pytest

from harness.host.config import data_root
from harness.model.arch import AccelKind, Arch
from harness.model.case import Outcome
from harness.model.errors import UserError
from harness.triage.cause import UNEXPLAINED, CauseContext, cause_of, load_causes
from harness.triage.signature import first_telling_line

_CORPUS = sorted((Path(__file__).parent.parent / "corpus" / "causes").glob("*.log"))
_TABLE = load_causes(data_root() / "configs" / "causes")


def _read(path: Path) -> tuple[dict[str, str], list[str]]:
    """A log with expectations above it: `#: key = value`."""
    lines = path.read_text().splitlines()
    header = [line.removeprefix("#: ").partition(" = ") for line in lines if line.startswith("#: ")]
    return {key: value for key, _, value in header}, [
        line for line in lines if not line.startswith("#: ")
    ]


@pytest.mark.parametrize("path", _CORPUS, ids=lambda path: path.stem)
def test_a_log_of_the_corpus_has_its_cause(path: Path) -> None:
    expected, lines = _read(path)
    name, _, value = expected.get("capability", "").partition(" ")
    context = CauseContext(
        arch=Arch(expected["arch"]),
        accel=AccelKind.TCG,
        outcome=Outcome(expected.get("outcome", "fail")),
        capabilities={name: value} if name else {},
    )
    assert cause_of(lines, context, _TABLE) == expected["cause"]
    if "telling" in expected:
        assert first_telling_line(lines) == expected["telling"]


def test_the_corpus_is_there() -> None:
    assert len(_CORPUS) >= 20


def test_an_empty_log_is_unexplained() -> None:
    assert cause_of((), CauseContext(), _TABLE) == UNEXPLAINED


def test_524_is_never_a_trampoline_by_the_number_alone() -> None:
    context = CauseContext(arch=Arch.AARCH64)
    for line in ("error -524", "test:FAIL:x unexpected error: -524", "returned ENOTSUPP"):
        assert cause_of([line], context, _TABLE) == "enotsupp_unclear"


def test_an_x86_symbol_is_an_aarch64_problem_only() -> None:
    line = "libbpf: prog 'x': failed to find kernel BTF type ID of '__x64_sys_bpf': -3"
    assert cause_of([line], CauseContext(arch=Arch.AARCH64), _TABLE) == "x86_symbol_in_test"
    assert cause_of([line], CauseContext(arch=Arch.X86_64), _TABLE) == "btf_id_missing"


def test_slowness_is_a_reason_under_emulation_only() -> None:
    line = "test_wq:FAIL:usleep(50) too short"
    assert cause_of([line], CauseContext(accel=AccelKind.TCG), _TABLE) == "timing"
    assert cause_of([line], CauseContext(accel=AccelKind.KVM), _TABLE) == UNEXPLAINED


def test_a_case_over_its_budget_has_a_cause_unless_its_log_says_more() -> None:
    slow = "no result within its budget of 60 s"
    context = CauseContext(outcome=Outcome.TIMEOUT)
    assert cause_of([slow], context, _TABLE) == "over_budget"
    said = "x:FAIL:attach unexpected error: -524"
    assert cause_of([said, slow], context, _TABLE) == "tramp_unsupported"
    assert cause_of([slow], CauseContext(outcome=Outcome.FAIL), _TABLE) == UNEXPLAINED


def test_each_cause_tells_what_to_do() -> None:
    for cause in _TABLE.causes:
        assert cause.title
        assert cause.hint
        assert _TABLE[cause.id] is cause


_HEAD = '[[cause]]\nid = "a"\ntitle = "t"\nculprit = "code"\nhint = "h"\n'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (_HEAD + '[[cause.match]]\nall = ["("]\n', "no regular expression"),
        (_HEAD + "match = []\n", "no text to match"),
        (_HEAD + "[[cause.match]]\nall = []\n", "no text to match"),
        (_HEAD + 'colour = "red"\n[[cause.match]]\nall = ["x"]\n', "colour"),
        (_HEAD.replace('"a"', '"A b"') + '[[cause.match]]\nall = ["x"]\n', "not an id"),
        (_HEAD.replace("code", "moon") + '[[cause.match]]\nall = ["x"]\n', "moon"),
        ((_HEAD + '[[cause.match]]\nall = ["x"]\n') * 2, "twice"),
        ("[[cause]\n", "not TOML"),
    ],
)
def test_a_wrong_table_is_the_persons_mistake(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(UserError, match=why):
        load_causes(tmp_path)
