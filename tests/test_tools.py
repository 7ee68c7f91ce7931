"""Linters are tests: one command, `pytest`, says whether the tree is in order.

A tool that is not there is skipped on a laptop and a failure where CI is set.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
MODULE_LINES = 400
TEST_LINES = 600  # of tests and fakes: a room's promises stand together
FUNCTION_LINES = 60
CODE_FOLDERS = ("harness", "selftests", "setup", "tests")


def tool(name: str) -> str:
    """Return the path of a program of this environment, or skip (fail in CI)."""
    path = Path(sys.executable).parent / name
    if path.exists():
        return str(path)
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not installed in {path.parent}")
    pytest.skip(f"{name} is not installed in {path.parent}")


def assert_quiet(*argv: str) -> None:
    """Run a checker from the top folder; its complaints become the failure's text."""
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(argv)}\n{done.stdout}{done.stderr}", pytrace=False)


def python_files() -> Iterator[Path]:
    for folder in CODE_FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "corpus" not in path.parts and "__pycache__" not in path.parts:
                yield path


def shell_scripts() -> list[str]:
    named = [path for path in (ROOT / "selftests" / "guest").glob("*") if path.is_file()]
    found = [*named, ROOT / ".ci" / "run", *(ROOT / "setup").glob("*.sh")]
    return [str(path) for path in sorted(found) if path.read_bytes().startswith(b"#!")]


def test_ruff_finds_nothing() -> None:
    assert_quiet(tool("ruff"), "check", "--quiet", ".")


def test_every_file_has_ruffs_format() -> None:
    assert_quiet(tool("ruff"), "format", "--check", "--quiet", ".")


def test_types_hold_under_mypy_strict() -> None:
    assert_quiet(tool("mypy"))


def test_rooms_import_downwards_and_libraries_have_one_door() -> None:
    assert_quiet(tool("lint-imports"), "--no-cache")


def test_shell_scripts_pass_shellcheck() -> None:
    scripts = shell_scripts()
    assert scripts, "no shell script was found: the check looks in the wrong place"
    assert_quiet(tool("shellcheck"), *scripts)


def test_modules_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    too_long = [
        f"{path}: {n} lines"
        for path, n in lengths.items()
        if n > (TEST_LINES if path.is_relative_to(ROOT / "tests") else MODULE_LINES)
    ]
    assert not too_long, "\n".join(too_long)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            yield f"{path}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def test_functions_are_short() -> None:
    too_long = [
        f"{name}: {lines} lines"
        for path in python_files()
        for name, lines in functions(path)
        if lines > FUNCTION_LINES
    ]
    assert not too_long, "\n".join(too_long)


_HELP = """
import sys
from harness.cli import main
sys.argv = ["harness", "--help"]
try:
    main()
except SystemExit:
    pass
heavy = {"rich", "msgspec", "pytest", "jinja2", "pexpect", "elftools", "qemu", "zstandard"}
sys.stderr.write(" ".join(sorted(heavy & set(sys.modules))))
"""


def test_help_loads_no_library() -> None:
    argv = [sys.executable, "-c", _HELP]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
    assert done.stderr == "", f"`--help` imports {done.stderr}"


def test_lock_holds_every_package_that_pyproject_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ]+)", text, re.MULTILINE))
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} is not in requirements.lock: run `make lock`"
        assert requirement.specifier.contains(pins[name]), f"{name}=={pins[name]}: run `make lock`"


def test_every_pin_of_the_lock_has_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = re.findall(r"^[a-z0-9._-]+==(?:.|\n(?= ))*", text, re.MULTILINE)
    assert pins
    assert [pin for pin in pins if "--hash=sha256:" not in pin] == []
