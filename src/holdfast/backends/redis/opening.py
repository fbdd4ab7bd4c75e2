"""How a backend comes to be: from a URL, or from a client that the user already has.

redis-py or valkey-py is imported when a URL is opened, never before. Connections are made when they
are first needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from holdfast import checks
from holdfast.backends.redis import _cluster_async, _cluster_sync, _lane_async, _lane_sync
from holdfast.backends.redis._lane_async import MAX_IN_FLIGHT
from holdfast.backends.redis.aio import RedisAsync
from holdfast.backends.redis.sync import RedisSync
from holdfast.backends.redis.urls import Address, parse
from holdfast.errors import ConfigurationError, MissingExtra

__all__ = ["adopt", "open_async", "open_sync"]

# Bounds what one process may open; requests beyond it wait for their turn.
_MAX_CONNECTIONS = 64
# Options of a URL that are not redis-py's.
_SHARING = {"coalesce", "max_in_flight"}


def open_sync(url: str, *, timeout: float) -> RedisSync:
    """Open the servers at `url` for blocking code (`urls` says how it looks)."""
    address = parse(url)
    driver = _driver(address, "")
    route: Any
    if address.kind == "cluster":
        route = _cluster_sync.Cluster(opener=lambda: _cluster_client(driver, address, timeout))
        close = route.close
    else:
        pool = _pool(driver, address, timeout)
        route, close = _lane_sync.Lane.of(pool), pool.disconnect
    return RedisSync(route, address.place, timeout=timeout, close=close, secrets=address.secrets)


def open_async(url: str, *, timeout: float) -> RedisAsync:
    """Open the servers at `url` for asyncio code; it belongs to the first event loop that uses it."""
    address = parse(url)
    driver = _driver(address, ".asyncio")
    route: Any
    if address.kind == "cluster":
        route = _cluster_async.Cluster(opener=lambda: _cluster_client(driver, address, timeout), **_sharing(address))
        close = route.aclose
    else:
        pool = _pool(driver, address, timeout)
        route, close = _lane_async.Lane.of(pool, **_sharing(address)), _closing(pool)
    return RedisAsync(route, address.place, timeout=timeout, close=close, secrets=address.secrets)


def adopt(client: Any, *, coalesce: bool = True, max_in_flight: int = MAX_IN_FLIGHT) -> RedisSync | RedisAsync:
    """Use the connections of `client`, a client of redis-py or valkey-py of either colour.

    Args:
        client: stays the user's to close.
        coalesce: for asyncio clients: whether requests that are asked at the same time share a connection. They
            do where replies are parsed in C (hiredis).
        max_in_flight: most requests that share it at a time, >= 1; further ones wait for their turn. What the
            first backend of a client says counts for all of them.

    Raises:
        ConfigurationError: `client` is something else of these libraries, such as a pipeline.
    """
    names = {kind.__name__ for kind in type(client).__mro__}
    on_loop = any(".asyncio." in kind.__module__ for kind in type(client).__mro__)
    if names & {"Pipeline", "ClusterPipeline", "PubSub", "ClusterPubSub"}:
        raise _not_a_client(client)
    sharing: Any = {
        "coalesce": checks.flag("coalesce", coalesce),
        "max_in_flight": checks.at_least("max_in_flight", max_in_flight, 1),
    }
    route: Any
    if (nodes := getattr(client, "nodes_manager", None)) is not None:
        place, secrets = f"redis+cluster://{','.join(nodes.startup_nodes)}", _secrets(nodes.connection_kwargs)
        route = _cluster_async.Cluster(client, **sharing) if on_loop else _cluster_sync.Cluster(client)
    elif (pool := getattr(client, "connection_pool", None)) is not None:
        sentinel = getattr(pool, "sentinel_manager", None)
        place, secrets = _place(pool), _secrets(pool.connection_kwargs, getattr(sentinel, "sentinel_kwargs", None))
        route = _lane_async.Lane.of(pool, **sharing) if on_loop else _lane_sync.Lane.of(pool)
    else:
        raise _not_a_client(client)
    return (RedisAsync if on_loop else RedisSync)(route, place, secrets=secrets)


def _sharing(address: Address) -> dict[str, Any]:
    return {name: value for name, value in address.options.items() if name in _SHARING}


def _secrets(*settings: Mapping[str, Any] | None) -> list[str]:
    passwords = [about.get("password") for about in settings if about]
    return [password for password in passwords if isinstance(password, str) and password]


def _not_a_client(client: Any) -> ConfigurationError:
    return ConfigurationError(
        f"a {type(client).__qualname__} of {type(client).__module__} is not legal: give a client "
        "(Redis, RedisCluster, Sentinel(...).master_for(...), or one of their asyncio twins)"
    )


def _place(pool: Any) -> str:
    about = pool.connection_kwargs
    db = about.get("db") or 0
    if (service := getattr(pool, "service_name", None)) is not None:
        return f"redis+sentinel://{_sentinels(pool)}/{service}/{db}"
    if (path := about.get("path")) is not None:
        return f"redis+unix://{path}"
    scheme = "rediss" if "SSL" in pool.connection_class.__name__ else "redis"
    return f"{scheme}://{_host_and_port(pool)}/{db}"


def _sentinels(pool: Any) -> str:
    return ",".join(_host_and_port(sentinel.connection_pool) for sentinel in pool.sentinel_manager.sentinels)


def _host_and_port(pool: Any) -> str:
    return f"{pool.connection_kwargs.get('host', 'localhost')}:{pool.connection_kwargs.get('port', 6379)}"


# -- Making clients ------------------------------------------------------------------------------------------


def _driver(address: Address, part: str) -> Any:
    """Import redis-py or valkey-py: whichever the scheme names, else the other."""
    names = ("valkey", "redis") if address.scheme.startswith("valkey") else ("redis", "valkey")
    for name in names:
        try:
            return importlib.import_module(name + part)
        except ImportError:
            continue
    message = f'{address.scheme}:// needs redis-py or valkey-py: pip install "holdfast[redis]"'
    raise MissingExtra(message)


def _settings(address: Address) -> dict[str, Any]:
    """Return the arguments that every connection to `address` is made with."""
    options = {
        name: value
        for name, value in address.options.items()
        if not name.startswith("sentinel_") and name not in _SHARING
    }
    # No timeouts of their own: each request brings its deadline along.
    defaults = {"max_connections": _MAX_CONNECTIONS, "protocol": 2, "socket_timeout": None}
    own = {"username": address.username, "password": address.password, "socket_connect_timeout": None}
    return defaults | own | options


def _pool(driver: Any, address: Address, timeout: float) -> Any:
    if address.kind == "sentinel":
        return _master(driver, address, timeout).connection_pool
    settings = _settings(address) | {"db": address.db}
    if address.kind == "unix":
        return driver.ConnectionPool(connection_class=driver.UnixDomainSocketConnection, path=address.path, **settings)
    ((host, port),) = address.hosts
    kind = driver.SSLConnection if address.tls else driver.Connection
    return driver.ConnectionPool(connection_class=kind, host=host, port=port, **settings)


def _impatient(timeout: float) -> dict[str, float]:
    """Return timeouts for the client's own questions, so that a silent server leaves time to ask another."""
    return {"socket_timeout": timeout / 4, "socket_connect_timeout": timeout / 4}


