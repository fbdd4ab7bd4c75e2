"""The user's functions: how they want to be called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from holdfast.errors import ConfigurationError

__all__ = ["takes_transaction"]


def takes_transaction(process: Callable[..., Any]) -> bool:
    """Return whether `process` takes one argument, the transaction, rather than none.

    A decorator that hands on whatever it is given (`*args`) takes what the function under it takes.

    Raises:
        ConfigurationError: it is no function, or needs more.
    """
    if not callable(process):
        raise ConfigurationError(f"process={process!r} is not legal: give a function")
    needed = _needed_arguments(process)
    if needed > 1:
        raise ConfigurationError(f"process needs {needed} arguments: it may take none, or one, the transaction")
    return needed == 1


def _needed_arguments(function: Callable[..., Any]) -> int:
    if inspect.ismethod(function):
        return _needed_arguments(function.__func__) - 1
    code = getattr(function, "__code__", None)
    if code is None or hasattr(function, "__signature__"):
        return _needed_by_signature(function)
    # What follows knows functions only, because inspect.signature costs 20 times as much.
    wrapped = getattr(function, "__wrapped__", None)
    if wrapped is not None and code.co_flags & inspect.CO_VARARGS:
        return _needed_arguments(wrapped)
    return int(code.co_argcount) - len(getattr(function, "__defaults__", None) or ())


def _needed_by_signature(function: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have none
        return 0
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is one.empty for one in parameters)
