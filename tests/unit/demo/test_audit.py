"""The audit can fail: small books that are true, and then each fact in them falsified."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from holdfast.demo.audit import audit
from holdfast.demo.client import Attempt, Clients, Payment
from holdfast.demo.evidence import Books, Line, ends, failures
from holdfast.demo.orders import Order
from holdfast.demo.settings import Addresses, Settings

Row = dict[str, Any]
SETTINGS = Settings(Path("nowhere"), Addresses("", "", "", provider_port=1, worker_ports=(2, 3)))
ORDERS = [Order(f"o-{number}", f"account-{number % 3}", 100 + number, "free") for number in range(9)]
OUTAGE = (10.0, 13.0)


def attempt(payment: Payment, sent: float, status: int | None, body: Row) -> Attempt:
    """One try that took half a second."""
    return Attempt(payment, sent, sent + 0.5, status, body)


def problem(code: str) -> Row:
    """The body of a refusal."""
    return {"type": f"https://holdfast.dev/problems/{code}"}


def charge(number: int, order: Order) -> Row:
    """What the provider writes down for an order of its own account."""
    return {
        "charge": f"ch_{number:06d}",
        "key": f"key of {order.order}",
        "order": order.order,
        "account": order.account,
        "amount_cents": order.amount_cents,
    }


def true_books() -> Books:
    """A day on which every fault had its turn, and nothing went wrong."""
    charges = [charge(number, order) for number, order in enumerate(ORDERS)]
    clients = Clients(SETTINGS, ORDERS)
    payments = [Payment(order, order.account, f"key-{order.order}") for order in ORDERS]
    friend = Payment(ORDERS[0], "friend", "key-friend")
    for number, (payment, paid) in enumerate(zip(payments, charges, strict=True)):
        clients.attempts.append(attempt(payment, 20.0 + number, 201, paid))
    clients.attempts += [
        attempt(payments[0], 20.0, 201, charges[0]),
        attempt(friend, 21.0, 409, problem("already-paid")),
        attempt(payments[1], 11.0, 503, problem("circuit-open")),
        attempt(payments[1], 10.5, 502, problem("provider-failed")),
        attempt(payments[2], 18.0, 429, problem("rate-limited")),
        attempt(payments[2], 18.5, None, {}),
    ]
    clients.reads, clients.reads_from_cache = 100, 98
    return Books(
        orders=ORDERS,
        clients=clients,
        charges=charges,
        events=[dict(each) for each in charges],
        balances=balances(charges),
        provider={
            "calls_while_down": 40,
            "most_busy": 14,
            "longest_wait": 2.1,
            "fenced_off": 0,
            "moods": {"hiccup": 1, "hang": 1, "lost": 1, "fine": 6},
        },
        outage=OUTAGE,
        cut_at_the_worst=frozenset({"relay", "consumer"}),
        must_show_all=True,
    )


def balances(charges: Sequence[Row]) -> dict[str, int]:
    """What each account has paid."""
    sums: dict[str, int] = {}
    for each in charges:
        sums[each["account"]] = sums.get(each["account"], 0) + each["amount_cents"]
    return sums


def failed(lines: list[Line]) -> set[str]:
    """The titles of the lines that are red."""
    return {line.title for line in lines if not line.ok}


# -- How books are falsified -----------------------------------------------------------------------------------------

Falsify = Callable[[Books], Books]


def everywhere(change: Row | Callable[[Row], Row]) -> Falsify:
    """All four parties agree on what nobody asked for."""

    def falsify(books: Books) -> Books:
        altered = [row | (change(row) if callable(change) else change) for row in books.charges]
        for index, one in enumerate(books.clients.attempts):
            if one.status == 201:
                row = next(row for row in altered if row["charge"] == one.body["charge"])
                books.clients.attempts[index] = replace(one, body=row)
        return replace(books, charges=altered, events=altered, balances=balances(altered))

    return falsify


def first(name: str, **change: object) -> Falsify:
    """One row of `name` (charges or events) says something else."""

    def falsify(books: Books) -> Books:
        head, *rest = getattr(books, name)
        return replace(books, **{name: [head | change, *rest]})

    return falsify


def without_first(name: str) -> Falsify:
    """One row of `name` is missing."""
    return lambda books: replace(books, **{name: getattr(books, name)[1:]})


def one_more(name: str, **change: object) -> Falsify:
    """One row of `name` is there again."""
    return lambda books: replace(books, **{name: [*getattr(books, name), getattr(books, name)[0] | change]})


def balance(account: str, cents: int) -> Falsify:
    """One account is told another balance."""
    return lambda books: replace(books, balances={**books.balances, account: cents})


def provider(**figures: object) -> Falsify:
    """The provider counted otherwise."""
    return lambda books: replace(books, provider={**books.provider, **figures})


def clients(**values: object) -> Falsify:
    """The clients counted otherwise."""

    def falsify(books: Books) -> Books:
        for name, value in values.items():
            setattr(books.clients, name, value)
        return books

    return falsify


def receipts(**change: object) -> Falsify:
    """Every receipt says something that the ledger does not."""

    def falsify(books: Books) -> Books:
        books.clients.attempts = [
            replace(one, body=one.body | change) if one.status == 201 else one for one in books.clients.attempts
        ]
        return books

    return falsify


def no_answers(status: int) -> Falsify:
    """Nobody was answered so."""

    def falsify(books: Books) -> Books:
        books.clients.attempts = [one for one in books.clients.attempts if one.status != status]
        return books

    return falsify


def more(status: int | None, code: str = "", *, times: int = 1, sent: float = 30.0, seconds: float = 0.5) -> Falsify:
    """More tries of the second order's payer, which ended so."""

    def falsify(books: Books) -> Books:
        payment = next(one.payment for one in books.clients.attempts if one.payment.order is ORDERS[1])
        one = Attempt(payment, sent, sent + seconds, status, problem(code))
        books.clients.attempts += [one] * times
        return books

    return falsify


