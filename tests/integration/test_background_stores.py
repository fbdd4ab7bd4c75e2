"""Heartbeats on one store do not wait for those on another."""

import contextlib
import time

import redis

from holdfast.locks import Lock
from holdfast.testing.services import RedisServer

LEASES = 100
TTL = 1.0
# Long enough for renewals that hang to come in the way of several of the healthy lease.
HUNG_TTL = 3.0


def test_leases_on_a_frozen_redis_do_not_cost_a_lease_on_another(own_redis_server: RedisServer, redis_url: str) -> None:
    """All their renewals hang at once, and all of them one after the other take longer than the healthy lease lives."""
    with redis.Redis.from_url(own_redis_server.url) as hung, redis.Redis.from_url(redis_url) as healthy:
        leases = contextlib.ExitStack()
        for number in range(LEASES):
            leases.enter_context(contextlib.suppress(Exception))
            leases.enter_context(Lock(hung, f"order-{number}", ttl=HUNG_TTL))
        own_redis_server.pause()
        with Lock(healthy, "report", ttl=TTL) as lease:
            end = time.monotonic() + HUNG_TTL
            while time.monotonic() < end:
                assert lease.held
                time.sleep(0.05)
        own_redis_server.resume()
        leases.close()
