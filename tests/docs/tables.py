"""Read the tables of a page, so that tests can compare them with the code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RULE = re.compile(r"\|[\s:|-]+\|")


def rows(page: str, first_heading: str) -> list[list[str]]:
    """The cells of the table of `page` whose first heading is `first_heading`, without backticks."""
    found: list[list[str]] = []
    inside = False
    for line in (ROOT / page).read_text().splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == first_heading:
            inside = True
        elif inside and not RULE.fullmatch(line):
            found.append(cells)
    assert found, f"{page} has no table that begins with {first_heading}"
    return found