def another_first_answer(books: Books) -> Books:
    """The request that was sent twice is answered with a charge that is real, but not the first answer."""
    index = next(i for i, one in enumerate(books.clients.attempts[1:], 1) if one.payment.order is ORDERS[0])
    again = replace(books.clients.attempts[index], body=dict(books.charges[1]))
    books.clients.attempts[index] = again
    return books


class Fraud(NamedTuple):
    """One falsified fact, and the line that must find it."""

    what: str
    title: str
    falsify: Falsify


PAID, ONCE = "every order is paid, nothing is lost", "every order is charged exactly once"
ASKED, RECEIPT = "every charge is what a client asked for", "every receipt is in the provider's ledger"
REPEATED, EXPECTED = "a repeated request gets its first answer", "no client gets an answer it cannot expect"
STORE = "event store and provider's ledger agree"
MISSING, TWICE = "no payment is missing from the balances", "no payment is booked twice"
QUOTA, ALONE = "no API key is above its quota", "a provider that is down is left alone"
HICCUPS, HANGS = "the provider's hiccups stay hidden", "a provider that hangs does not hang the client"
FLOODED, EDGE = "the provider is never flooded", "balances are read from the edge"

FRAUDS = [
    Fraud("nobody is told that the order is paid", PAID, no_answers(201)),
    Fraud("a payer gives up", PAID, clients(unsettled=[Payment(ORDERS[0], "friend", "key-friend")])),
    Fraud("a charge is missing", ONCE, without_first("charges")),
    Fraud("an order is charged twice", ONCE, one_more("charges", charge="ch_999999", key="another")),
    Fraud("a charge for an order that is not there", ONCE, one_more("charges", charge="ch_999999", order="ghost")),
    Fraud("ten times the price", ASKED, everywhere(lambda row: {"amount_cents": row["amount_cents"] * 10})),
    Fraud("a cent too much, once", ASKED, first("charges", amount_cents=101)),
    Fraud("another's account", ASKED, everywhere({"account": "mallory"})),
    Fraud("an account that pays other orders", ASKED, first("charges", account="account-1")),
    Fraud("a charge that does not exist", RECEIPT, receipts(charge="ch_BOGUS")),
    Fraud("a receipt over another amount", RECEIPT, receipts(amount_cents=0)),
    Fraud("a receipt with another key", RECEIPT, receipts(key="another")),
    Fraud("a receipt that says more than the ledger", RECEIPT, receipts(discount=5)),
    Fraud("an empty receipt", RECEIPT, more(201)),
    Fraud("the receipt of another order", RECEIPT, another_first_answer),
    Fraud("the ledger has another key", RECEIPT, first("charges", key="another")),
    Fraud("another answer the second time", REPEATED, another_first_answer),
    Fraud("5,000 answers 500", EXPECTED, more(500, times=5000)),
    Fraud("one answer 500", EXPECTED, more(500)),
    Fraud("one answer 422", EXPECTED, more(422, "validation")),
    Fraud("one answer 200", EXPECTED, more(200)),
    Fraud("an event is missing", STORE, without_first("events")),
    Fraud("an event is there twice", STORE, one_more("events")),
    Fraud("an event of another charge", STORE, first("events", charge="ch_BOGUS")),
    Fraud("an event of another order", STORE, first("events", order="ghost")),
    Fraud("an event of another account", STORE, first("events", account="account-1")),
    Fraud("an event over another amount", STORE, first("events", amount_cents=1)),
    Fraud("a cent is missing", MISSING, balance("account-0", 308)),
    Fraud("an account is missing", MISSING, lambda books: replace(books, balances={"account-0": 309})),
    Fraud("a cent too much", TWICE, balance("account-0", 310)),
    Fraud("a balance of somebody who paid nothing", TWICE, balance("ghost", 0)),
    Fraud("20 requests of a free key at once", QUOTA, more(503, times=20, sent=50.0)),
    Fraud("the dead provider is called all the time", ALONE, provider(calls_while_down=1000)),
    Fraud("its error reaches a client after the outage", HICCUPS, more(502, "provider-failed")),
    Fraud("its error reaches a client before the outage", HICCUPS, more(502, "provider-failed", sent=5.0)),
    Fraud("a hanging call is waited for", HANGS, provider(longest_wait=12.3)),
    Fraud("an answer after 25 s", HANGS, more(503, seconds=25.0)),
    Fraud("no answer for 25 s", HANGS, more(None, seconds=25.0)),
    Fraud("17 charges at once", FLOODED, provider(most_busy=17)),
    Fraud("half the reads reach the service", EDGE, clients(reads_from_cache=49)),
]


