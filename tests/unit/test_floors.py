"""Imports go down the floors of the house, never up, and nobody pays for an extra that is not used.

    4  cli lint console demo        tools
    3  web telemetry testing        the outside world
    2  locks resilience ...         the patterns; none knows another, unless NEIGHBOURS says why
    1  backends                     connections
    0  errors, operations, ...      the modules that lie directly in the package

`holdfast/__init__.py` stands outside: it hands on names from everywhere, lazily. Only the tools take them from there.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "holdfast"

FLOORS = {
    "backends": 1,
    **dict.fromkeys(("locks", "resilience", "idempotency", "ratelimit", "edge", "events"), 2),
    **dict.fromkeys(("web", "telemetry", "testing"), 3),
    **dict.fromkeys(("cli", "lint", "console", "demo", "__main__"), 4),
}

NEIGHBOURS: dict[tuple[str, str], str] = {}
"""Which pattern package may import which other one: (importer, imported) -> reason."""

EXTRAS: dict[str, set[str]] = {
    "holdfast.demo": {"fastapi", "httpx", "pydantic", "starlette", "uvicorn"},
    "holdfast.web.fastapi": {"fastapi", "starlette"},
}
"""Modules (with all below them) that exist for an extra, and the packages of it that they may import when imported."""


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module: by whom, where, and whether it happens as soon as the importer is imported."""

    importer: str
    line: int
    imported: str
    at_once: bool

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}: imports {self.imported}"


# -- Reading imports -------------------------------------------------------------------------------------------------


def name_of(path: Path, source: Path = SOURCE) -> str:
    parts = ("holdfast", *path.relative_to(source).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(source: Path = SOURCE) -> dict[str, Path]:
    return {name_of(path, source): path for path in sorted(source.rglob("*.py"))}


def imports_of(module: str, path: Path) -> Iterator[Import]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    yield from _below(ast.parse(path.read_text(), str(path)), module, package, at_once=True)


def _below(parent: ast.AST, module: str, package: str, *, at_once: bool) -> Iterator[Import]:
    for node in ast.iter_child_nodes(parent):
        for imported in _imported(node, package):
            yield Import(module, node.lineno, imported, at_once)  # type: ignore[attr-defined]
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            for child in node.body:
                yield from _below(ast.Module([child], []), module, package, at_once=False)
            yield from _below(ast.Module(node.orelse, []), module, package, at_once=at_once)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _below(node, module, package, at_once=at_once and not inside)


def _imported(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, *filter(None, [base])])
    # `from holdfast import locks` names a module; in `from holdfast.locks import Lock` the floor is known without it.
    return [f"{base}.{alias.name}" for alias in node.names] if base == "holdfast" else [base]


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


# -- The rules -------------------------------------------------------------------------------------------------------


def part_of(module: str) -> str:
    """Return the folder (or floor 0 module) of the house that a module lies in; "" is the package itself."""
    return [*module.split("."), ""][1]


def floor_of(module: str) -> int:
    part = part_of(module)
    if part in FLOORS:
        return FLOORS[part]
    # A name taken from the package itself (`from holdfast import RedisLock`) may come from any floor: for tools only.
    return 0 if (SOURCE / f"{part}.py").exists() else 4


def breaks_the_order(found: Import) -> bool:
    """Tell whether an import goes up, or from one pattern package to another that it may not know."""
    if found.importer == "holdfast" or found.imported.split(".")[0] != "holdfast":
        return False
    here, there = part_of(found.importer), part_of(found.imported)
    if floor_of(found.imported) > floor_of(found.importer):
        return True
    return (
        floor_of(found.imported) == 2 == floor_of(found.importer) and here != there and (here, there) not in NEIGHBOURS
    )


def needs_an_extra(found: Import) -> bool:
    """Tell whether an import makes everybody who imports the module install a package."""
    package = found.imported.split(".")[0]
    if not found.at_once or package == "holdfast" or package in sys.stdlib_module_names:
        return False
    return not any(
        package in allowed and f"{found.importer}.".startswith(f"{module}.") for module, allowed in EXTRAS.items()
    )


