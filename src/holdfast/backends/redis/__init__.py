"""The Redis backend, for Redis and Valkey: one server, a cluster, or a master that sentinels know.

    request    `Script`, `Eval` and `Command`: what patterns ask for
    keys       `physical_key`: how users' names become keys
    outcome    which of the two errors a failure is
    sync, aio  `RedisSync` and `RedisAsync`, the drivers
    _lane_*    one exchange on a connection of the user's pool        _cluster*  which node, and where it sends us
    urls       what a URL means                                       opening    from a URL or client to a backend

Each request is one round trip with a hard deadline. It is never repeated once the server may have got
it, and a failure says whether it was applied: `BackendUnavailable` (no) or `OutcomeUnknown` (perhaps).
Read `outcome` for how that is known.

Importing this imports neither redis-py nor valkey-py.
"""

from holdfast.backends.redis.aio import RedisAsync
from holdfast.backends.redis.keys import physical_key
from holdfast.backends.redis.opening import adopt, open_async, open_sync
from holdfast.backends.redis.request import Argument, Command, Eval, RedisDriver, Script, Watched, Watching
from holdfast.backends.redis.sync import RedisSync

__all__ = [
    "Argument",
    "Command",
    "Eval",
    "RedisAsync",
    "RedisDriver",
    "RedisSync",
    "Script",
    "Watched",
    "Watching",
    "adopt",
    "open_async",
    "open_sync",
    "physical_key",
]
