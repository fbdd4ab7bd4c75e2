"""What is declared about the package is true."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

LEFT_OUT_OF_ALL = {"codemod", "aiokafka", "apsw", "httpx2"}


def extras_in(requirement: str) -> list[str]:
    return re.split(r"\s*,\s*", requirement.partition("[")[2].partition("]")[0])


def test_the_core_requires_nothing() -> None:
    required = importlib.metadata.requires("holdfast") or []
    assert [name for name in required if "extra ==" not in name] == []


def test_all_holds_every_extra_but_the_second_choices() -> None:
    extras = PROJECT["optional-dependencies"]
    held = {extra for requirement in extras["all"] for extra in extras_in(requirement)}
    assert held == set(extras) - {"all"} - LEFT_OUT_OF_ALL


def test_type_checkers_may_read_the_package() -> None:
    assert (ROOT / "src" / "holdfast" / "py.typed").exists()
