"""`Relay`: publishes what transactions left in the outbox, at least once and in order per key.

    relay          outbox              broker
      │── batch ────►│                   │
      │── publish ──────────────────────►│      killed here: the same messages, with the same ids,
      │── remove ───►│                   │      are published again

One relay is active per outbox, by a lease that others take over when it ends. The lease only saves
work: two that publish at the same time (one was paused beyond its lease) each go through the messages
in order, so the first appearance of each message is still in order, and a repetition has the same id.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypedDict, Unpack, overload

from holdfast import checks, signals
from holdfast.backends import AsyncClient, SyncClient, adopt
from holdfast.errors import BackendError, ConfigurationError, HoldfastError, MessageRefused
from holdfast.events._endless import LONGEST_DELAY, backoff, endless, leaving, never
from holdfast.events._json import Unreadable
from holdfast.events._ranges import seconds, whole
from holdfast.events.broker import OwnBroker, Publisher, check_colour
from holdfast.events.dead_letters import described, tell_buried
from holdfast.events.message import Backlog
from holdfast.events.store import OutboxStore, Pending, store_of
from holdfast.operations import Async, C, Pattern, Request, Run, Steps, Sync, operation

__all__ = ["OutboxLag", "OutboxPublished", "Relay", "RelayFailed"]

DEFAULT_BATCH_SIZE = 100
DEFAULT_POLL_INTERVAL = 0.05
DEFAULT_MAX_ATTEMPTS = 10
DEFAULT_RETRY_DELAY = 1.0
DEFAULT_LEASE = 10.0
# Seconds between two looks at the backlog, which counts rows; only when somebody listens.
LAG_EVERY = 1.0
AWAY = (BackendError, OSError)


class Options(TypedDict, total=False):
    """What `Relay` can be told by keyword; the meanings are there."""

    batch_size: int
    poll_interval: float
    max_attempts: int
    retry_delay: float
    lease: float


class _Pass(NamedTuple):
    """What came of one batch."""

    published: int = 0
    refused: tuple[tuple[Pending, Exception], ...] = ()
    away: Exception | None = None
    """What ended it early: the broker was not reached."""

    @property
    def is_unclear(self) -> bool:
        """Nothing was taken, and the broker did not say whether that is because of these messages."""
        clear = self.published or self.away or all(isinstance(error, MessageRefused) for _, error in self.refused)
        return not clear


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxPublished(signals.Signal):
    """A batch was published; `oldest_age` is how long its oldest message had waited, in seconds."""

    messages: int
    oldest_age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxLag(signals.Signal):
    """How much waits in the outbox, told about once a second while a relay runs."""

    messages: int
    oldest_age: float
    dead: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayFailed(signals.Signal):
    """A turn of the relay failed and is tried again: the store or the broker is away."""

    error: Exception


class Relay(Pattern[C], Generic[C]):
    """Publish an outbox through a broker.

    Args:
        client: the client or backend of the outbox.
        broker: takes the messages; of the same colour as `client`.
        batch_size: most messages per publish, >= 1.
        poll_interval: seconds between two looks while the outbox is empty, > 0 and at most 24 days.
        max_attempts: how often the broker may refuse a message before it becomes a dead letter, >= 1.
            While the broker is away nothing is counted.
        retry_delay: seconds before a refused message is tried again, > 0; doubles up to a minute. Later
            messages of its key wait, others do not.
        lease: seconds after which another relay takes over from a silent one, > 0.

    Raises:
        ConfigurationError: an argument is not legal.
    """

    @overload
    def __init__(
        self: Relay[Async], client: AsyncClient, broker: Publisher | OwnBroker[Async], **options: Unpack[Options]
    ) -> None: ...
    @overload
    def __init__(
        self: Relay[Sync], client: SyncClient, broker: Publisher | OwnBroker[Sync], **options: Unpack[Options]
    ) -> None: ...
    def __init__(
        self,
        client: Any,
        broker: Publisher | OwnBroker[Any],
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        retry_delay: float = DEFAULT_RETRY_DELAY,
        lease: float = DEFAULT_LEASE,
    ) -> None:
        self.batch_size: int = whole("batch_size", batch_size, 1)
        self.poll_interval: float = checks.timeout("poll_interval", poll_interval)
        self.max_attempts: int = checks.at_least("max_attempts", max_attempts, 1)
        self.retry_delay: float = checks.positive("retry_delay", retry_delay)
        self.lease: float = seconds("lease", lease)
        self._driver = adopt(client)
        self._store: OutboxStore = store_of(self._driver, "outbox", "Relay")
        check_colour(self._driver, broker, "publish")
        self._broker: Any = broker
        self._owner = f"{self._driver.random.getrandbits(128):032x}"
        self._held_until = self._told_lag = float("-inf")
        # Up to which message was tried out of turn, and the last error of a turn in which nothing was taken.
        self._probed = 0
        self._said: Exception | None = None

    @operation
    def run_once(self) -> Steps[int]:
        """Publish one batch and return how many messages were dealt with, refused ones included.

        It is 0 when nothing is due, and while another relay is active.

        Raises:
            BackendError: the store or the broker is away. What was published may be published again.
        """
        return (yield from self._turn())

    @operation
    def run(self, *, stop: Callable[[], bool] = never) -> Steps[None]:
        """Publish until `stop()` returns True; it is asked between batches.

        Pass `event.is_set` of a `threading.Event` or `asyncio.Event`; a task may also be cancelled. A
        store or broker that is away is waited for. At the end another relay can take over at once.
        """
        work = endless(
            self._driver,
            self._told_turn,
            poll_interval=self.poll_interval,
            stop=stop,
            failed=_tell_failure,
            ends=self._ends,
        )
        yield from leaving(work, self._leaving)

    @operation
    def backlog(self) -> Request[Backlog]:
        """Count what waits to be published."""
        return self._store.backlog()

    def _told_turn(self) -> Steps[int]:
        now = self._driver.clock.monotonic()
        if signals.subscribers and now >= self._told_lag + LAG_EVERY:
            self._told_lag = now
            waiting = yield from self._store.backlog()
            signals.emit(OutboxLag(messages=waiting.messages, oldest_age=waiting.oldest_age, dead=waiting.dead))
        return (yield from self._turn())

    def _turn(self) -> Steps[int]:
        if not (yield from self._holding()):
            return 0
        batch = yield from self._store.batch(self.batch_size, LONGEST_DELAY)
        pending = yield from self._readable(batch)
        found = yield from self._passing(pending)
        if found.is_unclear:
            found = yield from self._probing(found, after=pending[-1].number)
        return len(batch) - len(pending) + (yield from self._settling(found))

    def _readable(self, pending: Sequence[Pending]) -> Steps[list[Pending]]:
        """Give up those whose payload cannot be read, so that they stop nobody else."""
        for one in pending:
            if isinstance(one.message.payload, Unreadable):
                yield from self._burying(one, one.message.payload.why)
        return [one for one in pending if not isinstance(one.message.payload, Unreadable)]

    def _passing(self, pending: Sequence[Pending]) -> Steps[_Pass]:
        if not pending:
            return _Pass()
        try:
            yield Run(self._broker.publish, [one.message for one in pending])
        except AWAY as error:
            return _Pass(away=error)
        except Exception:  # noqa: BLE001 - a broker's own words for a message it does not take
            return (yield from self._one_by_one(pending))
        yield from self._removing(pending)
        return _Pass(len(pending))

    def _one_by_one(self, pending: Sequence[Pending]) -> Steps[_Pass]:
        """Find out which messages are refused, and publish the others."""
        published: list[Pending] = []
        refused: list[tuple[Pending, Exception]] = []
        held_up: set[tuple[str, str]] = set()
        away: Exception | None = None
        for one in pending:
            if (one.message.topic, one.message.key) in held_up:
                continue
            try:
                yield Run(self._broker.publish, [one.message])
            except AWAY as error:
                away = error
                break
            except Exception as error:  # noqa: BLE001 - see above
                refused.append((one, error))
                if one.message.key:
                    held_up.add((one.message.topic, one.message.key))
            else:
                published.append(one)
        yield from self._removing(published)
        return _Pass(len(published), tuple(refused), away)

    def _probing(self, front: _Pass, *, after: int) -> Steps[_Pass]:
        """Find out whether the broker is away or refuses just these: try the first messages of other keys.

        Otherwise one poisoned message and the followers of its key would fill the batch for ever. Each
        turn in vain looks further behind, so any number of refused messages is passed in the end.
        """
        start = max(after, self._probed)
        heads = yield from self._store.heads(start, self.batch_size, LONGEST_DELAY)
        others = yield from self._readable(heads)
        behind = yield from self._passing(others)
        if not behind.published:
            self._probed = others[-1].number if others else 0
        return behind._replace(refused=front.refused + behind.refused)

    def _settling(self, found: _Pass) -> Steps[int]:
        """Count refusals, and return how many messages were dealt with, or raise what the broker said.

        An error that is not `MessageRefused` counts against a message only when the broker took another
        in the same turn: a broker that takes nothing at all is away, whatever it says.
        """
        counted = [one for one in found.refused if found.published or isinstance(one[1], MessageRefused)]
        for one, error in counted:
            yield from self._refusing(one, error)
        if found.away:
            raise found.away
        if found.refused and not counted:
            self._said = found.refused[0][1]
            raise self._said
        return found.published + len(counted)

    def _ends(self, error: Exception) -> bool:
        # A broker of holdfast's own calls a message that it cannot carry a wrong argument; the next may be right.
        return isinstance(error, ConfigurationError) and error is not self._said

    def _holding(self) -> Steps[bool]:
        # Counted from before the question, so it never outlives what the store granted.
        asked = self._driver.clock.monotonic()
        if asked < self._held_until - self.lease / 2:
            return True
        held = yield from self._store.claim(self._owner, self.lease)
        self._held_until = asked + self.lease if held else float("-inf")
        return held

    def _leaving(self) -> Steps[None]:
        self._held_until = float("-inf")
        with contextlib.suppress(HoldfastError):  # the lease ends by itself
            yield from self._store.release(self._owner)

    def _removing(self, published: Sequence[Pending]) -> Steps[None]:
        if published:
            yield from self._store.remove([one.number for one in published])
            if signals.subscribers:
                oldest = max(one.age for one in published)
                signals.emit(OutboxPublished(messages=len(published), oldest_age=oldest))

    def _refusing(self, pending: Pending, error: Exception) -> Steps[None]:
        attempts = pending.attempts + 1
        if attempts < self.max_attempts:
            delay = backoff(attempts, self.retry_delay, self._driver.random)
            yield from self._store.refuse(pending.number, delay)
            return
        yield from self._burying(pending, described(error))

    def _burying(self, pending: Pending, text: str) -> Steps[None]:
        yield from self._store.bury(pending, text)
        tell_buried("", pending.message, pending.attempts + 1, text)

    def __repr__(self) -> str:
        return f"<Relay from {self._driver.place} to {self._broker!r}>"


def _tell_failure(error: Exception) -> None:
    if signals.subscribers:
        signals.emit(RelayFailed(error=error))
