"""Run the Python blocks of README.md and docs/, as readers would.

- All blocks of a page share one namespace and one event loop, in order; `await` works at the top level.
- Code that would only distract goes into a comment that renders as nothing:

      <!-- invisible-code-block: python
      order_id = 123
      -->

- A block that cannot run says why: `<!-- holdfast: skip "needs a Kafka cluster" -->` on the line before it. It is
  counted, and reported with its reason.
- The names in `PROVIDED` exist when a page uses them; the page may as well define them itself.
"""

import ast
import asyncio
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
import redis
import redis.asyncio
from sybil import Example

import holdfast
from tests import services
from tests.conftest import started

SKIP = re.compile(r'<!--\s*holdfast:\s*skip\s+"(?P<reason>[^"]+)"\s*-->\s*\Z')
PAGE = "__page__"


@dataclass(slots=True)
class Page:
    """What one page needs while its blocks run."""

    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    closing: ExitStack = field(default_factory=ExitStack)

    def close(self) -> None:
        """Close what was provided, in its own loop, then the loop."""
        with self.runner:
            self.closing.close()


def _redis_client(page: Page) -> object:
    client = redis.asyncio.Redis.from_url(started(services.empty_redis_url))
    page.closing.callback(lambda: page.runner.run(client.aclose()))
    return client


def _sync_redis_client(page: Page) -> object:
    return page.closing.enter_context(redis.Redis.from_url(started(services.empty_redis_url)))


def _db(page: Page) -> object:
    folder = Path(tempfile.mkdtemp(prefix="holdfast-docs-"))
    page.closing.callback(shutil.rmtree, folder, ignore_errors=True)
    backend = holdfast.connect_async(f"sqlite:///{folder}/docs.db")
    page.closing.callback(lambda: page.runner.run(backend.aclose()))
    return backend


PROVIDED: dict[str, Callable[[Page], object]] = {
    "redis_client": _redis_client,
    "sync_redis_client": _sync_redis_client,
    "db": _db,
}
"""Names that pages use without defining them; made when a block first mentions one."""


def evaluate(example: Example) -> None:
    """Run one block."""
    before = example.document.text[: example.start]
    if reason := SKIP.search(before):
        pytest.skip(reason["reason"])
    namespace = example.namespace
    page = namespace.setdefault(PAGE, Page())
    code = _compile(example)
    for name in _names(code) & PROVIDED.keys() - namespace.keys():
        namespace[name] = PROVIDED[name](page)
    page.runner.run(_run(code, namespace))


def close(namespace: dict[str, Any]) -> None:
    """Tear a page down."""
    if (page := namespace.pop(PAGE, None)) is not None:
        page.close()


async def _run(code: CodeType, namespace: dict[str, Any]) -> None:
    """Run a block inside the loop, so that code without `await` may create tasks and clients, too."""
    result = eval(code, namespace)
    if asyncio.iscoroutine(result):
        await result


def _compile(example: Example) -> CodeType:
    # Empty lines in front make tracebacks name the line of the page.
    source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
    return compile(source, example.path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def _names(code: CodeType) -> set[str]:
    inner = (part for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*map(_names, inner))
