"""Aggregates are the sum of their events; the contract suite tests them with stores."""

import pytest

import holdfast
from holdfast.errors import ConfigurationError, InvalidKey, OutcomeUnknown
from holdfast.events import Aggregate, Event, EventStore, when


class Account(Aggregate):
    def __init__(self) -> None:
        self.log: list[str] = []

    @when("opened", "reopened")
    def _opened(self, event: Event) -> None:
        self.log.append(event.type)


class Savings(Account):
    @when("reopened")
    def _reopened(self, event: Event) -> None:
        self.log.append("savings")

    @when("rated")
    def _rated(self, event: Event) -> None:
        self.log.append(str(event.data["rate"]))


def test_a_subclass_adds_and_replaces_methods() -> None:
    savings, account = Savings(), Account()
    for event in (Event("opened"), Event("reopened"), Event("rated", {"rate": 2})):
        savings.apply(event)
    assert savings.log == ["opened", "savings", "2"]
    account.apply(Event("reopened"))
    assert account.log == ["reopened"]


def test_an_event_that_nobody_applies_is_an_error_that_names_it() -> None:
    account = Account()
    with pytest.raises(ConfigurationError, match=r"Account .*'closed'"):
        account.record("closed", {})
    assert account.pending == ()


def test_a_mark_without_a_type_is_refused() -> None:
    with pytest.raises(InvalidKey):
        when("")


def test_saving_again_after_an_unknown_outcome_stores_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The events were stored, the answer was lost: the same events at the same version are recognised."""
    with holdfast.connect("memory://") as backend:
        store = EventStore(backend)
        account = Account.load(store, "a")
        account.record("opened", {})
        call = backend.call  # type: ignore[attr-defined]

        def lose_the_answer(request: object) -> None:
            call(request)
            monkeypatch.undo()
            raise OutcomeUnknown("lost", backend="memory", operation="append")

        monkeypatch.setattr(backend, "call", lose_the_answer)
        with pytest.raises(OutcomeUnknown):
            account.save(store)
        assert (account.version, len(account.pending)) == (0, 1)
        assert account.save(store) == 1
        assert len(store.read("a")) == 1


def test_a_stream_longer_than_a_page_is_loaded_whole() -> None:
    with holdfast.connect("memory://") as backend:
        store = EventStore(backend)
        store.append("a", [Event("opened") for _ in range(2500)], expected_version=0)
        assert Account.load(store, "a").version == 2500
