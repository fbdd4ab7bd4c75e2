"""URLs of Redis and Valkey servers: read by hand, because a library's own error may repeat a password.

    redis://[USER[:PASSWORD]@]HOST[:PORT][/DB][?OPTION=VALUE&...]       rediss:// with TLS
    redis+unix://[USER[:PASSWORD]@]/PATH[?db=DB]
    redis+cluster://HOST[:PORT][,HOST[:PORT]...]                        rediss+cluster:// with TLS
    redis+sentinel://HOST[:PORT][,HOST[:PORT]...]/SERVICE[/DB]

Options of holdfast's own: `coalesce` (asyncio only: whether requests share a connection, default yes) and
`max_in_flight` (most that share it at a time, default 10000). The others are those of redis-py.

`valkey://` and `valkeys://` are the same as `redis://` and `rediss://`, with valkey-py preferred. Characters
that would end a part early (`/ ? # @ :` in a password) are percent-encoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

from holdfast.errors import ConfigurationError

__all__ = ["Address", "parse"]

Kind = Literal["single", "unix", "cluster", "sentinel"]
_LEGAL: Mapping[Kind, str] = {
    "single": "[USER[:PASSWORD]@]HOST[:PORT][/DB]",
    "unix": "[USER[:PASSWORD]@]/PATH[?db=DB]",
    "cluster": "[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]...]",
    "sentinel": "[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]...]/SERVICE[/DB]",
}
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[\w.-]+)(?::(?P<port>\d{1,5}))?")
_SERVICE = re.compile(r"(?P<service>[\w.-]+)(?:/(?P<db>\d{0,5}))?")
_REDIS_PORT, _SENTINEL_PORT = 6379, 26379
_MAX_PORT = 65535


def _truth(value: str) -> bool:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[value.lower()]


def _count(value: str) -> int:
    if (count := int(value)) < 1:
        raise ValueError(value)
    return count


_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "client_name": str,
    "coalesce": _truth,
    "db": int,
    "max_connections": _count,
    "max_in_flight": _count,
    "protocol": {"2": 2, "3": 3}.__getitem__,
    "sentinel_password": str,
    "sentinel_username": str,
    "ssl_ca_certs": str,
    "ssl_cert_reqs": str,
    "ssl_certfile": str,
    "ssl_check_hostname": _truth,
    "ssl_keyfile": str,
}


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says; its `place` and its repr hold no password."""

    scheme: str
    kind: Kind
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    db: int
    path: str
    service: str
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)

    @property
    def secrets(self) -> list[str]:
        """The passwords, which nothing may repeat."""
        return [secret for secret in (self.password, self.options.get("sentinel_password")) if secret]

    @property
    def place(self) -> str:
        """The URL without user, password and options."""
        where = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        rest = {
            "single": f"/{self.db}",
            "unix": self.path,
            "cluster": "",
            "sentinel": f"/{self.service}/{self.db}",
        }
        return f"{self.scheme}://{where}{rest[self.kind]}"


def parse(url: str) -> Address:
    """Read `url`.

    Raises:
        ConfigurationError: it is malformed. The message repeats nothing of it but the scheme.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    kind: Kind = {"cluster": "cluster", "sentinel": "sentinel", "unix": "unix"}.get(  # type: ignore[assignment]
        scheme.partition("+")[2], "single"
    )
    try:
        return _parse(scheme, kind, rest)
    except _Malformed as wrong:
        message = f"url {scheme}:// is not legal: {wrong}; legal is {scheme}://{_LEGAL[kind]}[?OPTION=VALUE&...]"
    # Raised here, so that no exception with a part of the URL is chained to it.
    raise ConfigurationError(message, parameter="url")


class _Malformed(Exception):
    """Says which part is wrong, without its value."""


def _parse(scheme: str, kind: Kind, rest: str) -> Address:
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    user, _, hosts = authority.rpartition("@")
    username, _, password = user.partition(":")
    options = _options(query)
    db, service = _database(kind, path, options)
    return Address(
        scheme=scheme,
        kind=kind,
        tls=scheme.partition("+")[0] in {"rediss", "valkeys"},
        hosts=_hosts(kind, hosts),
        db=db,
        path=f"/{unquote(path)}" if kind == "unix" else "",
        service=service,
        username=unquote(username) or None,
        password=unquote(password) or None,
        options=options,
    )


def _hosts(kind: Kind, text: str) -> tuple[tuple[str, int], ...]:
    if kind == "unix":
        if text:
            raise _Malformed("the path must begin with /")
        return ()
    parts = text.split(",")
    if kind == "single" and len(parts) > 1:
        raise _Malformed("only one HOST is allowed")
    default = _SENTINEL_PORT if kind == "sentinel" else _REDIS_PORT
    found = [_HOST.fullmatch(unquote(part)) for part in parts]
    hosts = tuple((match["host"].strip("[]"), int(match["port"] or default)) for match in found if match)
    if len(hosts) < len(parts) or any(not 0 < port <= _MAX_PORT for _, port in hosts):
        raise _Malformed(f"HOST or PORT is wrong (PORT is 1 to {_MAX_PORT})")
    return hosts


def _database(kind: Kind, path: str, options: dict[str, Any]) -> tuple[int, str]:
    db, service = options.pop("db", 0), ""
    if kind == "sentinel":
        if (match := _SERVICE.fullmatch(unquote(path))) is None:
            raise _Malformed("SERVICE is missing or wrong")
        service, path = match["service"], match["db"] or ""
    if kind == "cluster" and (path or db):
        raise _Malformed("a cluster has no DB")
    if kind == "unix":
        if not path:
            raise _Malformed("PATH is missing")
    elif path:
        if not re.fullmatch(r"\d{1,5}", path):
            raise _Malformed("DB is not a whole number")
        db = int(path)
    if db < 0:
        raise _Malformed("DB is negative")
    return db, service


def _options(query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise _Malformed(f"an OPTION is unknown (known: {', '.join(_OPTIONS)})")
        try:
            options[name] = _OPTIONS[name](value)
        except (KeyError, ValueError):
            wrong = f"the value of {name} is wrong"
        else:
            continue
        raise _Malformed(wrong)
    return options
