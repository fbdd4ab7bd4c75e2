"""The user's functions: how they want to be called, and in which colour.

A wrong colour loses effects and tells nobody: a coroutine that nobody awaits never runs, and a plain function writes
nothing with a `tx.execute(...)` that it cannot await, while its answer is stored as if it had. What certainly is of the
wrong colour is refused before anything runs; what only shows in the result, before anything is committed.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from holdfast.errors import ConfigurationError

__all__ = ["in_colour", "takes_transaction"]


def takes_transaction(process: Callable[..., Any]) -> bool:
    """Return whether `process` takes one argument, the transaction, rather than none.

    A decorator that hands on whatever it is given (`*args`) takes what the function under it takes.

    Raises:
        ConfigurationError: it is no function, or needs more.
    """
    _check_callable("process", process)
    needed = _needed_arguments(process)
    if needed > 1:
        raise ConfigurationError(f"process needs {needed} arguments: it may take none, or one, the transaction")
    return needed == 1


def in_colour(name: str, function: Callable[..., Any], *, is_async: bool, writes: bool) -> Callable[..., Any]:
    """Return `function`, which will raise when what it returns is of the wrong colour.

    Args:
        name: what messages call it.
        function: the user's.
        is_async: db is an asyncio client.
        writes: it is given the transaction. Without, a plain function has nothing to await on an asyncio client.

    Raises:
        ConfigurationError: it certainly is of the wrong colour.
    """
    _check_callable(name, function)
    if is_async and not writes:
        return function
    if _is_plain(function) if is_async else _is_async(function):
        raise _wrong_colour(name, "is", is_async=is_async)

    def checked(*args: object) -> Any:
        result = function(*args)
        if isinstance(result, Awaitable) is not is_async:
            if inspect.iscoroutine(result):
                result.close()  # else Python warns that it was never awaited
            raise _wrong_colour(name, "behaves like", is_async=is_async)
        return result

    return checked


def _is_async(function: Callable[..., Any]) -> bool:
    # An object may have an `async def __call__`.
    test = inspect.iscoroutinefunction
    return test(function) or test(getattr(function, "__call__", None))  # noqa: B004 - not a test for callability


def _is_plain(function: Callable[..., Any]) -> bool:
    # An object, a lambda or a decorated function may still return an awaitable.
    function = getattr(function, "__func__", function)
    may_await = inspect.iscoroutinefunction(function) or hasattr(function, "__wrapped__")
    return inspect.isfunction(function) and function.__name__ != "<lambda>" and not may_await


def _wrong_colour(name: str, verb: str, *, is_async: bool) -> ConfigurationError:
    if is_async:
        message = f"{name} {verb} a plain `def`, which cannot await what it writes through tx: make it an `async def`"
    else:
        message = (
            f"{name} {verb} an `async def`, but db is a blocking client: make it a `def` or give an asyncio client"
        )
    return ConfigurationError(message, parameter=name)


def _check_callable(name: str, function: object) -> None:
    if not callable(function):
        raise ConfigurationError(f"{name}={function!r} is not legal: give a function", parameter=name)


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
