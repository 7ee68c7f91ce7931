"""Options of the benchmarks: how often, and over which cases."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bench", "benchmarks of the harness")
    group.addoption("--pairs", type=int, default=3, help="pairs of runs, harness and bare in turn")
    group.addoption("--bench-only", default="", help="only test_progs cases that match this")
