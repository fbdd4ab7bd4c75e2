"""Make a stored response out of the ASGI messages of one answer.

Sans-IO: it is shown every message and holds no more than `max_body_bytes` of body at any time.
"""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.clock import Clock
from holdfast.edge._asgi import HeaderList, Message
from holdfast.edge.cache_control import delta_seconds
from holdfast.edge.entry import Entry, stored_headers
from holdfast.edge.freshness import Policy
from holdfast.edge.request import CacheRequest, fold, selecting
from holdfast.edge.storage import NotStorable, Storable, judge

__all__ = ["Collector"]

# RFC 9110, 8.6: a 204 carries no Content-Length.
_NO_CONTENT = 204


class Collector:
    """Watches one answer.

    Attributes:
        outcome: None while it is not known; then the stored response, or why there is none.
        status: the status code, 0 before the answer began.
        forbidden: the key became invalid meanwhile, so the entry must not be stored.
    """

    def __init__(self, request: CacheRequest, *, policy: Policy, clock: Clock, max_body_bytes: int) -> None:
        self.request = request
        self.outcome: Entry | NotStorable | None = None
        self.status: int = 0
        self.forbidden = False
        self._policy = policy
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._asked_at = clock.monotonic()
        self._stored_at = self._asked_at
        self._terms: Storable | None = None
        self._lines: HeaderList = []
        self._folded: Mapping[bytes, bytes] = {}
        self._chunks: list[bytes] = []
        self._size_bytes = 0

    def feed(self, message: Message) -> None:
        """Look at the next message of the answer."""
        if self.outcome is not None:
            return
        if message["type"] == "http.response.start" and not message.get("trailers"):
            self._start(message)
        elif message["type"] == "http.response.body":
            self._body(message)
        else:
            self._give_up("extension")

    def end(self) -> None:
        """The application returned; an answer without its last part is never stored (RFC 9111, 3.3)."""
        if self.outcome is None:
            self._give_up("incomplete")

    @property
    def will_store(self) -> bool:
        """Whether, by its head, the answer is going to be stored."""
        return self._terms is not None and b"content-length" in self._folded and not self.forbidden

    @property
    def etag(self) -> bytes | None:
        """The entity tag of the answer, once its head is known."""
        return self._folded.get(b"etag")

    @property
    def last_modified(self) -> bytes | None:
        """When the answer's resource was changed, once its head is known."""
        return self._folded.get(b"last-modified")

    def _start(self, message: Message) -> None:
        self.status = message["status"]
        self._lines = [(name.lower(), value) for name, value in message.get("headers", ())]
        self._folded = fold(self._lines)
        self._stored_at = self._clock.monotonic()
        verdict = judge(
            self.request,
            self.status,
            self._folded,
            self._policy,
            wall=self._clock.wall(),
            response_delay=self._stored_at - self._asked_at,
        )
        if isinstance(verdict, NotStorable):
            self.outcome = verdict
        elif (delta_seconds(self._folded.get(b"content-length", b"0")) or 0) > self._max_body_bytes:
            self._give_up("too-large")
        else:
            self._terms = verdict

    def _body(self, message: Message) -> None:
        chunk = message.get("body", b"")
        self._size_bytes += len(chunk)
        if self._size_bytes > self._max_body_bytes:
            self._give_up("too-large")
        elif self._terms is None:
            self._give_up("protocol")
        else:
            # A view or a bytearray may change after it was sent, so it is copied; bytes are not.
            self._chunks.append(bytes(chunk))
            if not message.get("more_body"):
                self._finish(self._terms)

    def _finish(self, terms: Storable) -> None:
        stated = self._folded.get(b"content-length")
        if stated is not None and delta_seconds(stated) != self._size_bytes:
            self._give_up("incomplete")
            return
        length = None if self.status == _NO_CONTENT else self._size_bytes
        self.outcome = Entry(
            status=self.status,
            headers=stored_headers(self._lines, self._folded, length=length),
            body=b"".join(self._chunks),
            stored_at=self._stored_at,
            initial_age=terms.initial_age,
            fresh_for=terms.fresh_for,
            stale_for=terms.stale_for,
            vary=terms.vary,
            variant=selecting(terms.vary, self.request.headers),
            for_authorization=terms.for_authorization,
            for_cookies=terms.for_cookies,
            etag=self.etag,
            last_modified=self.last_modified,
        )
        self._chunks = []

    def _give_up(self, reason: str) -> None:
        self.outcome = NotStorable(reason)
        self._terms = None
        self._chunks = []
