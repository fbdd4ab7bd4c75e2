"""Connections of a sync redis-py or valkey-py pool, used without what those clients do around them.

`client.execute_command` repeats commands behind our back, waits as long as the client's settings say,
and does not tell whether a failed command had been sent. So a `Lane` takes a connection out of the
user's pool and does one exchange on its socket: connect if needed, send, read the reply, all within one
deadline. What the socket, the parser and the pool are for stays with redis-py.
"""

# ruff: noqa: SLF001 - this module is about the inside of redis-py, the same from 5.2 to 8 and in valkey-py
from __future__ import annotations

import contextlib
import functools
import queue
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from holdfast.backends.redis._background import Background, Opening
from holdfast.backends.redis._cluster import ASKING
from holdfast.backends.redis._metrics import count_taken
from holdfast.backends.redis.outcome import NotSent, must_reconnect

__all__ = ["Lane"]

# Blocking sockets treat a timeout of 0 as "do not wait at all, not even for what is there".
_LEAST_TIMEOUT = 0.0001
_FULL_POOL_PAUSE = 0.001


class _Once:
    """Stands in for a connection's `Retry` while we connect: try once, within our own deadline."""

    def call_with_retry(self, do: Callable[[], Any], *_: Any, **__: Any) -> Any:
        return do()


class _TimedSocket:
    """A socket whose every read gets only what is left of the request's time.

    A plain socket timeout would start again with every piece of a reply that trickles in.
    """

    __slots__ = ("_deadline", "plain")

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.plain = sock
        self._deadline = deadline

    def recv(self, size: int) -> bytes:
        self.plain.settimeout(_left(self._deadline))
        return self.plain.recv(size)

    def recv_into(self, buffer: bytearray) -> int:
        self.plain.settimeout(_left(self._deadline))
        return self.plain.recv_into(buffer)

    def sendall(self, data: bytes) -> None:
        self.plain.settimeout(_left(self._deadline))
        self.plain.sendall(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("deadline passed")
    return max(left, _LEAST_TIMEOUT)


class Lane:
    """One server's connections. Deadlines are moments on `time.monotonic`: sockets know no other clock."""

    __slots__ = ("_find_master", "_open", "_take", "pool")

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self._take = _taker(pool)
        self._open = Opening()
        # Sentinels are asked with the timeouts and retries of their own clients: for ever, if they hang.
        self._find_master = Background(pool.get_master_address) if getattr(pool, "is_master", False) else None

    @classmethod
    def of(cls, pool: Any) -> Lane:
        """Return the lane of `pool`, made once."""
        lane: Lane | None = getattr(pool, "_holdfast_lane", None)
        if lane is None:
            lane = pool._holdfast_lane = cls(pool)
        return lane

    def exchange(self, packed: bytes, deadline: float, _: str | bytes = "", *, asking: bool = False) -> Any:
        """Send `packed` and return the server's reply, which may be an error object.

        With `asking`, the node of a cluster is told that another node has sent us.

        Raises:
            NotSent: it certainly did not reach the server.
            Exception: it was sent, and no answer came.
        """
        try:
            connection = self._take(self.pool, deadline)
        except Exception as error:
            raise NotSent from error
        try:
            link = getattr(connection, "_conn", connection)  # beneath a client-side cache
            try:
                self._hand_over(link, ASKING + packed if asking else packed, deadline)
                if asking:
                    _reply(link, deadline)
                reply = _reply(link, deadline)
            except BaseException:
                # Whatever may still arrive on it belongs to nobody.
                link.disconnect()
                raise
            if isinstance(reply, Exception) and must_reconnect(reply):
                link.disconnect()
            else:
                link._sock.settimeout(link.socket_timeout)
            return reply
        finally:
            self.pool.release(connection)

    def _hand_over(self, link: Any, packed: bytes, deadline: float) -> None:
        """Give `packed` to the kernel whole, on a connection that was not closed a moment ago."""
        try:
            fresh = self._ready(link, deadline)
            try:
                _send(link, packed, deadline)
            except OSError:
                if fresh:
                    raise
                # The server closed the idle connection after we looked, and has not got all of the request.
                link.disconnect()
                self._connect(link, deadline)
                _send(link, packed, deadline)
        except Exception as error:
            raise NotSent from error

    def _ready(self, link: Any, deadline: float) -> bool:
        """Make sure that `link` is connected; return whether it was connected just now."""
        if link._sock is not None:
            if not _stale(link):
                return False
            link.disconnect()
        self._connect(link, deadline)
        return True

    def _connect(self, link: Any, deadline: float) -> None:
        """Connect and log in, once, each step within what is left of the deadline."""
        own = link.retry, link.socket_timeout, getattr(link, "socket_connect_timeout", None)
        left = _left(deadline)
        link.retry = _Once()
        link.socket_timeout, link.socket_connect_timeout = _shorter(own[1], left), _shorter(own[2], left)
        # Logging in takes several answers, and each has only what is left.
        link._connect = functools.partial(self._opened, link._connect, deadline)
        try:
            if self._find_master is not None and hasattr(link, "connect_to"):
                link.connect_to(self._find_master(deadline))
            else:
                link.connect()
        finally:
            del link._connect
            link.retry, link.socket_timeout, link.socket_connect_timeout = own
        link._sock = link._sock.plain
        link._sock.settimeout(link.socket_timeout)
        # The parser remembers the socket and the timeout that it has seen; nothing is in its buffer yet.
        link._parser.on_connect(link)

    def _opened(self, connect: Any, deadline: float) -> _TimedSocket:
        # One connect() keeps the timeout that it was given, and a thread costs as much as that takes on a loopback.
        opened = connect() if _is_one_step(connect.__self__) else self._open(connect, deadline)
        return _TimedSocket(opened, deadline)


def _is_one_step(link: Any) -> bool:
    """Tell whether opening the socket of `link` is nothing but one connect(): no name to look up, no TLS."""
    if hasattr(link, "certfile"):
        return False
    if not hasattr(link, "host"):
        return hasattr(link, "path")
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, TypeError):
            socket.inet_pton(family, link.host)
            return True
    return False


