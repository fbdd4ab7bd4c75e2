"""The page about the demo shows the demo's own patterns, effects and lines."""

import inspect
import re

from holdfast.demo import audit
from holdfast.demo.settings import PATTERNS
from tests.docs.tables import ROOT, rows

PAGE = "docs/how-to/demo.md"
LINES = dict(re.findall(r'(?:Line|books\.line)\(\s*"([^"]+)",\s*"(\w+)"', inspect.getsource(audit)))
"""Title of a line of the audit -> the pattern that keeps it green."""


def test_every_pattern_is_shown_with_its_effect() -> None:
    assert {name: effect for name, effect, *_ in rows(PAGE, "--without")} == PATTERNS


def test_each_pattern_reddens_the_line_that_the_page_names() -> None:
    for name, _, line, *_ in rows(PAGE, "--without"):
        assert [pattern for title, pattern in LINES.items() if line in title] == [name]


def test_the_audit_shown_has_the_lines_of_the_real_one() -> None:
    shown = re.findall(r"^  ok    (.+?) +\[(\w+)\]", (ROOT / PAGE).read_text(), re.MULTILINE)
    assert shown == list(LINES.items())
