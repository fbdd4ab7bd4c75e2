"""Names and numbers that are members of an enum stand for their values, on every store."""

from collections.abc import Iterator
from enum import Enum, IntEnum, StrEnum

import pytest

from holdfast import backends
from holdfast.backends import SyncBackend, migrations
from holdfast.events import ANY, Event, EventStore, Outbox
from holdfast.idempotency import idempotency_key, idempotent_execute
from holdfast.ratelimit import TokenBucketLimiter


class Mixed(str, Enum):  # noqa: UP042 - f"{Mixed.REPORT}" is "Mixed.REPORT", as in the code of many
    REPORT = "report"


class Plain(StrEnum):
    REPORT = "report"


class Size(IntEnum):
    TWO = 2


@pytest.fixture(params=["memory", "sqlite", "redis", "postgres"])
def store(request: pytest.FixtureRequest) -> Iterator[SyncBackend]:
    urls = {"memory": "memory://", "sqlite": "sqlite:///:memory:"}
    url = urls.get(request.param) or request.getfixturevalue(f"{request.param}_url")
    with backends.connect(url) as backend:
        if request.param == "postgres":
            migrations.migrate(backend)
        yield backend


@pytest.mark.parametrize("member", [Mixed.REPORT, Plain.REPORT])
def test_a_member_and_its_value_share_a_bucket(store: SyncBackend, member: str) -> None:
    """As name and as key; Redis formatted them, so each had a limit of its own."""
    by_member = TokenBucketLimiter(store, capacity=3, refill_rate=0.001, name=member)
    by_value = TokenBucketLimiter(store, capacity=3, refill_rate=0.001, name="report")
    assert by_member.acquire(member, cost=Size.TWO).remaining == 1
    assert not by_value.is_allowed("report", cost=2)


@pytest.mark.parametrize("member", [Mixed.REPORT, Plain.REPORT])
def test_a_member_and_its_value_are_one_idempotency_key(store: SyncBackend, member: str) -> None:
    """As scope, endpoint and key."""
    first = idempotent_execute(store, member, member, lambda: "first", scope=member, lease=5.0)
    second = idempotent_execute(store, "report", "report", lambda: "second", scope="report", lease=5.0)
    assert (first, second) == ("first", "first")
    assert idempotency_key("a", namespace=member) == idempotency_key("a", namespace="report")


@pytest.mark.parametrize("member", [Mixed.REPORT, Plain.REPORT])
def test_a_member_and_its_value_are_one_stream(store: SyncBackend, member: str) -> None:
    """As stream and event type; a message takes them, too."""
    if store.dialect == "redis":
        pytest.skip("Redis keeps no events")
    events = EventStore(store)
    assert events.append(member, [Event(member)], expected_version=0) == 1
    assert events.append("report", [Event("report")], expected_version=ANY) == 2
    read = events.read(member)
    assert [(event.stream, event.type) for event in read] == [("report", "report")] * 2
    assert {type(text) for event in read for text in (event.stream, event.type)} == {str}
    assert Outbox(store).add(member, {}, key=member, message_id=member) == "report"