def no_second(books: Books) -> Books:
    """Every request was sent once, by one payer."""
    attempts = books.clients.attempts
    books.clients.attempts = [one for one in attempts if one.sent != 20.0 and one.payment.payer != "friend"]
    first_one = attempt(Payment(ORDERS[0], ORDERS[0].account, "key-o-0"), 20.0, 201, dict(books.charges[0]))
    books.clients.attempts.append(first_one)
    return books


def without_mood(mood: str) -> Falsify:
    """The provider never had this mood."""
    return lambda books: provider(moods={name: 1 for name in books.provider["moods"] if name != mood})(books)


def only_cut(name: str) -> Falsify:
    """Only this one was killed at its worst moment."""
    return lambda books: replace(books, cut_at_the_worst=frozenset({name}))


# What did not happen, the line that it would have put to the test, and the day without it.
UNEVENTFUL = [
    Fraud("no order had two payers", ONCE, no_second),
    Fraud("no request was sent twice", REPEATED, no_second),
    Fraud("the relay was not killed at its worst", MISSING, only_cut("consumer")),
    Fraud("the consumer was not killed at its worst", TWICE, only_cut("relay")),
    Fraud("nobody was refused", QUOTA, no_answers(429)),
    Fraud("no circuit opened", ALONE, no_answers(503)),
    Fraud("the provider had no hiccup", HICCUPS, without_mood("hiccup")),
    Fraud("the provider never hung", HANGS, without_mood("hang")),
    Fraud("at most one charge at once", FLOODED, provider(most_busy=1)),
    Fraud("nobody read a balance", EDGE, clients(reads=0, reads_from_cache=0)),
]


def test_true_books_are_green() -> None:
    assert {line.verdict for line in audit(true_books(), SETTINGS)} == {"ok"}


@pytest.mark.parametrize("day", UNEVENTFUL, ids=lambda day: day.what)
def test_a_fault_that_did_not_come_is_no_proof(day: Fraud) -> None:
    """With the shipped orders that is red; a user's own are let off, but the line is not green."""
    shipped = next(line for line in audit(day.falsify(true_books()), SETTINGS) if line.title == day.title)
    own_books = replace(day.falsify(true_books()), must_show_all=False)
    own = next(line for line in audit(own_books, SETTINGS) if line.title == day.title)
    assert (shipped.verdict, own.verdict) == ("FAIL", "not shown")
    assert "; to show it takes " in own.detail
    assert shipped.detail == own.detail


def test_a_worker_that_dies_without_an_outbox_shows_what_it_is_for() -> None:
    """The line is red for the money that is missing, and says nothing else."""
    books = balance("account-0", 208)(replace(true_books(), cut_at_the_worst=frozenset({"worker-1", "consumer"})))
    line = next(line for line in audit(books, SETTINGS) if line.title == MISSING)
    assert line.verdict == "FAIL"
    assert line.detail == "replay 9.36, balances 8.35; 1.01 missing"


@pytest.mark.parametrize("fraud", FRAUDS, ids=lambda fraud: fraud.what)
def test_a_falsified_fact_reddens_its_line(fraud: Fraud) -> None:
    assert fraud.title in failed(audit(fraud.falsify(true_books()), SETTINGS))


def test_every_line_has_a_fact_that_reddens_it() -> None:
    assert {fraud.title for fraud in FRAUDS} == {line.title for line in audit(true_books(), SETTINGS)}


def test_an_order_without_receipt_says_what_it_was_answered_last() -> None:
    """The reason is on the screen, not only in a log."""
    books = no_answers(201)(true_books())
    paid = next(line for line in audit(books, SETTINGS) if line.title == PAID)
    assert "9 without a receipt: o-0 (last answer: 409 already-paid)" in paid.detail
    assert "o-2 (last answer: no answer), ..." in paid.detail


def test_a_payer_who_gives_up_is_named_although_the_order_is_paid() -> None:
    books = more(422, "validation")(true_books())
    books.clients.unsettled.append(books.clients.attempts[-1].payment)
    paid = next(line for line in audit(books, SETTINGS) if line.title == PAID)
    assert paid.detail == "9 of 9 orders paid; 1 with a payer who gave up: o-1 (last answer: 422 validation)"


def test_tries_are_counted_by_how_they_ended() -> None:
    """Refusals are no failures: there the service did its work."""
    attempts = more(500, times=3)(true_books()).clients.attempts
    assert (ends(attempts)["201"], ends(attempts)["429 rate-limited"]) == (10, 1)
    assert list(failures(attempts).items()) == [
        ("500", 3),
        ("503 circuit-open", 1),
        ("502 provider-failed", 1),
        ("no answer", 1),
    ]
