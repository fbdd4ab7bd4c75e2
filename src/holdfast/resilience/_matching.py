"""Turn what users write for "these exceptions" into one function that tests an exception."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError as FutureCancelledError
from typing import cast

from holdfast.errors import ConfigurationError

__all__ = ["ExceptionTest", "Exceptions", "FutureCancelledError", "exception_types", "is_cancellation", "matcher"]

ExceptionTest = Callable[[Exception], bool]
Exceptions = type[Exception] | Iterable[type[Exception]] | ExceptionTest


def matcher(parameter: str, exceptions: Exceptions) -> ExceptionTest:
    """Return a test for `exceptions`: a type, several types, or already a test.

    Raises:
        ConfigurationError: not one of these, or a type that is no `Exception`. Cancellation and
            `KeyboardInterrupt` are nobody's failure, so a policy never acts on them.
    """
    types = exception_types(parameter, exceptions)
    if types is None:
        return cast("ExceptionTest", exceptions)
    return lambda error: isinstance(error, types)


def exception_types(parameter: str, exceptions: object) -> tuple[type[Exception], ...] | None:
    """Return the types in `exceptions`, or None if it is a test (any other callable)."""
    if callable(exceptions) and not isinstance(exceptions, type):
        return None
    types = tuple(exceptions) if isinstance(exceptions, (tuple, list, set, frozenset)) else (exceptions,)
    for each in types:
        if not (isinstance(each, type) and issubclass(each, Exception)):
            raise ConfigurationError(
                f"{parameter}={exceptions!r} is not legal: give subclasses of Exception, or a function that "
                "takes an exception and returns a bool (cancellation and interrupts are never acted upon)",
                parameter=parameter,
            )
    if not types:
        raise ConfigurationError(
            f"{parameter}={exceptions!r} is not legal: give at least one type", parameter=parameter
        )
    return types


def is_cancellation(error: BaseException) -> bool:
    """Return whether `error` says that the caller gave up, which tells nothing about the dependency.

    The cancellation of asyncio and trio, `GeneratorExit`, `KeyboardInterrupt` and `SystemExit` are no
    `Exception`; only that of `concurrent.futures` is one.
    """
    return not isinstance(error, Exception) or isinstance(error, FutureCancelledError)
