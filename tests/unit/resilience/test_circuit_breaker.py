"""The breaker as users see it: three spellings, threads, tasks, and the faults of other breakers."""

import asyncio
import contextvars
import gc
import inspect
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast import signals
from holdfast.errors import BulkheadFull, CircuitOpen, ConfigurationError
from holdfast.resilience import BreakerChanged, BreakerState, CircuitBreaker, circuit_breaker
from holdfast.resilience.breaker_state import BreakerMachine
from holdfast.testing.clock import VirtualClock


def failing() -> None:
    """Stand for a dependency that is down."""
    raise ConnectionError("down")


def trip(breaker: CircuitBreaker) -> None:
    """Make the breaker open."""
    while breaker.state is BreakerState.CLOSED:
        with pytest.raises(ConnectionError):
            breaker.call(failing)


@pytest.fixture
def clock() -> VirtualClock:
    """Return a clock that stands still."""
    return VirtualClock(start=1000.0)


@pytest.fixture
def breaker(clock: VirtualClock) -> CircuitBreaker:
    """Return a breaker that opens after three failures, for ten seconds."""
    return CircuitBreaker("dependency", failure_threshold=3, recovery_timeout=10.0, clock=clock)


def test_it_opens_after_the_threshold_and_tells_when_to_come_back(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    """An open circuit refuses without calling, with the seconds left and its name on the error."""
    trip(breaker)
    clock.advance(4.0)
    with pytest.raises(CircuitOpen, match="next probe in 6 s") as refused:
        breaker.call(lambda: pytest.fail("was called"))
    assert refused.value.retry_after == 6.0
    assert refused.value.facts == {"retry_after": 6.0, "name": "dependency"}


def test_a_success_ends_a_run_of_failures(breaker: CircuitBreaker) -> None:
    """Failures count only in a row."""
    for outcome in (failing, failing, int, failing, failing):
        if outcome is int:
            breaker.call(outcome)
        else:
            with pytest.raises(ConnectionError):
                breaker.call(outcome)
    assert breaker.state is BreakerState.CLOSED


def test_a_probe_decides(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    """After recovery_timeout one call is let through: its failure opens again, its success closes."""
    trip(breaker)
    clock.advance(10.0)
    with pytest.raises(ConnectionError):
        breaker.call(failing)
    assert breaker.state is BreakerState.OPEN
    clock.advance(9.9)
    with pytest.raises(CircuitOpen):
        breaker.call(int)
    clock.advance(0.1)
    assert breaker.call(int) == 0
    assert breaker.state is BreakerState.CLOSED


async def test_of_100_concurrent_calls_one_is_the_probe(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    """A half-open circuit lets exactly one of 100 tasks reach the dependency."""
    reached = 0

    @breaker
    async def call() -> None:
        nonlocal reached
        reached += 1
        await asyncio.sleep(0.01)

    trip(breaker)
    clock.advance(10.0)
    results = await asyncio.gather(*(call() for _ in range(100)), return_exceptions=True)
    assert reached == 1
    assert sum(isinstance(result, CircuitOpen) for result in results) == 99
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize("probes", [1, 3])
def test_of_50_threads_only_the_permitted_ones_probe(clock: VirtualClock, probes: int) -> None:
    """A half-open circuit never lets more threads through than half_open_probes."""
    breaker = CircuitBreaker("d", failure_threshold=1, half_open_probes=probes, clock=clock)
    trip(breaker)
    clock.advance(30.0)
    together = threading.Barrier(50)
    all_refused = threading.Event()
    reached: list[int] = []

    @breaker
    def call(number: int) -> None:
        reached.append(number)
        all_refused.wait(5.0)

    def attempt(number: int) -> bool:
        together.wait()
        try:
            call(number)
        except CircuitOpen:
            return True
        return False

    with ThreadPoolExecutor(50) as pool:
        futures = [pool.submit(attempt, number) for number in range(50)]
        refused = 0
        while refused < 50 - probes:
            refused = sum(future.done() for future in futures)
        all_refused.set()
        assert sum(future.result() for future in futures) == 50 - probes
    assert len(reached) == probes
    assert breaker.state is BreakerState.CLOSED


def test_every_decision_is_made_under_the_lock(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    """Threads cannot interleave inside the state machine (a race would be too rare to be seen)."""
    decisions: list[str] = []

    class Watched(BreakerMachine):
        def __getattribute__(self, name: str) -> Any:
            if name in {"admit", "succeeded", "failed", "abandoned"}:
                assert breaker._lock._is_owned()  # type: ignore[attr-defined]
                decisions.append(name)
            return super().__getattribute__(name)

    breaker._machine = Watched(failure_threshold=1, recovery_timeout=10.0, half_open_probes=1, probe_timeout=60.0)
    trip(breaker)
    clock.advance(10.0)
    with pytest.raises(KeyboardInterrupt), breaker:
        raise KeyboardInterrupt
    breaker.call(int)
    assert decisions == ["failed", "admit", "abandoned", "admit", "succeeded"]


def test_no_lock_is_held_while_the_function_runs(breaker: CircuitBreaker) -> None:
    """Eight threads are inside the guarded function at the same time, also with failures on record."""
    with pytest.raises(ConnectionError):
        breaker.call(failing)
    inside = threading.Barrier(8)
    meet = breaker(lambda: inside.wait(timeout=5.0))
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(lambda _: meet(), range(8))) == list(range(8))


async def test_cancellation_counts_as_neither(breaker: CircuitBreaker) -> None:
    """Cancelled calls neither open the circuit nor end a run of failures."""

    @breaker
    async def hang() -> None:
        await asyncio.Event().wait()

    for _ in range(2):
        with pytest.raises(ConnectionError):
            breaker.call(failing)
    for _ in range(5):
        task = asyncio.create_task(hang())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert breaker.state is BreakerState.CLOSED
    with pytest.raises(ConnectionError):
        breaker.call(failing)
    assert breaker.state is BreakerState.OPEN


async def test_a_cancelled_probe_gives_its_place_back(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    """After a probe is cancelled, the next call is the probe."""

    @breaker
    async def hang() -> None:
        await asyncio.Event().wait()

    trip(breaker)
    clock.advance(10.0)
    probe = asyncio.create_task(hang())
    await asyncio.sleep(0)
    with pytest.raises(CircuitOpen, match="a probe is under way") as refused:
        breaker.call(int)
    assert refused.value.retry_after is None
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert breaker.call(int) == 0
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize("spelling", ["decorator", "call"])
def test_an_abandoned_coroutine_gives_its_place_back(
    spelling: str, breaker: CircuitBreaker, clock: VirtualClock
) -> None:
    """A probe that the garbage collector closes (GeneratorExit), in whatever context, counts as neither."""

    class Suspend:
        def __await__(self) -> Iterator[None]:
            yield

    async def suspend() -> None:
        await Suspend()

    trip(breaker)
    clock.advance(10.0)
    probe: Any = breaker(suspend)() if spelling == "decorator" else breaker.call(suspend)
    contextvars.copy_context().run(probe.send, None)
    del probe
    gc.collect()
    assert breaker.call(int) == 0


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt(), FutureCancelledError(), BulkheadFull("inner")])
def test_what_says_nothing_about_the_dependency_counts_as_neither(
    breaker: CircuitBreaker, error: BaseException
) -> None:
    """Interrupts, cancelled futures and refusals of inner policies leave the circuit as it is."""

    def stop() -> None:
        raise error

    for _ in range(2):
        with pytest.raises(ConnectionError):
            breaker.call(failing)
    for _ in range(4):
        with pytest.raises(type(error)):
            breaker.call(stop)
    assert breaker.state is BreakerState.CLOSED
    with pytest.raises(ConnectionError):
        breaker.call(failing)
    assert breaker.state is BreakerState.OPEN


@pytest.mark.parametrize("wait", [0.0, 10.0, 3600.0])
async def test_a_late_success_does_not_close_an_open_circuit(
    breaker: CircuitBreaker, clock: VirtualClock, wait: float
) -> None:
    """A call from before the trip that succeeds late changes nothing, also after recovery_timeout."""
    finish = asyncio.Event()
    late = asyncio.create_task(breaker(finish.wait)())
    await asyncio.sleep(0)
    trip(breaker)
    if wait:
        clock.advance(wait)
    finish.set()
    assert await late
    assert breaker.state is BreakerState.OPEN


async def test_a_late_failure_does_not_extend_the_open_period(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    """A call from before the trip that fails late does not restart recovery_timeout."""
    finish = asyncio.Event()

    @breaker
    async def slow() -> None:
        await finish.wait()
        failing()

    late = asyncio.create_task(slow())
    await asyncio.sleep(0)
    trip(breaker)
    clock.advance(9.0)
    finish.set()
    with pytest.raises(ConnectionError):
        await late
    clock.advance(1.0)
    assert breaker.call(int) == 0


def test_a_wall_clock_that_jumps_changes_nothing(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    """Only monotonic time ends the open period."""
    trip(breaker)
    clock.jump_wall(3600.0)
    with pytest.raises(CircuitOpen):
        breaker.call(int)


def test_other_exceptions_are_answers_of_a_working_dependency(clock: VirtualClock) -> None:
    """An exception outside `failures` ends a run of failures."""
    breaker = CircuitBreaker("d", failure_threshold=2, failures=[ConnectionError], clock=clock)

    def not_found() -> None:
        raise LookupError

    for call, kind in ((failing, ConnectionError), (not_found, LookupError), (failing, ConnectionError)):
        with pytest.raises(kind):
            breaker.call(call)
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize("falsy", [None, 0, "", ()])
def test_a_test_that_answers_no_in_other_words_than_false_counts_a_success(falsy: Any, clock: VirtualClock) -> None:
    """None, which a missing attribute gives, once kept the circuit half-open for ever."""
    breaker = CircuitBreaker(
        "d", failure_threshold=1, failures=lambda error: getattr(error, "transient", falsy), clock=clock
    )
    down = ConnectionError()
    down.transient = True  # type: ignore[attr-defined]
    with pytest.raises(ConnectionError), breaker:
        raise down
    clock.advance(30.0)
    with pytest.raises(LookupError), breaker:
        raise LookupError
    assert breaker.state is BreakerState.CLOSED


def test_failures_may_be_a_function_of_the_exception() -> None:
    """A predicate decides, and when it breaks itself a probe's place is not lost."""
    clock = VirtualClock()
    breaker = CircuitBreaker("d", failure_threshold=1, failures=lambda e: e.args[0] == "down", clock=clock)
    trip(breaker)
    clock.advance(30.0)

    def odd() -> None:
        raise ConnectionError

    with pytest.raises(IndexError):
        breaker.call(odd)
    assert breaker.call(int) == 0


def test_a_block_that_ends_in_another_context_is_refused(breaker: CircuitBreaker) -> None:
    """Frameworks run the two halves of a dependency in two threads; nothing would be counted, without a word."""

    def dependency() -> Generator[None]:
        with breaker:
            yield

    fine, failed = dependency(), dependency()
    for each in (fine, failed):
        contextvars.copy_context().run(next, each)
    with pytest.raises(ConfigurationError, match=r"'dependency' ends in another .*breaker\.call"):
        contextvars.copy_context().run(next, fine)
    with pytest.raises(ConfigurationError) as caught:
        contextvars.copy_context().run(failed.throw, ConnectionError("down"))
    assert isinstance(caught.value.__context__, ConnectionError)


def test_a_block_that_is_thrown_away_in_another_context_says_nothing(breaker: CircuitBreaker) -> None:
    """The collector may close a generator anywhere."""

    def dependency() -> Generator[None]:
        with breaker:
            yield

    abandoned = dependency()
    contextvars.copy_context().run(next, abandoned)
    abandoned.close()


def test_every_change_is_told(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    """Subscribers see each change once, in order, and may ask the breaker meanwhile."""
    seen: list[tuple[str, str, str]] = []

    def listen(change: BreakerChanged) -> None:
        seen.append((change.name, change.old, breaker.state))

    unsubscribe = signals.subscribe(BreakerChanged, listen)
    try:
        trip(breaker)
        clock.advance(10.0)
        breaker.call(int)
    finally:
        unsubscribe()
    assert seen == [
        ("dependency", "closed", "open"),
        ("dependency", "open", "half_open"),
        ("dependency", "half_open", "closed"),
    ]


class TestWith:
    """`with` and `async with`."""

    def test_the_block_is_the_call(self, breaker: CircuitBreaker) -> None:
        """Exceptions in the block count, and an open circuit does not enter it."""
        for _ in range(3):
            with pytest.raises(ConnectionError), breaker:
                failing()
        with pytest.raises(CircuitOpen), breaker:
            pytest.fail("entered")

    async def test_a_cancelled_block_is_no_success(self, breaker: CircuitBreaker) -> None:
        """Cancelling inside `async with` leaves the run of failures as it is."""

        async def block() -> None:
            async with breaker:
                await asyncio.Event().wait()

        for _ in range(2):
            with pytest.raises(ConnectionError):
                async with breaker:
                    failing()
        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(ConnectionError):
            async with breaker:
                failing()
        assert breaker.state is BreakerState.OPEN

    async def test_blocks_of_many_tasks_keep_their_own_stamps(
        self, breaker: CircuitBreaker, clock: VirtualClock
    ) -> None:
        """A block entered before the trip ends after it without closing the circuit."""
        finish = asyncio.Event()

        async def block() -> None:
            async with breaker, breaker:
                await finish.wait()

        early = asyncio.create_task(block())
        await asyncio.sleep(0)
        trip(breaker)
        clock.advance(10.0)
        with breaker:
            finish.set()
            await early
            assert breaker.state is BreakerState.HALF_OPEN
        assert breaker.state is BreakerState.CLOSED


class TestCall:
    """`breaker.call`."""

    async def test_async_functions_are_awaited(self, breaker: CircuitBreaker) -> None:
        """Failures of an async function, and of a lambda around one, are seen."""

        async def fetch(_number: int = 0) -> int:
            await asyncio.sleep(0)
            raise ConnectionError

        for _ in range(3):
            with pytest.raises(ConnectionError):
                await breaker.call(lambda: fetch(1))
        pending = breaker.call(fetch)  # refused when awaited, as the function itself would be
        with pytest.raises(CircuitOpen):
            await pending

    async def test_a_success_through_a_lambda_closes(self, breaker: CircuitBreaker, clock: VirtualClock) -> None:
        """The outcome is that of the awaited result, not of making the coroutine."""

        async def fetch(number: int) -> int:
            return number

        trip(breaker)
        clock.advance(10.0)
        pending = breaker.call(lambda: fetch(7))
        assert breaker.state is BreakerState.HALF_OPEN
        assert await pending == 7
        assert breaker.state is BreakerState.CLOSED
        assert await breaker.call(fetch, number=8) == 8


class TestDecorator:
    """`@circuit_breaker` and `@breaker`."""

    def test_it_keeps_name_signature_and_colour(self) -> None:
        """The decorated function looks like the original."""

        @circuit_breaker()
        def add(a: int, b: int = 1) -> int:
            """Add."""
            return a + b

        @circuit_breaker()
        async def add_async(a: int) -> int:
            return a

        assert add(1) == 2
        assert (add.__name__, add.__doc__) == ("add", "Add.")
        assert str(inspect.signature(add)) == "(a: int, b: int = 1) -> int"
        assert not inspect.iscoroutinefunction(add)
        assert inspect.iscoroutinefunction(add_async)
        assert add.__wrapped__(1) == 2  # type: ignore[attr-defined]

    async def test_failures_of_async_functions_are_seen(self) -> None:
        """An async function is not taken for a sync one that always succeeds."""

        @circuit_breaker(failure_threshold=2)
        async def call() -> None:
            await asyncio.sleep(0)
            failing()

        for _ in range(2):
            with pytest.raises(ConnectionError):
                await call()
        with pytest.raises(CircuitOpen):
            await call()

    def test_each_function_has_its_own_breaker(self) -> None:
        """One decorator used twice makes two breakers, named after their functions."""
        decorate = circuit_breaker(failure_threshold=1)
        first, second = decorate(failing), decorate(int.bit_length)
        assert CircuitBreaker.of(first) is not CircuitBreaker.of(second)
        assert CircuitBreaker.of(first).name.endswith("test_circuit_breaker.failing")

    def test_it_works_on_methods_and_callable_objects(self) -> None:
        """Methods share the breaker of their class; objects with an async __call__ are async."""

        class Client:
            @circuit_breaker(failure_threshold=1)
            def get(self, value: int) -> int:
                return value

            async def __call__(self) -> int:
                return 3

        assert Client().get(2) == 2
        assert CircuitBreaker.of(Client().get) is CircuitBreaker.of(Client.get)
        assert asyncio.run(circuit_breaker()(Client())()) == 3

    def test_generators_are_refused(self) -> None:
        """A generator function, sync or async, is refused at decoration with the reason."""

        def pages() -> Iterator[int]:
            yield 1

        async def pages_async() -> AsyncIterator[int]:
            yield 1

        for function in (pages, pages_async):
            with pytest.raises(ConfigurationError, match=r"cannot guard the generator .*pages"):
                circuit_breaker()(function)

    @pytest.mark.parametrize("thing", [staticmethod(int), classmethod(failing), 3, int])
    def test_other_things_are_refused(self, thing: Any) -> None:
        """Static and class method objects, classes and non-callables are refused."""
        with pytest.raises(ConfigurationError, match="@circuit_breaker"):
            circuit_breaker()(thing)

    def test_of_needs_a_decorated_function(self) -> None:
        """Asking for the breaker of a bare function names the function."""
        with pytest.raises(ConfigurationError, match="failing has no circuit breaker"):
            CircuitBreaker.of(failing)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"failure_threshold": 0}, "failure_threshold=0 is not legal: give a whole number of at least 1"),
        ({"failure_threshold": 2.5}, "failure_threshold=2.5"),
        ({"recovery_timeout": 0}, "recovery_timeout=0 is not legal: give a finite number greater than 0"),
        ({"recovery_timeout": float("inf")}, "recovery_timeout=inf"),
        ({"half_open_probes": 0}, "half_open_probes=0"),
        ({"probe_timeout": -1.0}, "probe_timeout=-1.0"),
        ({"failures": BaseException}, "failures=<class 'BaseException'> is not legal: give subclasses of Exc"),
        ({"failures": asyncio.CancelledError}, "failures=.*CancelledError"),
        ({"failures": ()}, "failures=.*at least one type"),
        ({"failures": "ConnectionError"}, "failures='ConnectionError'"),
        ({"name": ""}, "name must have 1 to 255 characters"),
    ],
)
def test_wrong_arguments_fail_where_they_are_written(arguments: dict[str, Any], message: str) -> None:
    """Each names the parameter, the value and what is legal, before any function is decorated."""
    with pytest.raises(ConfigurationError, match=message):
        circuit_breaker(**arguments)


def test_the_decorator_has_the_defaults_of_the_class() -> None:
    """`circuit_breaker` and `CircuitBreaker` cannot drift apart."""

    def defaults(function: Callable[..., Any]) -> dict[str, Any]:
        parameters = inspect.signature(function).parameters.values()
        return {parameter.name: parameter.default for parameter in parameters if parameter.name != "name"}

    assert defaults(circuit_breaker) == defaults(CircuitBreaker)


def test_refusals_can_be_pickled(breaker: CircuitBreaker) -> None:
    """A refusal keeps its message and facts in another process."""
    trip(breaker)
    with pytest.raises(CircuitOpen) as refused:
        breaker.call(int)
    copy = pickle.loads(pickle.dumps(refused.value))
    assert type(copy) is CircuitOpen
    assert (str(copy), copy.facts) == (str(refused.value), refused.value.facts)
