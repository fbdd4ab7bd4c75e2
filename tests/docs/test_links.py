"""Every relative link of the documentation leads to a file, and to a heading where it names one."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCED = re.compile(r"^(```|<!--).*?^(```|-->)\s*?$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)


def prose(page: Path) -> str:
    """The text of a page without its blocks of code."""
    return FENCED.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as renderers make them."""
    words = (re.sub(r"[^\w\- ]", "", match["text"].lower()) for match in HEADING.finditer(prose(page)))
    return {text.replace(" ", "-") for text in words}


def broken_links(page: Path) -> Iterator[str]:
    """The relative links of a page that lead nowhere."""
    for match in LINK.finditer(prose(page)):
        path, _, anchor = match["target"].partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield match["target"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    assert not list(broken_links(page))


def test_every_page_is_on_the_front_page() -> None:
    """Who starts at docs/README.md finds every page, under a line that says what it is for."""
    front = ROOT / "docs" / "README.md"
    linked = {(front.parent / match["target"]).resolve() for match in LINK.finditer(prose(front))}
    assert {page for page in PAGES if page.is_relative_to(front.parent)} - {front} <= linked
