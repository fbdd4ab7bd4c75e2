"""Which policy goes around which, and the check that refuses any other order.

Every policy decorator leaves a mark on the function it returns: `__holdfast_policies__`, a tuple of
`Applied`, outermost first. A decorator looks at the mark of the function it is given *before* it wraps
it, so a wrong stack is refused while its module is imported, not in the first outage.

Why this order, from the outside in:

- `fallback` answers for whatever failed below it, an open circuit too;
- `circuit_breaker` is outside `retry`, so it counts one failed operation and not three, and an open
  circuit is not asked again by every attempt;
- `timeout` is inside `retry`, so each attempt has the full time;
- `bulkhead` is inside `timeout`, so waiting for a slot is part of the time, and inside `retry`, so no
  slot is held during a back-off;
- `rate_limit` is innermost, so it counts real calls.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from holdfast.errors import ConfigurationError

__all__ = ["MARK", "ORDER", "Applied", "applied_to", "check_order", "mark"]

MARK = "__holdfast_policies__"

# Outermost first: the names of the decorators.
ORDER = ("fallback", "circuit_breaker", "retry", "hedge", "timeout", "bulkhead", "rate_limit")
_RANK = {kind: rank for rank, kind in enumerate(ORDER)}

# Two of these on one function are a mistake; two breakers (per host, overall) or bulkheads are not.
_ONCE = {
    "retry": "their attempts multiply: 3 x 3 are 9 calls",
    "hedge": "their calls multiply",
    "timeout": "only the shorter one counts",
}

_WHY = {
    ("retry", "circuit_breaker"): "every attempt would ask the open circuit again, and count as a failure",
    ("timeout", "retry"): "it would cut the attempts short; bound them all with retry(max_time=...)",
    ("bulkhead", "retry"): "a slot would be held, unused, during every back-off",
    ("bulkhead", "timeout"): "waiting for a slot would not be part of the time",
}


class Applied(NamedTuple):
    """One policy that was put around a function."""

    kind: str
    policy: object


def applied_to(function: object) -> tuple[Applied, ...]:
    """Return the policies around `function`, outermost first.

    A `functools.partial` is as guarded as what it calls, and an object as its `__call__`.
    """
    while isinstance(function, partial) and not hasattr(function, MARK):
        function = function.func
    marks: tuple[Applied, ...] = getattr(function, MARK, ())
    if not marks:
        marks = getattr(getattr(type(function), "__call__", None), MARK, ())  # noqa: B004 - not a test for callability
    return marks


def check_order(kind: str, function: object, *, name: str) -> None:
    """Refuse to put a policy of `kind` around `function` when one already there must be outside it.

    Raises:
        ConfigurationError: names both decorators, the reason, and the right order for this function.
    """
    inside = [applied.kind for applied in applied_to(function)]
    for other in inside:
        if _RANK[kind] > _RANK[other]:
            raise ConfigurationError(_wrong_order(kind, other, inside, name), policies=(kind, *inside))
    if kind in inside and kind in _ONCE:
        message = f"{name} has @{kind} twice: {_ONCE[kind]}. Keep one of them"
        raise ConfigurationError(message, policies=(kind, *inside))


def mark(wrapper: Any, kind: str, policy: object, function: object) -> None:
    """Note on `wrapper` that a policy of `kind` was put around `function`."""
    setattr(wrapper, MARK, (Applied(kind, policy), *applied_to(function)))


def _wrong_order(kind: str, other: str, inside: list[str], name: str) -> str:
    reason = _WHY.get((kind, other))
    right = sorted([kind, *inside], key=_RANK.__getitem__)
    return (
        f"{name} has @{kind} outside @{other}{': ' + reason if reason else ''}. "
        f"Write, from the top: {', '.join('@' + each for each in right)} "
        f"(the full order: {' > '.join(ORDER)} > call)"
    )
