"""Real Redis and PostgreSQL servers, private to the program that starts them.

```python
with RedisServer() as redis, PostgresServer() as postgres:
    run(redis.url, postgres.url)
```

Each server has a free port, a temporary folder and a process group of its own, and is gone when the block ends, when
the program ends, and also when the program is killed (`guard`). Binaries are found on the machine, inside an installed
package, or fetched by apt (`find`); when there are none, `ServiceUnavailable` says what was tried.

A server can be hurt as real ones are: `kill()` (SIGKILL), `pause()` and `resume()` (it hangs with its connections
open), `restart()` on the same port. Nothing here needs more than the standard library, and nothing here knows pytest.

Read `process` next: it holds what all servers share.
"""

from holdfast.testing.services.find import ServiceUnavailable, address_given
from holdfast.testing.services.postgres import PostgresServer
from holdfast.testing.services.process import Server
from holdfast.testing.services.redis import RedisSentinel, RedisServer

__all__ = [
    "PostgresServer",
    "RedisSentinel",
    "RedisServer",
    "Server",
    "ServiceUnavailable",
    "address_given",
]
