"""The page about errors says what errors.py says."""

import inspect
from pathlib import Path

import pytest

from holdfast import errors
from holdfast.errors import HoldfastError
from holdfast.web.problem import PROBLEM_TYPES, problem
from tests.docs.tables import rows

PAGE = "docs/reference/errors.md"
KINDS = {name: getattr(errors, name) for name in errors.__all__}
ROWS = {name: (code, int(status)) for name, code, status, *_ in rows(PAGE, "Error")}


def test_every_error_is_on_the_page() -> None:
    assert ROWS.keys() == KINDS.keys()


@pytest.mark.parametrize("name", KINDS)
def test_code_and_status_are_those_of_the_class(name: str) -> None:
    assert ROWS[name] == (KINDS[name].code, KINDS[name].status)


@pytest.mark.parametrize("name", KINDS)
def test_the_problem_type_ends_in_the_code(name: str) -> None:
    error = KINDS[name].__new__(KINDS[name])
    HoldfastError.__init__(error, "example")
    described = problem(error)
    assert described.document["type"] == PROBLEM_TYPES + ROWS[name][0]
    assert described.status == ROWS[name][1]


def test_the_tree_is_the_one_of_the_module() -> None:
    """The page repeats the tree that is drawn on top of errors.py."""
    tree = inspect.cleandoc(str(inspect.getdoc(errors)).split("\n\n")[1])
    text = (Path(__file__).parents[2] / PAGE).read_text()
    assert f"```text\n{tree}\n```" in text
    assert PROBLEM_TYPES in text
