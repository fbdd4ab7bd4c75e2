"""The tables of defaults on the pages of locks and buckets say what the code does."""

import inspect
import re
from pathlib import Path

import pytest

from holdfast.locks import Lock
from holdfast.ratelimit import TokenBucketLimiter

PAGES = Path(__file__).parents[3] / "docs" / "how-to"
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \|", re.MULTILINE)


@pytest.mark.parametrize(("page", "pattern"), [("lock", Lock), ("token-bucket", TokenBucketLimiter)])
def test_the_table_of_defaults_is_the_signature(page: str, pattern: type) -> None:
    section = (PAGES / f"{page}.md").read_text().partition("## Defaults")[2].partition("\n## ")[0]
    shown = {name: default.strip().strip('"') for name, default in ROW.findall(section)}
    options = inspect.signature(pattern).parameters.values()
    real = {
        option.name: "required" if option.default is option.empty else str(option.default)
        for option in options
        if option.kind is option.KEYWORD_ONLY
    }
    assert shown == real
