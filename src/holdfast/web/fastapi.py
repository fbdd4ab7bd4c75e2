"""Problem documents for FastAPI and Starlette."""

from __future__ import annotations

from holdfast.errors import HoldfastError, MissingExtra
from holdfast.web.asgi import logged

try:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
except ImportError as _missing:
    raise MissingExtra('holdfast.web.fastapi needs FastAPI: pip install "holdfast[fastapi]"') from _missing

__all__ = ["install"]


def install(app: Starlette) -> None:
    """Have `app`, a FastAPI or Starlette application, answer every `HoldfastError` with RFC 9457.

    Registers an exception handler; one that the application registers later for a subclass of
    `HoldfastError` goes first. Sub-applications that are mounted need their own.
    """
    app.add_exception_handler(HoldfastError, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, HoldfastError)
    described = logged(error)
    return Response(described.body(), described.status, headers=described.headers)
