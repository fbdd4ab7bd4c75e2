"""How the service calls the provider: breaker > retry > timeout > bulkhead > call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from holdfast.demo.settings import BULKHEAD_SLOTS, PROVIDER_TIMEOUT, Settings
from holdfast.errors import HoldfastError, LockLost
from holdfast.resilience import CircuitBreaker, bulkhead, retry, timeout

__all__ = ["ProviderClient", "ProviderFailed"]

EXPECTED = (httpx.codes.NOT_FOUND, httpx.codes.CONFLICT)
Send = Callable[..., Awaitable[httpx.Response]]


class ProviderFailed(HoldfastError):
    """The provider answered with an error, or not at all, to every try."""

    code = "provider-failed"
    title = "Payment provider failed"
    status = 502


class ProviderClient:
    """The provider, guarded by the patterns that are switched on."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self.breaker: CircuitBreaker = CircuitBreaker("provider", failure_threshold=5, recovery_timeout=0.5)
        self._base = f"http://127.0.0.1:{settings.addresses.provider_port}"
        self._http = http
        self._send = self._guarded(settings)

    async def find(self, order: str, *, token: int | None) -> dict[str, Any] | None:
        """The provider's charge for this order, if it has one; from now on it refuses older tokens."""
        answer = await self._ask("GET", "/charges", params={"order": order}, headers=_fenced(token))
        return None if answer.status_code == httpx.codes.NOT_FOUND else answer.json()

    async def charge(self, body: dict[str, Any], *, key: str, token: int | None) -> dict[str, Any]:
        """Charge an order; the same key never charges twice."""
        answer = await self._ask("POST", "/charges", json=body, headers={"Idempotency-Key": key, **_fenced(token)})
        charge: dict[str, Any] = answer.json()
        return charge

    async def _ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            answer = await self._send(method, path, **arguments)
        except (httpx.HTTPStatusError, httpx.TransportError) as error:
            raise ProviderFailed(f"{method} {path}: {type(error).__name__}") from error
        if answer.status_code == httpx.codes.CONFLICT:
            raise LockLost("the provider has seen a newer holder of this order's lock")
        return answer

    def _guarded(self, settings: Settings) -> Send:
        async def send(method: str, path: str, **arguments: Any) -> httpx.Response:
            answer = await self._http.request(method, self._base + path, **arguments)
            if answer.status_code not in EXPECTED:
                answer.raise_for_status()
            return answer

        call: Send = send
        if settings.uses("bulkhead"):
            call = bulkhead(max_concurrent=BULKHEAD_SLOTS, max_queue=200, max_wait=3.0)(call)
        if settings.uses("timeout"):
            call = timeout(PROVIDER_TIMEOUT)(call)
        if settings.uses("retry"):
            call = retry(max_attempts=4, base_delay=0.05, idempotent=True)(call)
        if settings.uses("breaker"):
            call = self.breaker(call)
        return call


def _fenced(token: int | None) -> dict[str, str]:
    return {} if token is None else {"Fencing-Token": str(token)}
