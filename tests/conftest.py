"""Options of the harness's own tests."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-corpus",
        action="store_true",
        help="rewrite the expectations in tests/corpus from what is read now, for review",
    )
