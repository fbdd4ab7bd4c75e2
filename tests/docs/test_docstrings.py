"""The examples in docstrings are true."""

import doctest
import importlib
from pathlib import Path

import pytest

import holdfast

SOURCE = Path(holdfast.__file__).parent


def modules_with_examples() -> list[str]:
    found = [path for path in SOURCE.rglob("*.py") if ">>> " in path.read_text()]
    return sorted(".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in found)


@pytest.mark.parametrize("name", modules_with_examples())
def test_docstring_examples_give_what_they_show(name: str) -> None:
    module = importlib.import_module(name.removesuffix(".__init__"))
    failed, tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert failed == 0
    assert tried > 0
