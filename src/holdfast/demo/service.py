"""The payments service: what a careful team writes with holdfast, in one file.

A payment passes these, from outside in:

    rate limit per API key  >  lock per order  >  idempotency by header
      >  charge: breaker > retry > timeout > bulkhead > provider
      >  ONE transaction: ledger event + outbox message + stored answer

Every `settings.uses(...)` is there for the demo only: it leaves a pattern out, to show what it is for.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import httpx
from fastapi import FastAPI, Header
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

import holdfast.web.fastapi as problems
from holdfast.backends import AsyncBackend, connect_async
from holdfast.demo.books import balances_of, record_payment, recorded_payment
from holdfast.demo.guard import ProviderClient
from holdfast.demo.publishing import DirectPublisher
from holdfast.demo.settings import LONGEST_NAME, TIERS, Settings
from holdfast.edge import EdgeCache
from holdfast.errors import HoldfastError, RateLimited
from holdfast.idempotency import idempotency_key as make_key
from holdfast.idempotency import idempotent_execute
from holdfast.locks import Lease, Lock
from holdfast.operations import Async
from holdfast.ratelimit import TokenBucketLimiter

__all__ = ["AlreadyPaid", "create_app"]


class AlreadyPaid(HoldfastError):
    """Somebody else has paid this order."""

    code = "already-paid"
    title = "Order is paid already"
    status = 409


class PaymentRequest(BaseModel):
    """The body of POST /payments."""

    order: str = Field(min_length=1, max_length=LONGEST_NAME)
    account: str = Field(min_length=1, max_length=LONGEST_NAME)
    amount_cents: int = Field(gt=0)


class Service:
    """One worker's share of the service."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient, name: str) -> None:
        self.settings = settings
        self.db: AsyncBackend = connect_async(settings.addresses.database)
        self.locks: AsyncBackend = connect_async(settings.addresses.locks)
        self.provider: ProviderClient = ProviderClient(settings, http)
        self.publisher: DirectPublisher | None = None if settings.uses("outbox") else DirectPublisher(settings, name)
        self.limiters: dict[str, TokenBucketLimiter[Async]] = {
            name: TokenBucketLimiter(
                self.locks, capacity=tier.capacity, refill_rate=tier.refill_rate, name=f"payments:{name}", timeout=2.0
            )
            for name, tier in TIERS.items()
        }

    async def admit(self, api_key: str) -> None:
        """Take a token of the key's tier, or raise `RateLimited`."""
        limiter = self.limiters.get(api_key.partition("-")[0], self.limiters["free"])
        decision = await limiter.acquire(api_key)
        if not decision:
            raise RateLimited("your tier's quota is used up", retry_after=decision.retry_after)

    async def pay(self, payment: PaymentRequest, key: str, api_key: str) -> dict[str, Any]:
        """Charge and record one payment, exactly once."""
        async with self._alone(payment.order) as lease:
            token = lease.token if lease else None
            if not self.settings.uses("idempotency"):
                return await self._without_idempotency(payment, key, token)
            return await idempotent_execute(
                self.db,
                key,
                "/payments",
                lambda: self._charge(payment, key, token),
                commit=self._record,
                payload=payment.model_dump(),
                scope=api_key,
                lease=2.0,
                wait=2.0,
            )

    def _alone(self, order: str) -> contextlib.AbstractAsyncContextManager[Lease[Async] | None]:
        # The look into the provider's ledger and the charge must not overlap with another payer's.
        if not self.settings.uses("lock"):
            return contextlib.nullcontext()
        return Lock(self.locks, f"order:{order}", ttl=2.0, timeout=3.0)

    async def _charge(self, payment: PaymentRequest, key: str, token: int | None) -> dict[str, Any]:
        charge_key = make_key("charge", payment.order, key)
        charge = await self.provider.find(payment.order, token=token)
        if charge is None:
            return await self.provider.charge(payment.model_dump(), key=charge_key, token=token)
        if charge["key"] == charge_key:
            return charge  # ours: an earlier try died after the provider had charged
        raise AlreadyPaid(f"order {payment.order} was paid with {charge['charge']}")

    async def _record(self, tx: Any, charge: dict[str, Any]) -> None:
        recorded = await record_payment(tx, charge, outbox=self.publisher is None)
        if recorded and self.publisher is not None:
            self.publisher.soon(charge)

    async def _without_idempotency(self, payment: PaymentRequest, key: str, token: int | None) -> dict[str, Any]:
        # Like many services: look whether it is done, and if so refuse.
        if await recorded_payment(self.db, payment.order):
            raise AlreadyPaid(f"order {payment.order} is paid")
        charge = await self._charge(payment, key, token)
        async with self.db.transaction() as tx:
            await self._record(tx, charge)
        return charge


def create_app(settings: Settings, name: str) -> Any:
    """The ASGI application of the worker `name`."""
    service: Service

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal service
        async with httpx.AsyncClient(timeout=20.0) as http:
            service = Service(settings, http, name)
            async with service.db, service.locks:
                if service.publisher is None:
                    yield
                else:
                    async with service.publisher:
                        yield

    app = FastAPI(lifespan=lifespan)
    problems.install(app)

    @app.post("/payments")
    async def pay(payment: PaymentRequest, idempotency_key: str = Header(), x_api_key: str = Header()) -> JSONResponse:
        api_key = unquote(x_api_key)  # a header holds ASCII only, so names are percent-encoded in it
        if settings.uses("ratelimit"):
            await service.admit(api_key)
        return JSONResponse(await service.pay(payment, idempotency_key, api_key), 201)

    @app.get("/balances")
    async def balances() -> JSONResponse:
        return JSONResponse({"balances": await balances_of(service.db)})

    @app.get("/health")
    async def health() -> JSONResponse:
        state = str(service.provider.breaker.state)
        return JSONResponse({"breaker": state}, headers={"Cache-Control": "no-store"})

    if settings.uses("cache"):
        return EdgeCache(app, ttl=0.25, stale_while_revalidate=1.0)
    return app
