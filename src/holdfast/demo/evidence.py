"""What the four parties wrote down, and what one line of the audit says of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.demo.client import NO_ANSWER, Attempt, Clients
from holdfast.demo.orders import Order

__all__ = ["Books", "Line", "ends", "failures", "read_provider"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the audit; `pattern` is what keeps it green.

    Attributes:
        ok: whether the books bear it out.
        shown: whether anything happened that could have shown the opposite.
    """

    title: str
    pattern: str
    ok: bool
    detail: str
    shown: bool = True

    @property
    def verdict(self) -> str:
        """The line's first word: "ok", "FAIL" or "not shown"."""
        if not self.ok:
            return "FAIL"
        return "ok" if self.shown else "not shown"


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
        must_show_all: whether every fault has to have had its turn, as it has with the shipped orders.
    """

    orders: Sequence[Order]
    clients: Clients
    charges: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    balances: Mapping[str, int]
    provider: Mapping[str, Any]
    outage: tuple[float, float]
    cut_at_the_worst: frozenset[str]
    must_show_all: bool

    def line(self, title: str, pattern: str, *, ok: bool, detail: str, shown: bool, takes: str) -> Line:
        """A line that is green only if what it is about has happened: `shown`.

        A user's own orders may give no occasion for it. Then the line is neither green nor red, and says what it
        `takes`; with the shipped orders it is red, since a fault that never came proves nothing.
        """
        if shown or not ok:
            return Line(title, pattern, ok, detail)
        return Line(title, pattern, not self.must_show_all, f"{detail}; to show it takes {takes}", shown=False)


def read_provider(file: Path) -> list[dict[str, Any]]:
    """The charges in the provider's ledger file."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [_without_stamp(line) for line in lines if line["event"] == "charge"]


def _without_stamp(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in {"at", "event"}}


def ends(attempts: Iterable[Attempt]) -> Counter[str]:
    """How many tries ended how."""
    return Counter(attempt.end for attempt in attempts)


def failures(attempts: Iterable[Attempt]) -> Counter[str]:
    """Those of the ends that are the service's or its provider's fault, most frequent first."""
    failed = {end: count for end, count in ends(attempts).items() if end == NO_ANSWER or end >= "5"}
    return Counter(dict(sorted(failed.items(), key=lambda item: -item[1])))
