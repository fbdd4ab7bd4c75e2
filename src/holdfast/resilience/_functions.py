"""What kind of function a policy was put around, and which kinds no policy can guard."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

from holdfast.errors import ConfigurationError

__all__ = ["full_name", "is_async", "refuse_coroutine", "with_parentheses"]

P = ParamSpec("P")
T = TypeVar("T")

_NAME_LENGTH = 255


def with_parentheses(decorator: Callable[P, T]) -> Callable[P, T]:
    """Have `decorator`, which takes its arguments by name, say what is wrong with `@decorator`.

    Python would only say that it "takes 0 positional arguments but 1 was given", which tells nobody who
    forgot the parentheses what to do.
    """

    @wraps(decorator)
    def hinting(*args: P.args, **kwargs: P.kwargs) -> T:
        if args and callable(args[0]):
            name = decorator.__name__
            raise ConfigurationError(f"@{name} got {full_name(args[0])}: write the parentheses, @{name}(...)")
        return decorator(*args, **kwargs)

    return hinting


def full_name(function: object) -> str:
    """Return `module.qualname` of `function`, the default name of a policy around it."""
    qualname = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', '?')}.{qualname}"[-_NAME_LENGTH:]


def is_async(decorator: str, function: object) -> bool:
    """Return whether `function` must be awaited, after refusing what `decorator` cannot guard.

    Raises:
        ConfigurationError: `function` is a generator, a class, a static or class method object, or no
            callable at all. A generator function returns before its body ran, so a policy around it
            would see nothing but successes.
    """
    if isinstance(function, (staticmethod, classmethod)):
        kind = type(function).__name__
        raise ConfigurationError(f"@{decorator} is above @{kind}: write @{kind} above @{decorator}")
    if not callable(function) or inspect.isclass(function):
        raise ConfigurationError(
            f"@{decorator} got {function!r}: give a function, and write the parentheses, @{decorator}(...)"
        )
    if _has_shape(inspect.isgeneratorfunction, function) or _has_shape(inspect.isasyncgenfunction, function):
        raise ConfigurationError(
            f"@{decorator} cannot guard the generator {full_name(function)}: it returns before its body has "
            "run, so no failure would be seen. Guard the function that fetches one item or page instead"
        )
    return _has_shape(inspect.iscoroutinefunction, function)


def refuse_coroutine(decorator: str, function: object, coroutine: Any) -> NoReturn:
    """Refuse what a function that looks sync returned: the policy ends before the coroutine runs.

    That happens around a decorator of somebody else's whose wrapper is a plain `def`. It cannot be seen when
    the policy is applied: looking through `__wrapped__` would find the same coroutine function behind a
    wrapper that runs it to its end (`asyncio.run`), and that one is sync.

    Raises:
        ConfigurationError: always.
    """
    coroutine.close()  # else Python warns that it was never awaited, which is not the point
    raise ConfigurationError(
        f"@{decorator} took {full_name(function)} for a sync function, but it returned a coroutine, which would "
        f"run unguarded. Put @{decorator} below the decorator that hides the `async def`, or make that "
        "decorator's wrapper an `async def` that awaits"
    )


def _has_shape(test: Callable[[Any], bool], function: object) -> bool:
    # An object with `async def __call__` is as async as a function. Functions have a __call__ too,
    # which is a slot wrapper and has no shape.
    return test(function) or test(getattr(function, "__call__", None))  # noqa: B004 - not a test for callability
