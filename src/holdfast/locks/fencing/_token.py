"""What a fencing token may be, and how a stale one is told."""

from __future__ import annotations

from holdfast import checks
from holdfast.errors import ConfigurationError, StaleToken

__all__ = ["legal_token", "stale"]

# What Lua, and JavaScript on the way, count exactly. The tokens of holdfast get there in the year 2255.
GREATEST = 2**53


def legal_token(token: int) -> int:
    """Return `token` if it is a whole number from 0 to 2^53."""
    # A NaN would be no less than any token, and make every later one no less than it: no guard at all.
    checks.at_least("token", token, 0)
    if token > GREATEST:
        raise ConfigurationError(f"token={token} is not legal: give a whole number of at most 2^53", parameter="token")
    return int(token)


def stale(resource: str, token: int, newest: int) -> StaleToken:
    """Return the error that names both tokens."""
    message = f"token {token} for {resource!r} is stale: {newest} was accepted already"
    return StaleToken(message, resource=resource, token=token, newest=newest)
