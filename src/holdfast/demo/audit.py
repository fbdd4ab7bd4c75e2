"""The audit: four books, kept by four parties, must tell the same story.

The clients' log, the provider's ledger, the event store and the balances are compared, and what each
pattern promises is looked up in them. Every line can fail: `--without PATTERN` makes its line fail.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from holdfast.demo.client import Attempt, Clients
from holdfast.demo.orders import Order
from holdfast.demo.settings import TIERS, Settings, Tier

__all__ = ["Books", "Line", "audit", "read_provider"]

# What the patterns of the service are set to, as far as the audit needs it.
BULKHEAD_SLOTS = 8
SLOWEST_ANSWER = 14.0
# What a worker may ask a dead provider: what was under way when it died, and then its probes, with retries.
CALLS_UNDER_WAY, PROBES_PER_SECOND = 80, 16
LEAST_FROM_CACHE = 0.5
# What the service may answer on such a day: paid, another holds the order or the key (or has paid), above quota, and
# a provider that failed or was not asked. No answer at all is what a killed worker gives.
EXPECTED_ANSWERS = {201, 409, 429, 502, 503}
# From so many orders on, every fault must have had its turn.
ENOUGH_ORDERS = 100
NAMES_SHOWN, NAME_SHOWN = 3, 24


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the audit; `pattern` is what keeps it green."""

    title: str
    pattern: str
    ok: bool
    detail: str

    @property
    def verdict(self) -> str:
        """The line's first word."""
        return "ok" if self.ok else "FAIL"


@dataclass(frozen=True, slots=True)
class Books:
    """What the four parties wrote down.

    Attributes:
        charges: the provider's ledger, a dict per charge.
        events: payments in the event store, a dict per event.
        balances: account -> cents, as the consumer keeps them.
        provider: the provider's own figures.
        outage: when the provider was down, monotonic seconds (begin, end).
        cut_at_the_worst: who was killed at its worst moment.
    """

    orders: Sequence[Order]
    clients: Clients
    charges: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    balances: Mapping[str, int]
    provider: Mapping[str, Any]
    outage: tuple[float, float]
    cut_at_the_worst: frozenset[str]

    def line(self, title: str, pattern: str, *, ok: bool, detail: str, shown: bool = True) -> Line:
        """A line that is green only if what it is about has happened: `shown`.

        A handful of orders of the user's own may be over before every fault had its turn, so they are let off.
        """
        if shown or len(self.orders) < ENOUGH_ORDERS:
            return Line(title, pattern, ok, detail)
        return Line(title, pattern, ok=False, detail=f"{detail}; nothing happened that could show it")


