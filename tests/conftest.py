"""Options of the harness's own tests."""

import pytest
from hypothesis import settings

# On a busy machine an example may take long; a test that is slow by itself shows anyway.
settings.register_profile("harness", deadline=None)
settings.load_profile("harness")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-corpus",
        action="store_true",
        help="rewrite the expectations in tests/corpus from what is read now, for review",
    )
