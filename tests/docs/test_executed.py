"""The runner of the documentation's snippets runs what it should, and reports what fails."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = (Path(__file__).parents[2] / "conftest.py").read_text()


@pytest.fixture
def page(pytester: pytest.Pytester) -> Path:
    """Return the README.md of a project of its own, whose pages run as ours do."""
    pytester.makeconftest(CONFTEST)
    pytester.makeini(
        f"[pytest]\npythonpath = {Path(__file__).parents[2]}\nasyncio_mode = auto\nmarkers = xdist_group\n"
    )
    return pytester.path / "README.md"


def run(pytester: pytest.Pytester, page: Path, text: str) -> pytest.RunResult:
    page.write_text(text.replace("'''", "```"))
    return pytester.runpytest_subprocess("-ra", "-p", "no:cacheprovider", page)


def test_blocks_share_their_names_and_may_await(pytester: pytest.Pytester, page: Path) -> None:
    result = run(
        pytester,
        page,
        """
'''python
import asyncio
before = asyncio.get_running_loop()
'''
<!-- invisible-code-block: python
hidden = 2
-->
'''python
await asyncio.sleep(0)
assert asyncio.get_running_loop() is before
async def main():
    return hidden
assert await main() == 2
'''
'''console
$ not python
'''
""",
    )
    result.assert_outcomes(passed=3)


def test_a_failing_block_fails_with_its_line(pytester: pytest.Pytester, page: Path) -> None:
    result = run(pytester, page, "Text\n\n'''python\nfine = 1\nassert fine == 2\n'''\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*README.md:5: AssertionError*"])


def test_a_skipped_block_is_counted_with_its_reason(pytester: pytest.Pytester, page: Path) -> None:
    result = run(pytester, page, "<!-- holdfast: skip \"needs a broker\" -->\n\n'''python\nraise RuntimeError\n'''\n")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*needs a broker"])


def test_a_skip_reaches_no_further_than_the_next_block(pytester: pytest.Pytester, page: Path) -> None:
    skipped = "<!-- holdfast: skip \"reason\" -->\n'''python\nraise RuntimeError\n'''\n"
    run(pytester, page, skipped + "'''python\nran = True\n'''\n").assert_outcomes(skipped=1, passed=1)


def test_clients_are_there_for_the_page_that_mentions_them(pytester: pytest.Pytester, page: Path) -> None:
    result = run(
        pytester,
        page,
        """
'''python
await redis_client.set("a", 1)
def later():
    return sync_redis_client.get("a")
'''
'''python
assert later() == b"1"
assert "db" not in globals()
'''
""",
    )
    result.assert_outcomes(passed=2)


def test_a_database_is_there_for_the_page_that_mentions_it(pytester: pytest.Pytester, page: Path) -> None:
    text = """
'''python
from holdfast import Lock
async with Lock(db, "report", ttl=5) as lease:
    assert lease.token > 0
'''
"""
    run(pytester, page, text).assert_outcomes(passed=1)
