"""Options asked for, options granted, and why not."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.kernel.kconfig import (
    NotGranted,
    Wish,
    config_text,
    merged,
    parse_wishes,
    unmet,
    values_of,
)
from harness.kernel.kconfig_expr import (
    Macro,
    hindrances,
    parse_expression,
    text_of,
    value_of,
)
from harness.kernel.kconfig_tree import Options, explain, read_options

_TREE = {
    "Kconfig": """\
mainmenu "Linux/$(ARCH)"
cc-has-thing := $(success,$(CC) -mthing)
source "arch/$(SRCARCH)/Kconfig"
source "fs/Kconfig"
""",
    "arch/x86/Kconfig": """\
config X86
\tdef_bool y
\tselect HAVE_TRACER
config HAVE_TRACER
\tbool
config ONLY_ARM
\tbool "not here"
\tdepends on ARM64
\thelp
\t  config NOT_AN_OPTION
\t  depends on nothing, this is help

\t  more help after an empty line
config PLAIN
\tbool "plain"
""",
    "fs/Kconfig": """\
menu "File systems"
\tdepends on BLOCK
config BTRFS_FS
\ttristate "Btrfs" # a comment
\tdepends on CRC && \\
\t\t(ZLIB || LZO)
\tselect RAID6
if EXPERT
config BTRFS_TESTS
\tbool "tests"
\tdepends on BTRFS_FS=y
endif
endmenu
config RAID6
\ttristate
config ONLY_MODULE
\ttristate "a test"
\tdepends on m
config MAYBE
\tbool "maybe"
\tdepends on $(cc-option,-mfoo)
config HIDDEN_PROMPT
\tbool "asked of experts" if EXPERT
\tdefault y
choice
\tprompt "one of them"
config ONE
\tbool "one"
config TWO
\tbool "two"
endchoice
config BOTH_WAYS
\tbool "first"
\tdepends on NOSUCH
config BOTH_WAYS
\tbool "second"
\tdepends on CRC
config BOOL_ONLY
\tbool "no module"
""",
}


def _options() -> Options:
    return read_options(_TREE.get, {"SRCARCH": "x86"})


def _why(name: str, value: str, **config: str) -> NotGranted:
    (told,) = explain({name: Wish(value=value, origin="t")}, config, _options())
    return told


def test_the_last_line_on_an_option_counts_and_unset_is_a_wish() -> None:
    text = 'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_A=m\nCONFIG_S="x # y"\n# CONFIG_C=y\n'
    wishes = parse_wishes(text, "f")
    assert {name: wish.value for name, wish in wishes.items()} == {
        "A": "m",
        "B": "n",
        "S": '"x # y"',
    }


def test_a_later_list_overrides_an_earlier_one_and_is_named() -> None:
    both = merged([parse_wishes("CONFIG_A=y\n", "base"), parse_wishes("CONFIG_A=m\n", "bpf")])
    assert both["A"] == Wish(value="m", origin="bpf")


_VALUES = st.sampled_from(["y", "m", "n", "12", "0x10", '"a b"', '""'])
_NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True)


@given(st.dictionaries(_NAMES, _VALUES))
def test_what_is_written_is_read_back(values: Mapping[str, str]) -> None:
    wishes = {name: Wish(value=value, origin="f") for name, value in values.items()}
    assert parse_wishes(config_text(wishes), "f") == wishes


def test_built_in_is_good_enough_for_a_module_and_not_the_other_way_round() -> None:
    wishes = parse_wishes("CONFIG_A=m\nCONFIG_B=y\nCONFIG_C=y\n# CONFIG_D is not set\n", "f")
    config = values_of("CONFIG_A=y\nCONFIG_B=m\nCONFIG_D=y\n")
    assert list(unmet(wishes, config)) == ["B", "C", "D"]


def test_an_empty_text_is_granted_where_the_option_does_not_exist() -> None:
    assert unmet(parse_wishes('CONFIG_KEYS=""\n', "f"), {}) == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A && B", 1),
        ("A || C", 2),
        ("!C", 2),
        ("!B", 1),
        ("A && (C || !C)", 2),
        ("A=y && B!=y", 2),
        ("N >= 8 && N < 0x20", 2),
        ('S = "text"', 2),
        ("y", 2),
        ("m && A", 1),
        ("ABSENT", 0),
        ('ABSENT != ""', 0),
        ("A && $(success,test -n \"$(X)\" && (true))", None),
        ("C && $(cc-option,-mx)", 0),
        ("A || $(cc-option,-mx)", 2),
        ("A &&", None),
        ("A B", None),
        ("", None),
    ],
)  # fmt: skip
def test_expressions_have_kconfigs_three_values_or_are_unknown(
    text: str, value: int | None
) -> None:
    config = {"A": "y", "B": "m", "N": "16", "S": '"text"'}
    assert value_of(parse_expression(text), config) == value


@given(st.text(alphabet='AB()!&|=<> "$ym', max_size=30))
def test_no_text_breaks_the_expression_reader(text: str) -> None:
    expression = parse_expression(text)
    value_of(expression, {"A": "y"})
    hindrances(expression, {"A": "y"})
    assert isinstance(text_of(expression), str)


def test_a_macro_is_unknown_and_never_guessed() -> None:
    assert parse_expression("$(cc-option,-mfoo)") == Macro("$(cc-option,-mfoo)")


def test_the_unmet_dependency_is_named_with_its_value() -> None:
    assert _why("ONLY_ARM", "y", X86="y").reason == "needs ARM64 (is n)"


def test_dependencies_of_the_menu_and_continued_lines_count() -> None:
    reason = _why("BTRFS_FS", "m", CRC="y").reason
    assert reason == "needs BLOCK (is n) && (ZLIB || LZO) [LZO=n, ZLIB=n]"


def test_an_if_block_and_a_comparison_count() -> None:
    reason = _why("BTRFS_TESTS", "y", BLOCK="y", BTRFS_FS="m").reason
    assert reason == "needs EXPERT (is n) && (BTRFS_FS=y) [BTRFS_FS=m]"


def test_a_module_dependency_keeps_an_option_from_being_built_in() -> None:
    assert _why("BTRFS_FS", "y", BLOCK="y", CRC="m", LZO="y").reason == "needs CRC (is m)"
    assert _why("ONLY_MODULE", "y").reason == "needs to be a module"


def test_help_texts_define_no_options() -> None:
    options = _options()
    assert "NOT_AN_OPTION" not in options.definitions
    assert {"PLAIN", "BTRFS_FS"} <= options.definitions.keys()


@pytest.mark.parametrize(
    ("name", "value", "config", "reason"),
    [
        ("NO_SUCH", "y", {}, "the tree has no such option"),
        ("RAID6", "y", {}, "not for choosing: BTRFS_FS would select it"),
        ("RAID6", "n", {"BTRFS_FS": "m", "RAID6": "m"}, "selected by BTRFS_FS"),
        ("MAYBE", "y", {}, "needs $(cc-option,-mfoo) (not known here)"),
        ("HIDDEN_PROMPT", "n", {"HIDDEN_PROMPT": "y"}, "its default counts: nobody can be asked"),
        ("ONE", "y", {"TWO": "y"}, "another member of its choice was chosen"),
        ("BOTH_WAYS", "y", {}, "needs NOSUCH (is n)"),
        ("BOOL_ONLY", "m", {}, "it cannot be a module"),
        ("PLAIN", "y", {}, "not known: its dependencies are met, and it is n"),
    ],
)
def test_each_way_of_not_being_granted_is_told(
    name: str, value: str, config: dict[str, str], reason: str
) -> None:
    assert _why(name, value, **config).reason.startswith(reason)


def test_a_file_that_sources_itself_ends() -> None:
    tree = {"Kconfig": 'source "Kconfig"\nconfig A\n\tbool "a"\n'}
    assert list(read_options(tree.get, {}).definitions) == ["A"]


@given(st.text(alphabet='config \n\tdepends on ifendmenu"#\\', max_size=80))
def test_no_text_breaks_the_kconfig_reader(text: str) -> None:
    read_options({"Kconfig": text}.get, {})