def _cluster_client(driver: Any, address: Address, timeout: float) -> Any:
    """Make a cluster client; the sync one asks for the map at once."""
    module = importlib.import_module(f"{driver.__name__}.cluster")
    nodes = [module.ClusterNode(host, port) for host, port in address.hosts]
    kind = getattr(module, "ValkeyCluster", None) or module.RedisCluster
    return kind(startup_nodes=nodes, **(_settings(address) | _impatient(timeout) | {"ssl": address.tls}))


def _master(driver: Any, address: Address, timeout: float) -> Any:
    """Make a client that asks the sentinels for the master whenever it connects."""
    module = importlib.import_module(f"{driver.__name__}.sentinel")
    backoff = importlib.import_module(f"{driver.__name__.partition('.')[0]}.backoff")
    once = importlib.import_module(f"{driver.__name__}.retry").Retry(backoff.NoBackoff(), 0)
    login = {name.removeprefix("sentinel_"): value for name, value in address.options.items() if "sentinel_" in name}
    sentinels = module.Sentinel(address.hosts, sentinel_kwargs={"retry": once} | _impatient(timeout) | login)
    return sentinels.master_for(address.service, db=address.db, **_settings(address))


def _closing(pool: Any) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        await pool.disconnect()
        for sentinel in getattr(getattr(pool, "sentinel_manager", None), "sentinels", ()):
            await sentinel.aclose()

    return close
