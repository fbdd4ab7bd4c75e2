"""A circuit breaker: stop calling what keeps failing, and try again carefully.

`breaker_state.py` decides; this module gives it a lock, a clock and its three spellings: decorator,
`call`, and `with`. On the happy path (closed, no failure on record) there is no lock and no clock
read: one attribute read before the call and one truth test after it.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from inspect import isawaitable, iscoroutinefunction
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from holdfast import checks, forks, signals
from holdfast.clock import SYSTEM_CLOCK, Clock
from holdfast.errors import CircuitOpen, ConfigurationError, Refused
from holdfast.resilience._functions import full_name, is_async, refuse_coroutine, with_parentheses
from holdfast.resilience._matching import Exceptions, is_cancellation, matcher
from holdfast.resilience._order import applied_to, check_order, mark
from holdfast.resilience.breaker_state import BreakerMachine, BreakerState, Generation

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["BreakerChanged", "CircuitBreaker", "circuit_breaker"]

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
T = TypeVar("T")

_CLOSED, _OPEN = BreakerState.CLOSED, BreakerState.OPEN
# Neither success nor failure: the dependency was not asked. A mistake in the program that opened the
# circuit would soon be hidden behind `CircuitOpen`.
_NEITHER = (Refused, ConfigurationError)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerChanged(signals.Signal):
    """A circuit breaker went from one state to another."""

    name: str
    old: BreakerState
    new: BreakerState


class CircuitBreaker:
    """One breaker, for one dependency; thread safe, and shared by sync and async callers.

    Guarantees: while closed, no call waits for another; while half-open, at most `half_open_probes`
    calls are waited for at once, in any number of threads and tasks; a result that comes after the
    state changed changes nothing; no lock is held while the user's function or a subscriber runs.

    Not guaranteed: other processes do not see this breaker's state. A probe that hangs for longer than
    `probe_timeout` is given up and another one let through after `recovery_timeout`, while the first may
    still run: nobody can tell a call that hangs from one whose caller died.

    Args:
        name: what it guards, for errors and signals; 1 to 255 printable characters.
        failure_threshold: failures in a row that open the circuit, >= 1.
        recovery_timeout: seconds an open circuit refuses before it lets probes through, > 0.
        half_open_probes: calls let through after that, >= 1. All must succeed to close the circuit; the
            first failure opens it again.
        probe_timeout: seconds after which a half-open circuit no longer waits for a probe's answer and
            opens again, > 0. A bound for calls that hang: give the call itself a shorter timeout.
        failures: which exceptions are failures: a type, several, or a function of the exception. Others
            are answers of a working dependency, so they count as successes. Cancellation, interrupts,
            `Refused` (an inner policy said no) and `ConfigurationError` count as neither.
        clock: where time comes from; only `monotonic()` is read.

    Raises:
        ConfigurationError: an argument outside its range.
    """

    __slots__ = ("__weakref__", "_clock", "_is_failure", "_lock", "_machine", "name")

    def __init__(
        self,
        name: str,
        *,
        failure_threshold: int = 5,
        recovery_timeout: float = 30.0,
        half_open_probes: int = 1,
        probe_timeout: float = 60.0,
        failures: Exceptions = Exception,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name: str = checks.key("name", name)
        self._machine = BreakerMachine(
            failure_threshold=checks.at_least("failure_threshold", failure_threshold, 1),
            recovery_timeout=checks.positive("recovery_timeout", recovery_timeout),
            half_open_probes=checks.at_least("half_open_probes", half_open_probes, 1),
            probe_timeout=checks.positive("probe_timeout", probe_timeout),
        )
        self._is_failure = matcher("failures", failures)
        self._clock = clock
        # Reentrant, because the garbage collector may close an abandoned coroutine, which reports here,
        # while this very thread holds the lock.
        self._lock = threading.RLock()
        forks.remember(self)

    def forget_inherited(self) -> None:
        """After a fork: whoever held the lock stayed with the parent."""
        self._lock = threading.RLock()

    @property
    def state(self) -> BreakerState:
        """The state now. An open circuit becomes half-open with the next call, not by the clock alone."""
        return self._machine.current.state

    @classmethod
    def of(cls, function: Callable[..., Any]) -> CircuitBreaker:
        """Return the outermost breaker around a decorated `function`.

        Raises:
            ConfigurationError: there is none.
        """
        for applied in applied_to(function):
            if isinstance(applied.policy, cls):
                return applied.policy
        raise ConfigurationError(f"function={full_name(function)} has no circuit breaker")

    def __call__(self, function: F) -> F:
        """Decorate `function`, sync or async. One breaker may guard several functions."""
        must_await = is_async("circuit_breaker", function)
        check_order("circuit_breaker", function, name=full_name(function))
        wrapper: Any = self._guard_async(function) if must_await else self._guard(function)
        mark(wrapper, "circuit_breaker", self, function)
        return wrapper  # type: ignore[no-any-return]

    @overload
    def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...
    @overload
    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...
    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `function` through the breaker; await the result if `function` is async.

        Raises:
            CircuitOpen: the circuit refused, and `function` was not called.
        """
        if iscoroutinefunction(function):
            return self._call_async(function, args, kwargs)
        generation = self._admit()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self._settle(generation, error)
            raise
        if isawaitable(result):  # a lambda around an async call: its outcome is not known yet
            return self._watch(generation, result)
        self._settle(generation, None)
        return result

    def __enter__(self) -> Self:
        """Ask for admission; the block's outcome is reported when it ends, in the same task or thread.

        Raises:
            CircuitOpen: refused.
            ConfigurationError: (at the end of the block) it began in another context.
        """
        generation = self._admit()
        _entered.set((*_entered.get(), (self, generation)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stack = _entered.get()
        for index in range(len(stack) - 1, -1, -1):
            breaker, generation = stack[index]
            if breaker is self:
                _entered.set(stack[:index] + stack[index + 1 :])
                self._settle(generation, error)
                return
        # A generator that is thrown away is closed wherever the collector runs, and has nothing to report.
        if error is None or not is_cancellation(error):
            raise ConfigurationError(
                f"`with` of circuit breaker {self.name!r} ends in another task, thread or context than it began in, "
                "so its outcome cannot be counted. Frameworks do that to a `yield` inside the block (a sync "
                "dependency of FastAPI, a fixture): decorate the function that calls, or use "
                "breaker.call(function, ...)"
            )

    async def __aenter__(self) -> Self:
        """Do what `with` does: a breaker never waits."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __repr__(self) -> str:
        return f"CircuitBreaker({self.name!r}, state={self.state.value!r})"

    # The two wrappers below are the hot path, written out twice so that it stays one frame.

    def _guard(self, function: Callable[P, T]) -> Callable[P, T]:
        machine, admit, settle = self._machine, self._admit, self._settle

        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            generation = machine.current
            if generation.state is not _CLOSED:
                generation = admit()
            try:
                result = function(*args, **kwargs)
                if type(result) is CoroutineType:
                    refuse_coroutine("circuit_breaker", function, result)
            except BaseException as error:
                settle(generation, error)
                raise
            if generation.failures:
                settle(generation, None)
            return result

        return guarded

    def _guard_async(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        machine, admit, settle = self._machine, self._admit, self._settle

        @wraps(function)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            generation = machine.current
            if generation.state is not _CLOSED:
                generation = admit()
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                settle(generation, error)
                raise
            if generation.failures:
                settle(generation, None)
            return result

        return guarded

    async def _call_async(
        self, function: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> T:
        generation = self._admit()
        try:
            value = await function(*args, **kwargs)
        except BaseException as error:
            self._settle(generation, error)
            raise
        self._settle(generation, None)
        return value

    async def _watch(self, generation: Generation, result: Awaitable[T]) -> T:
        try:
            value = await result
        except BaseException as error:
            self._settle(generation, error)
            raise
        self._settle(generation, None)
        return value

    def _admit(self) -> Generation:
        """Return the stamp for one call, or raise `CircuitOpen`."""
        machine = self._machine
        seen = machine.current
        if seen.state is _CLOSED:
            return seen
        now = self._clock.monotonic()
        if seen.state is _OPEN and now < seen.until:
            # A generation's `until` does not change while it is open: refusing needs no lock.
            raise self._refusal(seen.until - now)
        with self._lock:
            before = machine.current
            admitted = machine.admit(now)
            after = machine.current
            wait = machine.retry_after(now)
        self._tell(before, after)
        if admitted is None:
            raise self._refusal(wait)
        return admitted

    def _settle(self, generation: Generation, error: BaseException | None) -> None:
        """Report how the call stamped with `generation` ended."""
        machine = self._machine
        failed = self._is_failed(generation, error)
        if error is None and not generation.failures:
            return
        now = self._clock.monotonic() if failed else 0.0
        with self._lock:
            before = machine.current
            if failed is None:
                machine.abandoned(generation)
            elif failed:
                machine.failed(generation, now)
            else:
                machine.succeeded(generation)
            after = machine.current
        self._tell(before, after)

    def _is_failed(self, generation: Generation, error: BaseException | None) -> bool | None:
        """Return whether `error` is a failure; None when it says nothing about the dependency."""
        if error is None:
            return False
        if not isinstance(error, Exception) or isinstance(error, _NEITHER) or is_cancellation(error):
            return None
        try:
            return bool(self._is_failure(error))  # users' tests return what is at hand; None has a meaning here
        except BaseException:
            with self._lock:
                self._machine.abandoned(generation)  # the user's own test broke: give the probe back
            raise

    def _tell(self, before: Generation, after: Generation) -> None:
        if before is not after and signals.subscribers:
            signals.emit(BreakerChanged(name=self.name, old=before.state, new=after.state))

    def _refusal(self, wait: float | None) -> CircuitOpen:
        when = "a probe is under way" if wait is None else f"next probe in {wait:.3g} s"
        # Refusing is what an open circuit does all day: skipping the constructor, which only sets these
        # same attributes, halves its cost.
        refusal = CircuitOpen.__new__(CircuitOpen, f"circuit {self.name!r} is open: {when}")
        refusal.__dict__.update(retry_after=wait, name=self.name)
        return refusal


# The stamps of the `with` blocks that this task or thread is in, innermost last. One variable for all
# breakers, because a context keeps every variable that was ever set in it alive.
_entered: ContextVar[tuple[tuple[CircuitBreaker, Generation], ...]] = ContextVar(
    "holdfast_breakers_entered", default=()
)


@with_parentheses
def circuit_breaker(
    *,
    failure_threshold: int = 5,
    recovery_timeout: float = 30.0,
    half_open_probes: int = 1,
    probe_timeout: float = 60.0,
    failures: Exceptions = Exception,
    name: str | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Callable[[F], F]:
    """Guard a function, sync or async, with a circuit breaker of its own.

    The arguments are those of `CircuitBreaker`; `name` is the function's full name unless given. To
    let several functions share one breaker, make a `CircuitBreaker` and decorate with that.
    `CircuitBreaker.of(function)` returns the breaker of a decorated function.

    Put it outside `@retry`, so that it counts operations and not attempts.

    Raises:
        ConfigurationError: an argument outside its range; a generator function; a policy inside that
            must be outside.
        CircuitOpen: (from the decorated function) refused; `retry_after` seconds until the next probe,
            None while a probe is under way.
    """

    def make(breaker_name: str) -> CircuitBreaker:
        return CircuitBreaker(
            breaker_name,
            failure_threshold=failure_threshold,
            recovery_timeout=recovery_timeout,
            half_open_probes=half_open_probes,
            probe_timeout=probe_timeout,
            failures=failures,
            clock=clock,
        )

    make("check" if name is None else name)  # wrong arguments fail here, in the line that has them

    def decorate(function: F) -> F:
        return make(full_name(function) if name is None else name)(function)

    return decorate
