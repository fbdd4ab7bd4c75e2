"""The audit: four books, kept by four parties, must tell the same story.

The clients' log, the provider's ledger, the event store and the balances are compared, and what each
pattern promises is looked up in them. Every line can fail: `--without PATTERN` makes its line fail.
A line about a fault that did not happen is not green: it was not shown.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from holdfast.demo.client import Clients
from holdfast.demo.evidence import Books, Line
from holdfast.demo.settings import BULKHEAD_SLOTS, HANG_SECONDS, PROVIDER_TIMEOUT, TIERS, Settings, Tier

__all__ = ["audit"]

# Who waits longer has no timeout, however busy the machine is.
LONGEST_WAIT, SLOWEST_ANSWER = 3 * PROVIDER_TIMEOUT, HANG_SECONDS - 1
# What a worker may ask a dead provider: what was under way when it died, and then its probes, with retries.
CALLS_UNDER_WAY, PROBES_PER_SECOND = 80, 16
MOST_FROM_SERVICE = 0.5
# So few reads of the balances may all have come before there was anything to answer them from.
ENOUGH_READS = 20
# What the service may answer on such a day: paid, another holds the order or the key (or has paid), above quota, and
# a provider that failed or was not asked. No answer at all is what a killed worker gives.
EXPECTED_ANSWERS = {201, 409, 429, 502, 503, 504}
NAMES_SHOWN, NAME_SHOWN = 3, 24


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
    detail = f"{len(books.charges)} charges{fenced} for {len(books.orders)} orders"
    payers = {(attempt.payment.order.order, attempt.payment.payer) for attempt in books.clients.attempts}
    return books.line(
        "every order is charged exactly once",
        "lock",
        ok=not wrong and not unknown,
        detail=detail + _some([*wrong, *unknown], "not charged once"),
        shown=len(payers) > len({order for order, _ in payers}),
        takes="an order that two people pay",
    )


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
    return books.line(
        "a repeated request gets its first answer",
        "idempotency",
        ok=not torn,
        detail=detail,
        shown=repeats > 0,
        takes="a request that is answered twice",
    )


def _answers_expected(books: Books) -> Line:
    answers = Counter(attempt.status for attempt in books.clients.attempts if attempt.status is not None)
    odd = sorted(set(answers) - EXPECTED_ANSWERS)
    detail = f"{answers.total()} answers, legal are {', '.join(map(str, sorted(EXPECTED_ANSWERS)))}"
    others = f"; others: {', '.join(f'{answers[status]} x {status}' for status in odd)}" if odd else ""
    return Line("no client gets an answer it cannot expect", "all", not odd, detail + others)


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
        # The relay's, and without an outbox a worker's, which then publishes by itself.
        shown=bool(books.cut_at_the_worst - {"consumer"}),
        takes="a kill between committing and publishing",
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
        shown="consumer" in books.cut_at_the_worst,
        takes="a kill of the consumer between booking and saying so",
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
    return books.line(
        "no API key is above its quota",
        "ratelimit",
        ok=not over,
        detail=detail,
        shown=refused > 0,
        takes="more requests of one account than its tier allows",
    )


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
    return books.line(
        "a provider that is down is left alone",
        "breaker",
        ok=calls <= bound,
        detail=detail,
        shown=any(attempt.code == "circuit-open" for attempt in books.clients.attempts),
        takes="so many payments during the outage that a circuit opens",
    )


def _hiccups_hidden(books: Books) -> Line:
    begin, end = books.outage
    failed = [attempt for attempt in books.clients.attempts if attempt.code == "provider-failed"]
    seen = [attempt for attempt in failed if attempt.received < begin or attempt.sent > end]
    detail = f"{len(seen)} errors of the provider reached a client outside its outage"
    return books.line(
        "the provider's hiccups stay hidden",
        "retry",
        ok=not seen,
        detail=detail,
        shown="hiccup" in books.provider["moods"],
        takes="a hiccup, which every tenth charge has",
    )


def _answers_in_time(books: Books) -> Line:
    slowest = max((a.received - a.sent for a in books.clients.attempts), default=0.0)
    # A worker that is killed, or loses the order's lock, ends a wait early; so the provider's figure tells more.
    waited = float(books.provider["longest_wait"])
    return books.line(
        "a provider that hangs does not hang the client",
        "timeout",
        ok=waited <= LONGEST_WAIT and slowest <= SLOWEST_ANSWER,
        detail=f"a hang was waited for {waited:.1f} s (at most {LONGEST_WAIT:g} s), slowest answer {slowest:.1f} s",
        shown="hang" in books.provider["moods"],
        takes="a call that hangs, as the third charge does",
    )


def _bulkhead_held(books: Books, settings: Settings) -> Line:
    most = int(books.provider["most_busy"])
    bound = BULKHEAD_SLOTS * len(settings.addresses.worker_ports)
    detail = f"at most {most} charges at once (allowed {bound})"
    return books.line(
        "the provider is never flooded",
        "bulkhead",
        ok=most <= bound,
        detail=detail,
        shown=most >= BULKHEAD_SLOTS,
        takes=f"at least {BULKHEAD_SLOTS} charges at once",
    )


def _reads_from_cache(books: Books) -> Line:
    reads, hits = books.clients.reads, books.clients.reads_from_cache
    return books.line(
        "balances are read from the edge",
        "cache",
        ok=reads - hits <= MOST_FROM_SERVICE * reads,
        detail=f"{hits} of {reads} reads from the cache ({hits / max(1, reads):.0%})",
        shown=reads >= ENOUGH_READS,
        takes=f"at least {ENOUGH_READS} reads of the balances",
    )


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
