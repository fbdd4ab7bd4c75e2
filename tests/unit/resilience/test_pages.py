"""The tables and diagrams of the how-to pages say what the code does."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.clock import SYSTEM_CLOCK
from holdfast.resilience import bulkhead, circuit_breaker, retry, timeout
from holdfast.resilience.breaker_state import diagram

PAGES = Path(__file__).parents[3] / "docs" / "how-to"
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| .* \| .+ \|$", re.MULTILINE)


def shown(name: str, default: Any) -> str:
    """Return a default as the tables show it."""
    if default is inspect.Parameter.empty:
        return "required"
    if name == "name":
        return "the function's full name"
    if default is SYSTEM_CLOCK:
        return "`SYSTEM_CLOCK`"
    return f"`{getattr(default, '__name__', default)}`"


@pytest.mark.parametrize(
    ("page", "decorator"),
    [("circuit-breaker", circuit_breaker), ("retry", retry), ("bulkhead", bulkhead), ("timeout", timeout)],
)
def test_the_table_lists_every_parameter_with_its_default(page: str, decorator: Callable[..., Any]) -> None:
    """Names, order and defaults are those of the signature."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    table = text.partition("## Defaults")[2].partition("\n## ")[0]
    parameters = inspect.signature(decorator).parameters.values()
    assert ROW.findall(table) == [(each.name, shown(each.name, each.default)) for each in parameters]


def test_the_diagram_is_the_transition_table() -> None:
    """The page shows the diagram made from the code."""
    text = (PAGES / "circuit-breaker.md").read_text(encoding="utf-8")
    assert f"```mermaid\n{diagram()}\n```" in text
