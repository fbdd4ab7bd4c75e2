"""PostgreSQL URLs: what the driver is given, and what may be shown of them."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from holdfast import checks
from holdfast.errors import ConfigurationError

__all__ = ["Address", "parse"]

DEFAULT_MAX_CONNECTIONS = 10
_PREPARE_THRESHOLD = 5
_HOST = r"(?:[\w.\-%]*|\[[0-9a-fA-F:.%]+\])(?::\d+)?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*")
_LEGAL = (
    "give postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with every special character of the password "
    "percent-encoded (@ is %40, / is %2F, # is %23, ? is %3F, : is %3A)"
)


class Address(NamedTuple):
    """Where a PostgreSQL database is, and how to use it."""

    dsn: str
    """For the driver; holds the password."""
    place: str
    """For messages; holds no secret."""
    max_connections: int
    """Most connections open at a time."""
    prepare_threshold: int | None
    """After how many executions psycopg prepares a statement; None (for PgBouncer): never."""


def parse(url: str) -> Address:
    """Take a URL apart.

    Two parameters are holdfast's own: `max_connections` (default 10) and `prepare_threshold` (default 5,
    `none` behind a PgBouncer in transaction mode). All others are handed to the driver.

    Raises:
        ConfigurationError: it is malformed. The message does not repeat it, for it may hold a password.
    """
    parts = _split(url)
    user, _, hosts = parts.netloc.rpartition("@")
    # A password with an unencoded delimiter ends up elsewhere in the URL; better refuse it than show it.
    misplaced = "@" in parts.path or "@" in parts.query or parts.fragment
    if misplaced or "@" in user or user.count(":") > 1 or not _HOSTS.fullmatch(hosts):
        message = f"url is not legal: {_LEGAL}"
        raise ConfigurationError(message, parameter="url")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    most = _whole("max_connections", options.pop("max_connections", DEFAULT_MAX_CONNECTIONS), 1)
    prepare = options.pop("prepare_threshold", _PREPARE_THRESHOLD)
    threshold = None if prepare == "none" else _whole("prepare_threshold", prepare, 0)
    name = user.partition(":")[0]
    return Address(
        dsn=SplitResult("postgresql", parts.netloc, parts.path, urlencode(options), "").geturl(),
        place=f"postgresql://{name}{'@' if name else ''}{hosts}{parts.path}",
        max_connections=most,
        prepare_threshold=threshold,
    )


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        message = f"url is not legal: {_LEGAL}"
        raise ConfigurationError(message, parameter="url") from None


def _whole(parameter: str, value: str | int, minimum: int) -> int:
    try:
        number = int(value)
    except ValueError:
        message = f"{parameter} in url is not legal: give a whole number of at least {minimum}"
        raise ConfigurationError(message, parameter=parameter) from None
    return checks.at_least(parameter, number, minimum)
