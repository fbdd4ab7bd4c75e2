"""Private Redis servers: alone, as a one-node cluster, and behind a Sentinel.

They are asked whether they are ready in Redis's own protocol, in the few lines at the end of this file, so that
starting one needs no client library.
"""

import socket
from typing import BinaryIO, TypeAlias

from holdfast.testing.services.find import REDIS, find
from holdfast.testing.services.process import Server, eventually

_SLOTS = 16_384
"""Redis Cluster specification, "Key distribution model"."""

Reply: TypeAlias = "str | int | list[Reply] | None"


class RedisServer(Server):
    """A private Redis.

    Args:
        appendonly: write every change to a file before answering (`appendfsync always`), so that a killed server starts
            with all that it confirmed. Without it a stopped or killed server starts empty.
        cluster: run in cluster mode, as the one node that holds all 16,384 slots. Takes 2 s more to start, because
            Redis makes a new master wait that long.
        password: ask clients for this password.
    """

    def __init__(self, *, appendonly: bool = False, cluster: bool = False, password: str | None = None) -> None:
        super().__init__()
        self.appendonly = appendonly
        self.cluster = cluster
        self.password = password

    @property
    def url(self) -> str:
        """The address for redis-py and valkey-py; a cluster's goes to `RedisCluster.from_url`."""
        return f"redis://{_credentials(self.password)}{self.host}:{self.port}/0"

    @property
    def connect_url(self) -> str:
        """The address for `holdfast.connect`, which needs to know a cluster from a single server."""
        if self.cluster:
            return f"redis+cluster://{_credentials(self.password)}{self.host}:{self.port}"
        return self.url

    def ask(self, *words: str) -> Reply:
        """Send one command on a connection of its own and return the reply.

        Raises:
            RuntimeError: Redis answered with an error.
            OSError: it could not be reached or gave no answer within 2 s.
        """
        return ask(self.host, self.port, *words, password=self.password)

    def empty(self) -> None:
        """Remove all keys of all databases; scripts, configuration and connections stay."""
        self.ask("FLUSHALL", "SYNC")

    def _command(self, port: int) -> list[str]:
        options = {
            "port": str(port),
            "bind": self.host,
            "dir": str(self.data),
            "save": "",
            "appendonly": "yes" if self.appendonly else "no",
            "appendfsync": "always",
        }
        if self.cluster:
            options |= {"cluster-enabled": "yes", "cluster-announce-ip": self.host}
        if self.password is not None:
            options |= {"requirepass": self.password, "masterauth": self.password}
        flat = [part for name, value in options.items() for part in (f"--{name}", value)]
        return [str(find(REDIS).folder / "redis-server"), *flat]

    def _answers(self) -> bool:
        try:
            # INFO is answered while the files are still being loaded, PING is not.
            ready = f"process_id:{self.pid}\r\n" in str(self.ask("INFO", "server")) and self.ask("PING") == "PONG"
            return ready and (not self.cluster or self._cluster_answers())
        except (OSError, RuntimeError):  # not listening yet, or still loading its files
            return False

    def _cluster_answers(self) -> bool:
        state = str(self.ask("CLUSTER", "INFO"))
        if "cluster_slots_assigned:0\r\n" in state:
            # ADDSLOTSRANGE would be shorter, but is newer than Redis 6.2.
            self.ask("CLUSTER", "ADDSLOTS", *map(str, range(_SLOTS)))
        return "cluster_state:ok\r\n" in state


class RedisSentinel(Server):
    """A private Redis, `master`, watched by a private Sentinel, which is what `port`, `kill` and the rest are about.

    Args:
        service: the name by which clients ask for the master.
        password: the master's password; the Sentinel itself asks for none.
    """

    def __init__(self, *, service: str = "mymaster", password: str | None = None) -> None:
        super().__init__()
        self.service = service
        self.master: RedisServer = RedisServer(password=password)

    @property
    def url(self) -> str:
        """The address for `holdfast.connect`; redis-py has no such spelling and takes `host` and `port`."""
        return f"redis+sentinel://{_credentials(self.master.password)}{self.host}:{self.port}/{self.service}"

    connect_url = url

    def start(self) -> "RedisSentinel":
        """Start the master, then the Sentinel; return when it names the master."""
        self.master.start()
        return super().start()

    def stop(self) -> None:
        """Stop both."""
        super().stop()
        self.master.stop()

    def _command(self, port: int) -> list[str]:
        lines = [
            f"port {port}",
            f"bind {self.host}",
            f"dir {self.data}",
            f"sentinel monitor {self.service} {self.master.host} {self.master.port} 1",
            f"sentinel down-after-milliseconds {self.service} 500",
            f"sentinel failover-timeout {self.service} 2000",
        ]
        if self.master.password is not None:
            lines.append(f"sentinel auth-pass {self.service} {self.master.password}")
        # A Sentinel writes what it learns into its configuration file; it gets a new one at each start.
        configuration = self.data / "sentinel.conf"
        configuration.write_text("\n".join(lines) + "\n")
        return [str(find(REDIS).folder / "redis-server"), str(configuration), "--sentinel"]

    def _answers(self) -> bool:
        try:
            mine = f"process_id:{self.pid}\r\n" in str(ask(self.host, self.port, "INFO", "server"))
            address = ask(self.host, self.port, "SENTINEL", "get-master-addr-by-name", self.service)
        except (OSError, RuntimeError):
            return False
        return mine and address == [self.master.host, str(self.master.port)]

    def await_master_down(self, *, seconds: float = 10.0) -> bool:
        """Wait until the Sentinel has seen that the master does not answer; return False when it has not in time."""
        return eventually(lambda: "s_down" in self._master_flags(), seconds=seconds)

    def _master_flags(self) -> str:
        facts = ask(self.host, self.port, "SENTINEL", "MASTER", self.service)
        if not isinstance(facts, list):
            return ""
        return str(dict(zip(map(str, facts[::2]), facts[1::2], strict=True)).get("flags", ""))


def _credentials(password: str | None) -> str:
    return "" if password is None else f":{password}@"


# -- The protocol: RESP2, https://redis.io/docs/latest/develop/reference/protocol-spec/ ------------------------------


def ask(host: str, port: int, *words: str, password: str | None = None) -> Reply:
    """Send one command on a connection of its own and return the reply; see `RedisServer.ask`."""
    with (
        socket.create_connection((host, port), timeout=2.0) as connection,
        connection.makefile("rb") as stream,
    ):
        if password is not None:
            connection.sendall(_encode("AUTH", password))
            _read(stream)
        connection.sendall(_encode(*words))
        return _read(stream)


def _encode(*words: str) -> bytes:
    parts = [f"*{len(words)}\r\n".encode()]
    parts += [b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words]
    return b"".join(parts)


def _read(stream: BinaryIO) -> Reply:
    line = stream.readline().removesuffix(b"\r\n").decode()
    if not line:
        raise ConnectionError("Redis closed the connection")
    kind, rest = line[0], line[1:]
    match kind:
        case "+":
            return rest
        case ":":
            return int(rest)
        case "$":
            return None if rest == "-1" else stream.read(int(rest) + 2)[:-2].decode(errors="replace")
        case "*":
            return None if rest == "-1" else [_read(stream) for _ in range(int(rest))]
        case _:
            raise RuntimeError(f"Redis answered {line!r}")