def read_provider(file: Path) -> list[dict[str, Any]]:
    """The charges in the provider's ledger file."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [_without_stamp(line) for line in lines if line["event"] == "charge"]


def _without_stamp(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in {"at", "event"}}


def audit(books: Books, settings: Settings) -> list[Line]:
    """All lines, in the order in which they are printed."""
    return [
        _nothing_lost(books),
        _charged_once(books),
        _charged_as_ordered(books),
        _receipts_are_true(books),
        _same_answer(books),
        _answers_expected(books),
        _store_equals_provider(books),
        _none_missing(books),
        _none_twice(books),
        _quotas(books),
        _left_alone(books, settings),
        _hiccups_hidden(books),
        _answers_in_time(books),
        _bulkhead_held(books, settings),
        _reads_from_cache(books),
    ]


def _nothing_lost(books: Books) -> Line:
    paid = {a.payment.order.order for a in books.clients.attempts if a.status == HTTPStatus.CREATED}
    missing = [order.order for order in books.orders if order.order not in paid]
    given_up = [each.order.order for each in books.clients.unsettled if each.order.order in paid]
    why = _last_answers(books.clients)
    detail = f"{len(paid)} of {len(books.orders)} orders paid"
    detail += _some(missing, "without a receipt", why) + _some(given_up, "with a payer who gave up", why)
    return Line("every order is paid, nothing is lost", "all", not missing and not given_up, detail)


def _last_answers(clients: Clients) -> dict[str, str]:
    """Order -> how its last try ended, or that of the payer who gave up."""
    of_key = {attempt.payment.key: attempt.end for attempt in clients.attempts}
    last = {attempt.payment.order.order: attempt.end for attempt in clients.attempts}
    return last | {each.order.order: of_key.get(each.key, "none") for each in clients.unsettled}


def _charged_once(books: Books) -> Line:
    times = Counter(charge["order"] for charge in books.charges)
    wrong = [order.order for order in books.orders if times[order.order] != 1]
    unknown = set(times) - {order.order for order in books.orders}
    late = books.provider["fenced_off"]
    fenced = f", {late} late call{'s' if late != 1 else ''} fenced off" if late else ""
    detail = f"{len(books.charges)} charges{fenced} for {len(books.orders)} orders" + _some(
        [*wrong, *unknown], "not charged once"
    )
    return Line("every order is charged exactly once", "lock", not wrong and not unknown, detail)


def _charged_as_ordered(books: Books) -> Line:
    payments = {attempt.payment for attempt in books.clients.attempts}
    asked = {(each.order.order, each.payer, each.order.amount_cents) for each in payments}
    wrong = [c["order"] for c in books.charges if (c["order"], c["account"], c["amount_cents"]) not in asked]
    detail = f"amount and account of {len(books.charges)} charges compared" + _some(wrong, "not as ordered")
    return Line("every charge is what a client asked for", "all", not wrong, detail)


def _receipts_are_true(books: Books) -> Line:
    ledger = {charge["charge"]: charge for charge in books.charges}
    receipts = [attempt for attempt in books.clients.attempts if attempt.status == HTTPStatus.CREATED]
    wrong = [
        receipt.payment.order.order
        for receipt in receipts
        if receipt.body != ledger.get(receipt.body.get("charge"))
        or (receipt.body["order"], receipt.body["account"]) != (receipt.payment.order.order, receipt.payment.payer)
    ]
    detail = f"{len(receipts)} receipts looked up" + _some(wrong, "not there")
    return Line("every receipt is in the provider's ledger", "all", not wrong, detail)


def _same_answer(books: Books) -> Line:
    answers: dict[str, set[str]] = defaultdict(set)
    repeats = 0
    for attempt in books.clients.attempts:
        if attempt.final:
            repeats += attempt.payment.key in answers
            answers[attempt.payment.key].add(f"{attempt.status} {json.dumps(attempt.body, sort_keys=True)}")
    torn = [key for key, seen in answers.items() if len(seen) > 1]
    detail = f"{repeats} repeated requests" + _some(torn, "got another answer")
    return Line("a repeated request gets its first answer", "idempotency", not torn and repeats > 0, detail)


def _answers_expected(books: Books) -> Line:
    answers = Counter(attempt.status for attempt in books.clients.attempts if attempt.status is not None)
    odd = sorted(set(answers) - EXPECTED_ANSWERS)
    detail = f"{answers.total()} answers, legal are {', '.join(map(str, sorted(EXPECTED_ANSWERS)))}"
    counts = [f"{answers[status]} x {status}" for status in odd]
    return Line("no client gets an answer it cannot expect", "all", not odd, detail + _some(counts, "others"))


def _store_equals_provider(books: Books) -> Line:
    charged = Counter((c["charge"], c["order"], c["account"], c["amount_cents"]) for c in books.charges)
    recorded = Counter((e["charge"], e["order"], e["account"], e["amount_cents"]) for e in books.events)
    # A second charge of one order is the lock's line; here each recorded one must be real, and each order's there.
    extra = [entry[1] for entry in recorded - charged]
    missing = {c["order"] for c in books.charges} - {e["order"] for e in books.events}
    ok = not extra and not missing and len(recorded) == len(books.events)
    detail = f"{len(books.events)} events" + _some([*extra, *missing], "differ")
    return Line("event store and provider's ledger agree", "all", ok, detail)


def _replay(events: Iterable[Mapping[str, Any]]) -> Counter[str]:
    balances: Counter[str] = Counter()
    for event in events:
        balances[event["account"]] += event["amount_cents"]
    return balances


def _none_missing(books: Books) -> Line:
    replay = _replay(books.events)
    short = [account for account, cents in replay.items() if books.balances.get(account, 0) < cents]
    lost = sum(max(0, cents - books.balances.get(account, 0)) for account, cents in replay.items())
    detail = f"replay {_money(replay.total())}, balances {_money(sum(books.balances.values()))}"
    return books.line(
        "no payment is missing from the balances",
        "outbox",
        ok=not short,
        detail=detail + _lack(lost, "missing"),
        shown="relay" in books.cut_at_the_worst and bool(books.events),
    )


def _none_twice(books: Books) -> Line:
    replay = _replay(books.events)
    over = sum(max(0, cents - replay[account]) for account, cents in books.balances.items())
    unknown = [account for account in books.balances if account not in replay]
    detail = f"{len(books.balances)} accounts compared with a replay"
    return books.line(
        "no payment is booked twice",
        "dedup",
        ok=over == 0 and not unknown,
        detail=detail + _lack(over, "too much") + _some(unknown, "without a payment"),
        shown="consumer" in books.cut_at_the_worst and bool(books.balances),
    )


def _quotas(books: Books) -> Line:
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for attempt in books.clients.attempts:
        if attempt.status is not None and attempt.status != HTTPStatus.TOO_MANY_REQUESTS:
            spans[attempt.payment.order.api_key].append((attempt.sent, attempt.received))
    excess = {key: _excess(requests, TIERS[key.partition("-")[0]]) for key, requests in spans.items()}
    refused = sum(attempt.status == HTTPStatus.TOO_MANY_REQUESTS for attempt in books.clients.attempts)
    over = [key for key, more in excess.items() if more > 0]
    detail = f"{len(spans)} keys, {refused} requests refused" + _some(over, "above quota")
    return books.line("no API key is above its quota", "ratelimit", ok=not over, detail=detail, shown=bool(spans))


def _excess(requests: list[tuple[float, float]], tier: Tier) -> float:
    """By how many requests the worst window between a sending and a receiving exceeds the tier."""
    requests.sort()
    worst = 0.0
    for begin, (sent, _) in enumerate(requests):
        received = sorted(answer for _, answer in requests[begin:])
        allowed = (tier.capacity + tier.refill_rate * (answer - sent) for answer in received)
        worst = max(worst, *(count - most for count, most in enumerate(allowed, start=1)))
    return worst


def _left_alone(books: Books, settings: Settings) -> Line:
    calls = int(books.provider["calls_while_down"])
    seconds = books.outage[1] - books.outage[0]
    bound = round((CALLS_UNDER_WAY + PROBES_PER_SECOND * seconds) * len(settings.addresses.worker_ports))
    detail = f"{calls} calls in an outage of {seconds:.1f} s (at most {bound})"
    shown = seconds > 0 and calls > 0
    return books.line("a provider that is down is left alone", "breaker", ok=calls <= bound, detail=detail, shown=shown)


def _hiccups_hidden(books: Books) -> Line:
    begin, end = books.outage
    failed = [attempt for attempt in books.clients.attempts if attempt.code == "provider-failed"]
    seen = [attempt for attempt in failed if attempt.received < begin or attempt.sent > end]
    detail = f"{len(seen)} errors of the provider reached a client outside its outage"
    shown = "hiccup" in books.provider["moods"]
    return books.line("the provider's hiccups stay hidden", "retry", ok=not seen, detail=detail, shown=shown)


def _answers_in_time(books: Books) -> Line:
    slowest = max((a.received - a.sent for a in books.clients.attempts), default=0.0)
    detail = f"slowest answer {slowest:.2f} s (at most {SLOWEST_ANSWER:g} s)"
    ok, shown = slowest <= SLOWEST_ANSWER, "hang" in books.provider["moods"]
    return books.line("a provider that hangs does not hang the client", "timeout", ok=ok, detail=detail, shown=shown)


def _bulkhead_held(books: Books, settings: Settings) -> Line:
    most = int(books.provider["most_busy"])
    bound = BULKHEAD_SLOTS * len(settings.addresses.worker_ports)
    detail = f"at most {most} charges at once (allowed {bound})"
    return books.line("the provider is never flooded", "bulkhead", ok=most <= bound, detail=detail, shown=most > 0)


def _reads_from_cache(books: Books) -> Line:
    share = books.clients.reads_from_cache / max(1, books.clients.reads)
    detail = f"{books.clients.reads_from_cache} of {books.clients.reads} reads from the cache ({share:.0%})"
    return Line("balances are read from the edge", "cache", share >= LEAST_FROM_CACHE, detail)


def _some(names: Sequence[str], what: str, why: Mapping[str, str] | None = None) -> str:
    if not names:
        return ""
    reasons = {name: f" (last answer: {why.get(name, 'none')})" if why else "" for name in names[:NAMES_SHOWN]}
    shown = ", ".join(f"{_short(name)}{reason}" for name, reason in reasons.items())
    return f"; {len(names)} {what}: {shown}{', ...' if len(names) > NAMES_SHOWN else ''}"


def _short(name: str) -> str:
    return name if len(name) <= NAME_SHOWN else f"{name[: NAME_SHOWN - 3]}..."


def _money(cents: int) -> str:
    return f"{cents / 100:,.2f}"


def _lack(cents: int, what: str) -> str:
    return f"; {_money(cents)} {what}" if cents else ""


def attempts_by_status(attempts: Iterable[Attempt]) -> Counter[str]:
    """How many attempts ended how, for the view."""
    return Counter(str(attempt.status) if attempt.status else "no answer" for attempt in attempts)
