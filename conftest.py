"""Collect the Python blocks of README.md and docs/ as tests; see tests/docs/executed.py for how they run."""

import pytest
from sybil import Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import CodeBlockParser

from tests.docs import executed

pages = Sybil(
    parsers=[CodeBlockParser(language="python", evaluator=executed.evaluate)],
    patterns=["README.md", "docs/**/*.md"],
    teardown=executed.close,
)
pytest_collect_file = pages.pytest()


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the blocks of a page together: they share a namespace, so one pytest-xdist worker must run them all."""
    for item in items:
        if isinstance(item, SybilItem):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))