# -- The house -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", modules())
def test_imports_go_down(module: str) -> None:
    wrong = [str(found) for found in imports_of(module, modules()[module]) if breaks_the_order(found)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", modules())
def test_importing_a_module_needs_no_extra(module: str) -> None:
    wrong = [str(found) for found in imports_of(module, modules()[module]) if needs_an_extra(found)]
    assert not wrong, "\n".join(wrong)


def test_every_folder_has_its_floor() -> None:
    folders = {path.parent.relative_to(SOURCE).parts[0] for path in SOURCE.glob("*/**/*.py")}
    assert folders <= set(FLOORS)


LIST_FOREIGN_MODULES = """
import sys
before = set(sys.modules)
import {module}
loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(loaded - set(sys.stdlib_module_names) - {{"holdfast"}}))
"""


@pytest.mark.parametrize("module", ["holdfast", "holdfast.backends", "holdfast.testing.services"])
def test_a_fresh_interpreter_imports_nothing_foreign(module: str) -> None:
    program = LIST_FOREIGN_MODULES.format(module=module)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_importing_holdfast_leaves_the_slow_standard_modules_alone() -> None:
    """`sqlite3` and `argparse` are for those who use that backend or the command line."""
    program = "import sys, holdfast; print(*sorted({'sqlite3', 'argparse', 'ssl', 'http'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# -- The checker catches what is planted -----------------------------------------------------------------------------


def planted(folder: Path, module: str, text: str) -> list[Import]:
    path = folder / "/".join(module.split(".")[1:])
    path = path.with_suffix(".py") if path.suffix == "" else path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return list(imports_of(module, path))


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("holdfast.errors", "import holdfast.backends"),
        ("holdfast.errors", "from holdfast import locks"),
        ("holdfast.clock", "from . import backends"),
        ("holdfast.clock", "from holdfast import RedisLock"),
        ("holdfast.locks.lock", "import holdfast"),
        ("holdfast.backends.redis", "from ..locks import lock"),
        ("holdfast.backends.redis", "from holdfast.ratelimit.token_bucket import TokenBucketLimiter"),
        ("holdfast.locks.lock", "def late():\n    from holdfast.web import asgi"),
        ("holdfast.locks.lock", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import holdfast.cli"),
        ("holdfast.locks.lock", "from holdfast.ratelimit import TokenBucketLimiter"),
        ("holdfast.testing.faults", "try:\n    from holdfast.demo import orders\nexcept ImportError:\n    pass"),
    ],
)
def test_an_import_that_goes_up_or_sideways_is_caught(tmp_path: Path, module: str, text: str) -> None:
    assert any(map(breaks_the_order, planted(tmp_path, module, text)))


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("holdfast.backends.redis", "from holdfast.errors import BackendUnavailable"),
        ("holdfast.backends.redis", "from .. import errors, operations"),
        ("holdfast.locks.lock", "from . import lease\nfrom .lease import Lease\nimport holdfast.locks.redis"),
        ("holdfast.demo.worker", "from holdfast.web import asgi\nfrom holdfast.cli import main"),
        ("holdfast.demo.worker", "from holdfast import RedisLock"),
        ("holdfast.errors", "import redis.asyncio\nimport json"),
    ],
)
def test_an_import_that_goes_down_or_stays_is_not(tmp_path: Path, module: str, text: str) -> None:
    assert not any(map(breaks_the_order, planted(tmp_path, module, text)))


@pytest.mark.parametrize(
    ("module", "text", "caught"),
    [
        ("holdfast.locks.redis", "import redis", True),
        ("holdfast.locks.redis", "from redis.asyncio import Redis", True),
        ("holdfast.locks.redis", "class Late:\n    import redis", True),
        ("holdfast.locks.redis", "try:\n    import redis\nexcept ImportError:\n    redis = None", True),
        ("holdfast.web.fastapi", "import redis", True),
        ("holdfast.web.fastapi_more", "import fastapi", True),
        ("holdfast.web.fastapi", "import fastapi.routing", False),
        ("holdfast.demo.worker", "import uvicorn", False),
        ("holdfast.locks.redis", "def late():\n    import redis", False),
        ("holdfast.locks.redis", "import typing\nif typing.TYPE_CHECKING:\n    import redis", False),
        ("holdfast.locks.redis", "if TYPE_CHECKING:\n    import redis\nelse:\n    import psycopg", True),
        ("holdfast.locks.redis", "import sqlite3, asyncio", False),
    ],
)
def test_an_import_that_needs_an_extra_is_caught(tmp_path: Path, module: str, text: str, *, caught: bool) -> None:
    assert any(map(needs_an_extra, planted(tmp_path, module, text))) is caught
