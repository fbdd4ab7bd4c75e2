"""Decide, then do: the idea the whole library stands on.

A pattern never opens a socket and never sleeps. It decides what should be done next and says so with
a *request*, an immutable value that stands for one atomic step on a backend: one Lua call, one SQL
statement, one function under the memory backend's lock. A *driver* does it (`holdfast.drivers`). So every
algorithm exists once and serves sync code, async code and the simulator, which is just another driver.

    class Limiter(Pattern[C]):
        @operation                                    # one round trip: return the request
        def acquire(self, key: str) -> Request[Decision]:
            return self._store.take(key, self.capacity, self.refill_rate)

        @operation                                    # several: a generator of requests
        def wait(self, key: str) -> Steps[Decision]:
            while not (decision := (yield from self._store.take(...))).allowed:
                yield Sleep(decision.retry_after)
            return decision

The colour of a pattern, `Sync` or `Async`, is decided by the client it was given. `@operation` makes
`limiter.acquire(key)` return a `Decision` for one and an awaitable of it for the other, and type
checkers know which.

The vocabulary is small on purpose. Here are the requests that every driver understands (`Sleep`,
`Run`, `Atomic`, `Within`); each backend module adds its own (`Call`, `Query`, `Eval`). A request carries itself
out by calling the one method of the driver that is meant for it, in `carry`.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import CodeType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from holdfast.clock import Clock

__all__ = [
    "Async",
    "Atomic",
    "Driver",
    "Pattern",
    "Request",
    "Run",
    "Sleep",
    "Steps",
    "Sync",
    "Within",
    "operation",
]

P = ParamSpec("P")
T = TypeVar("T")
_CO_GENERATOR = 0x20


class Sync:
    """The colour of a pattern whose operations block and return values. Never instantiated."""


class Async:
    """The colour of a pattern whose operations return awaitables. Never instantiated."""


C = TypeVar("C", Sync, Async)


class Request(Generic[T]):
    """One step that a driver carries out, and whose reply has type `T`.

    `reply = yield from request` sends it to the driver and gives type checkers the reply's type.
    """

    __slots__ = ()

    def carry(self, driver: Any) -> Any:
        """Have `driver` carry this request out: the reply, or an awaitable of it."""
        raise NotImplementedError

    def __iter__(self) -> Generator[Request[Any], Any, T]:
        return cast("T", (yield self))


Steps = Generator[Request[Any], Any, T]


class Sleep(Request[None]):
    """Wait for `seconds` (0 or less: not at all)."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds: float = seconds

    def carry(self, driver: Driver) -> Any:
        """Have `driver` wait."""
        return driver.sleep(self.seconds)

    def __repr__(self) -> str:
        return f"Sleep({self.seconds:g})"


class Run(Request[T]):
    """Call the user's own function; an async driver awaits what it returns, if that is awaitable.

    With `join` the function is given the driver, which inside `Atomic` is the open transaction.
    """

    __slots__ = ("args", "function", "join")

    def __init__(self, function: Callable[..., Awaitable[T] | T], *args: object, join: bool = False) -> None:
        self.function: Callable[..., Awaitable[T] | T] = function
        self.args: tuple[object, ...] = args
        self.join: bool = join

    def carry(self, driver: Driver) -> Any:
        """Have `driver` call the function."""
        if self.join:
            return driver.run_function(self.function, driver, *self.args)
        return driver.run_function(self.function, *self.args)

    def __repr__(self) -> str:
        return f"Run({getattr(self.function, '__qualname__', self.function)!s})"


class Atomic(Request[T]):
    """Carry out the requests of `steps()` in one transaction, all or none.

    `steps` is a function, not a generator, because a driver may have to start again after a
    serialization failure. On a client whose transaction is already open it joins that transaction.
    """

    __slots__ = ("steps",)

    def __init__(self, steps: Callable[[], Steps[T]]) -> None:
        self.steps: Callable[[], Steps[T]] = steps

    def carry(self, driver: Driver) -> Any:
        """Have `driver` carry out the steps in one transaction."""
        return driver.atomic(self.steps)

    def __repr__(self) -> str:
        return f"Atomic({getattr(self.steps, '__qualname__', self.steps)!s})"


class Within(Request[T]):
    """Carry out `request` in at most `seconds`, > 0, if the driver's own deadline is not shorter."""

    __slots__ = ("request", "seconds")

    def __init__(self, request: Request[T], seconds: float) -> None:
        self.request: Request[T] = request
        self.seconds: float = seconds

    def carry(self, driver: Driver) -> Any:
        """Have `driver` carry the request out with the shorter deadline."""
        return self.request.carry(driver.within(min(self.seconds, driver.timeout)))

    def __repr__(self) -> str:
        return f"Within({self.request!r}, {self.seconds:g})"


class Driver(Protocol):
    """What every driver can do; each backend's own requests ask for more (`call`, `query`, `eval`)."""

    clock: Clock
    random: random.Random
    timeout: float

    def within(self, timeout: float) -> Driver:
        """Return this driver with another deadline for each request, in seconds."""
        ...

    def run(self, steps: Steps[Any]) -> Any:
        """Carry out all of `steps` and return what the generator returns."""
        ...

    def sleep(self, seconds: float) -> Any:
        """Wait."""
        ...

    def run_function(self, function: Callable[..., Any], *args: object) -> Any:
        """Call the user's function."""
        ...

    def atomic(self, steps: Callable[[], Steps[Any]]) -> Any:
        """Carry out `steps()` in one transaction."""
        ...

    def background(self, steps: Steps[None]) -> Callable[[], None]:
        """Carry out `steps` beside the caller; the first must be a `Sleep`. Returns what stops them."""
        ...


class Pattern(Generic[C]):
    """The base of every public class with a backend: its operations go through `_driver`."""

    __slots__ = ()
    _driver: Any


if TYPE_CHECKING:

    class operation(Generic[P, T]):  # noqa: N801 - it is used, and at run time it is, a decorator
        """Make a request, or a generator of requests, a public method in the colour of its client."""

        def __init__(self, body: Callable[Concatenate[Any, P], Request[T] | Steps[T]]) -> None: ...

        @overload
        def __get__(self, instance: Pattern[Sync], owner: object = None) -> Callable[P, T]: ...
        @overload
        def __get__(self, instance: Pattern[Async], owner: object = None) -> Callable[P, Coroutine[Any, Any, T]]: ...
        def __get__(self, instance: Any, owner: object = None) -> Any: ...

else:

    def operation(body: Callable[..., Any]) -> Callable[..., Any]:
        """Make a request, or a generator of requests, a public method in the colour of its client."""
        code: CodeType = body.__code__
        if code.co_flags & _CO_GENERATOR:

            def method(self: Pattern[Any], *args: Any, **kwargs: Any) -> Any:
                return self._driver.run(body(self, *args, **kwargs))

        else:

            def method(self: Pattern[Any], *args: Any, **kwargs: Any) -> Any:
                return body(self, *args, **kwargs).carry(self._driver)

        method.__name__, method.__qualname__ = body.__name__, body.__qualname__
        method.__doc__, method.__module__ = body.__doc__, body.__module__
        method.__wrapped__ = body
        return method
