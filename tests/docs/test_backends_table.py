"""The page about backends says which pattern runs where, as the carriers in the package do."""

import re
from pathlib import Path

import pytest

import holdfast
from holdfast import backends
from tests.docs.tables import rows

PAGE = "docs/reference/backends.md"
PACKAGE = Path(holdfast.__file__).parent
# Heading of the column -> module that carries out the requests of a pattern there.
COLUMNS = {"memory": "memory", "SQLite": "sqlite", "Redis": "redis", "PostgreSQL": "postgres"}


def with_carriers() -> dict[str, set[str]]:
    """Pattern package -> the backends that it has a carrier for."""
    found = {
        folder.name: {module for module in COLUMNS.values() if (folder / f"{module}.py").exists()}
        for folder in PACKAGE.iterdir()
        if folder.name != "backends"
    }
    return {package: modules for package, modules in found.items() if modules}


def test_the_table_lists_the_carriers() -> None:
    """A pattern that gains or loses a backend changes the page."""
    shown = {
        package: {module for module, cell in zip(COLUMNS.values(), cells, strict=True) if cell.startswith("yes")}
        for package, _, *cells in rows(PAGE, "Package")
    }
    assert {package: modules for package, modules in shown.items() if modules} == with_carriers()


def test_every_scheme_is_shown() -> None:
    shown = set(re.findall(r"`([a-z+]+)://", (PACKAGE.parents[1] / PAGE).read_text()))
    assert set(backends._SCHEMES) <= shown


@pytest.mark.parametrize("package", sorted(set(backends._PACKAGES)))
def test_every_adopted_library_is_shown(package: str) -> None:
    assert any(package in cells[0] for cells in rows(PAGE, "Client of"))