def _send(link: Any, packed: bytes, deadline: float) -> None:
    link._sock.settimeout(_left(deadline))
    link._sock.sendall(packed)


def _reply(link: Any, deadline: float) -> Any:
    parser = link._parser
    # The C parsers read from the socket themselves, the Python ones through a buffer.
    reader = parser._buffer if hasattr(parser._buffer, "_sock") else parser
    plain = reader._sock
    reader._sock = _TimedSocket(plain, deadline)
    try:
        reply = parser.read_response(disable_decoding=True)
    finally:
        reader._sock = plain
    if link.health_check_interval:
        link.next_health_check = time.monotonic() + link.health_check_interval
    return reply


# -- Getting ready -----------------------------------------------------------------------------------------


def _stale(link: Any) -> bool:
    # Idle for longer than the user trusts a connection: a new one is surer than a PING.
    if link.health_check_interval and time.monotonic() > link.next_health_check:
        return True
    return _closed_or_dirty(link._sock)


def _closed_or_dirty(sock: Any) -> bool:
    """Tell whether an idle connection was closed by the server, or holds a reply nobody waited for."""
    if hasattr(sock, "pending") and sock.pending():
        return True
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    if not poller.poll(0):
        return False
    try:
        # Something that RESP3 servers push (b">") may lie there, and the parser knows what to do with it.
        return bool(sock.recv(1, socket.MSG_PEEK) != b">")
    except (OSError, ValueError):  # TLS cannot peek
        return True


def _shorter(timeout: float | None, left: float) -> float:
    return left if timeout is None else min(timeout, left)


# -- Taking a connection out of a pool, not yet connected ----------------------------------------------------


def _taker(pool: Any) -> Callable[[Any, float], Any]:
    """Return how to take from `pool`: in its own way when it is of a kind that we do not know."""
    get_connection = type(pool).get_connection
    for kind in type(pool).__mro__:
        if kind.__dict__.get("get_connection") is get_connection:
            if kind.__name__ == "ConnectionPool":
                return _take_plain
            if kind.__name__ == "BlockingConnectionPool":
                return _take_blocking
    return _take_unknown


def _take_plain(pool: Any, deadline: float) -> Any:
    pool._checkpid()
    while True:
        with pool._lock:
            try:
                connection = pool._available_connections.pop()
            except IndexError:
                connection = _made(pool)
            if connection is not None:
                pool._in_use_connections.add(connection)
                break
        # redis-py would fail now. Others give back in a millisecond or so, but nobody tells us when.
        time.sleep(min(_left(deadline), _FULL_POOL_PAUSE))
    count_taken(pool, on_loop=False, reused=True)
    return connection


def _made(pool: Any) -> Any | None:
    return None if pool._created_connections >= pool.max_connections else pool.make_connection()


def _take_blocking(pool: Any, deadline: float) -> Any:
    if getattr(pool, "_in_maintenance", False):
        return _take_unknown(pool, deadline)
    pool._checkpid()
    try:
        connection = pool.pool.get(timeout=_shorter(pool.timeout, _left(deadline)))
    except queue.Empty:
        raise TimeoutError("no free connection in the pool") from None
    if connection is None:
        try:
            connection = pool.make_connection()
        except BaseException:
            pool.pool.put_nowait(None)
            raise
    count_taken(pool, on_loop=False, reused=True)
    return connection


def _take_unknown(pool: Any, _: float) -> Any:
    try:
        return pool.get_connection()
    except TypeError:  # the argument that redis-py 5.2 and valkey-py want, and nobody uses
        return pool.get_connection("EVALSHA")
