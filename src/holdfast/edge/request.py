"""What the cache needs to know about a request, read once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import quote

from holdfast.edge._asgi import Scope

__all__ = ["CacheRequest", "KeyFunction", "default_key", "fold", "read_request", "selecting", "split_list"]

KeyFunction: TypeAlias = Callable[[Scope], str | None]
Variant: TypeAlias = tuple[bytes | None, ...]

# The origin answers these itself. Range: only whole responses are stored. The two preconditions must be
# judged by the origin (RFC 9110, 13.1.1 and 13.1.4). A transfer coding on a GET announces content, and
# content that is not part of the key is the classic way to poison a cache.
_ORIGIN_ONLY = frozenset({b"range", b"if-range", b"if-match", b"if-unmodified-since", b"transfer-encoding"})
# RFC 3986, 3.2.2 and 3.2.3: a name or address, or an IP literal in brackets, and a port.
_AUTHORITY = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Za-z.:]+\])(?::[0-9]*)?")


@dataclass(frozen=True, slots=True)
class CacheRequest:
    """One request as the decision sees it.

    Attributes:
        method: upper case, as ASGI gives it.
        key: the primary cache key; empty when the request has none.
        headers: lower-case names; repeated fields joined by commas.
        bypass: why the cache takes no part, None when it does (`method` or `bypass`, the words of
            RFC 9211, 2.2).
    """

    method: str
    key: str
    headers: Mapping[bytes, bytes]
    bypass: str | None = None


def read_request(scope: Scope, key: KeyFunction) -> CacheRequest:
    """Read an ASGI http scope; `key` returning None means: leave this request alone.

    `key` is not asked about a request whose host and path do not name one resource.
    """
    method: str = scope["method"]
    headers = fold(scope["headers"])
    cache_key = (key(scope) or "") if _names_one_resource(scope) else ""
    if method not in {"GET", "HEAD"}:
        return CacheRequest(method, cache_key, headers, "method")
    if not cache_key or not _ORIGIN_ONLY.isdisjoint(headers) or _has_content(headers) or _no_store(headers):
        return CacheRequest(method, cache_key, headers, "bypass")
    return CacheRequest(method, cache_key, headers)


def _has_content(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"content-length", b"0") != b"0"


def _no_store(headers: Mapping[bytes, bytes]) -> bool:
    # RFC 9111, 5.2.1: request directives are advisory, "caches MAY implement them, but are not required
    # to". no-store is kept to, for it asks for privacy. The others would only let any client (and every
    # press of a reload button) send its load to the origin, which is what this cache stands in front of.
    return b"no-store" in headers.get(b"cache-control", b"").lower()


def _names_one_resource(scope: Scope) -> bool:
    """Return whether host and path can be told apart once they are joined.

    Servers hand them on unchecked, and `Host: shop.test/api` with `/balances` would name what another
    client calls `/api/balances`. So Host must be an authority (RFC 9110, 7.2) and occur once (RFC 9112,
    3.2), and the target must be a path. HTTP/1.0 needs no Host.
    """
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) > 1 or (hosts and _AUTHORITY.fullmatch(hosts[0]) is None):
        return False
    path = _path(scope)
    return path.startswith(b"/") and b"?" not in path


def default_key(scope: Scope) -> str:
    """Return the target URI: scheme, host, path and query, just as they were sent.

    Nothing is normalised and no query parameter is left out: two requests share an answer only where
    the origin could not tell them apart. The method is not part of it, so that an unsafe request finds
    what it makes invalid.
    """
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    target: bytes = b"%b%b?%b" % (host.lower(), _path(scope), scope.get("query_string", b""))
    return f"{scope.get('scheme', 'http')}://{target.decode('latin-1')}"


def _path(scope: Scope) -> bytes:
    # `path` is decoded: a "?" in it belongs to the path and not to the query.
    return scope.get("raw_path") or quote(scope["path"], safe="/!$&'()*+,;=:@").encode()


def fold(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return a field section as a dict, repeated fields joined by commas (RFC 9110, 5.3)."""
    lines = headers if isinstance(headers, (list, tuple)) else list(headers)
    folded = dict(lines)
    if len(folded) == len(lines):
        return folded
    # Gathered first and joined once: joining pair by pair is quadratic in the number of repetitions.
    values: dict[bytes, list[bytes]] = {}
    for name, value in lines:
        values.setdefault(name, []).append(value)
    return {name: b", ".join(several) for name, several in values.items()}


def selecting(names: tuple[bytes, ...], headers: Mapping[bytes, bytes]) -> Variant:
    """Return the values of the fields that Vary names: what tells one variant from another.

    RFC 9111, 4.1: an absent field matches only an absent one, so it is None and not empty.
    """
    return tuple([headers.get(name) for name in names]) if names else ()


def split_list(value: bytes) -> list[bytes]:
    """Return the lower-case members of a comma-separated list, without empty ones."""
    return [member for part in value.split(b",") if (member := part.strip().lower())]
