"""`@locked`: hold a lock while a function runs, named by the function's own arguments."""

from __future__ import annotations

import functools
import inspect
import string
from collections.abc import Callable
from typing import Any, TypeVar, Unpack, cast

from holdfast import checks
from holdfast.backends import AsyncClient, Backend, SyncClient, adopt
from holdfast.drivers import AsyncDriver
from holdfast.errors import ConfigurationError
from holdfast.locks.lock import Lock, LockOptions

__all__ = ["locked"]

F = TypeVar("F", bound=Callable[..., Any])
Client = SyncClient | AsyncClient
LEASE = "lease"


def locked(client: Client | Callable[[], Client], name: str, **options: Unpack[LockOptions]) -> Callable[[F], F]:
    """Call a function only while holding the lock that `name` and its arguments spell.

        @locked(redis_client, "order:{order_id}", ttl=10)
        async def ship(order_id: str, lease: Lease) -> None: ...

    A parameter called `lease` that the caller leaves out is given the lease, so that its token can go along
    with every write. The call raises what `with Lock(...)` raises.

    Args:
        client: a client or backend, asyncio for `async def` and blocking for `def`; or a function that returns
            one, called once when the lock is first needed.
        name: what is locked, with the function's parameters in braces, as `str.format` reads it
            (`{order.id}` works). Two calls with the same name exclude each other.
        options: those of `Lock`.

    Raises:
        ConfigurationError: `name` is malformed or names something that is no parameter; the colours of function
            and client differ; the function is a generator.
        LockNotAcquired: (from the decorated function) somebody else held the lock for the whole `timeout`.
    """

    def decorate(function: F) -> F:
        call = _Call(client, name, options, function)
        wrapper: Any

        if call.is_async:

            @functools.wraps(function)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                bound = call.bind(args, kwargs)
                async with cast("Any", call.lock(bound)) as lease:
                    return await function(*bound.args, **call.with_lease(bound, lease))

        else:

            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                bound = call.bind(args, kwargs)
                with cast("Any", call.lock(bound)) as lease:
                    return function(*bound.args, **call.with_lease(bound, lease))

        return cast("F", wrapper)

    return decorate


class _Call:
    """What all calls of one decorated function have in common."""

    def __init__(self, client: Any, name: str, options: LockOptions, function: Callable[..., Any]) -> None:
        self.function_name: str = getattr(function, "__qualname__", repr(function))
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            message = f"@locked cannot guard the generator function {self.function_name}: its body runs after the call"
            raise ConfigurationError(message)
        self.is_async = inspect.iscoroutinefunction(inspect.unwrap(function))
        self._signature = inspect.signature(function)
        self._name = _checked_name(name, self._signature, self.function_name)
        self._options = options
        self._backend: Backend[Any] | None = None
        self._client = client
        if not callable(client):
            self._adopt(client)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        """Return the arguments of a call; the lease takes the place of a `lease` that was left out."""
        if LEASE not in self._signature.parameters:
            return self._signature.bind(*args, **kwargs)
        bound = self._signature.bind_partial(*args, **kwargs)
        if LEASE not in bound.arguments:
            # Anything, so that what else is missing is told before a lock is taken.
            self._signature.bind(*args, **kwargs, **{LEASE: None})
        return bound

    def lock(self, bound: inspect.BoundArguments) -> Lock[Any]:
        """Return the lock for one call."""
        if self._backend is None:
            self._adopt(self._client())
        assert self._backend is not None
        values = {name: parameter.default for name, parameter in self._signature.parameters.items()}
        name = self._name.format_map(values | bound.arguments)
        return Lock(cast("Any", self._backend), name, **self._options)

    def with_lease(self, bound: inspect.BoundArguments, lease: Any) -> dict[str, Any]:
        """Return the keyword arguments, with the lease where it is wanted."""
        if LEASE not in self._signature.parameters or LEASE in bound.arguments:
            return bound.kwargs
        return {**bound.kwargs, LEASE: lease}

    def _adopt(self, client: Any) -> None:
        backend = adopt(client)
        if isinstance(backend, AsyncDriver) != self.is_async:
            kind, needs = ("async", "an asyncio") if self.is_async else ("blocking", "a blocking")
            message = f"@locked: {self.function_name} is {kind}, so it needs {needs} client, not {backend!r}"
            raise ConfigurationError(message)
        Lock(cast("Any", backend), "name", **self._options)  # wrong options are told now
        self._backend = backend


def _checked_name(name: str, signature: inspect.Signature, function_name: str) -> str:
    checks.key("name", name)
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(name) if field is not None]
    except ValueError as error:
        raise ConfigurationError(f"name={name!r} is not legal: {error}", parameter="name") from None
    for field in fields:
        root = field.partition(".")[0].partition("[")[0]
        if root not in signature.parameters or root == LEASE:
            legal = ", ".join(f"{{{each}}}" for each in signature.parameters if each != LEASE) or "no parameter"
            message = f"name={name!r} names {{{field}}}, which {function_name} has not: legal is {legal}"
            raise ConfigurationError(message, parameter="name")
    return name
