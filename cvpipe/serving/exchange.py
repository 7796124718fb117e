"""One request and its answer over HTTP: body, deadlines, errors."""

from __future__ import annotations

import asyncio
import json
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from cvpipe.serving.bodies import JsonGuard, Unpacker
from cvpipe.serving.errors import RequestError
from cvpipe.serving.keys import check_key

if TYPE_CHECKING:
    from cvpipe.serving.service import Service
    from cvpipe.serving.shelf import Version

GUARDED_BYTES = 2**12
"""Bodies of fewer bytes are parsed unseen."""
MIN_BYTES_PER_SECOND = 50_000
"""A body that comes slower is refused, once `stalled_seconds` have passed."""


class Json(Response):
    """JSON in which NaN and Infinity are numbers, as TF Serving writes them."""

    media_type = "application/json"

    def __init__(
        self, content: Any, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        """Answer with an object."""
        super().__init__(content, status, headers)

    def render(self, content: Any) -> bytes:
        """Write the object."""
        return content if isinstance(content, bytes) else json.dumps(content).encode("ascii")


class Exchange:
    """A request as its handler sees it: body, model, times."""

    def __init__(self, request: Request, service: Service) -> None:
        """Wrap a request of Starlette."""
        self.request, self.service = request, service
        self.model = self.version = ""
        """As the metrics name them; empty where there is no such model."""
        self.began = self._marked = time.monotonic()
        self.times: dict[str, float] = {}
        self.held = 0

    @property
    def method(self) -> str:
        """The method of HTTP."""
        return self.request.method

    @cached_property
    def raw_path(self) -> str:
        """The path as it was sent, without its query."""
        raw: bytes = self.request.scope.get("raw_path") or self.request.scope["path"].encode()
        return raw.partition(b"?")[0].decode("latin-1")

    def check_key(self) -> None:
        """Refuse a request without an API key, if there are any.

        Raises:
            RequestError: 401.
        """
        check_key(self.service.settings.api_keys, self.request.headers.get)

    def mark(self, stage: str) -> None:
        """End a stage of the request, for the metrics."""
        now = time.monotonic()
        self.times[stage], self._marked = now - self._marked, now

    async def body(
        self, json_values: int | None = None, json_bytes: int | None = None
    ) -> bytearray:
        """Return the body, unpacked.

        Args:
            json_values: of a body in JSON, the most instances.
            json_bytes: the length of the JSON, where other bytes follow it.

        Raises:
            RequestError: it is too long, too slow, damaged, or there are too many already.
        """
        settings, request = self.service.settings, self.request
        coding = request.headers.get("content-encoding", "identity")
        sized = "content-length" in request.headers
        unpacker = Unpacker(coding, settings.max_body_bytes, sized)
        guard = JsonGuard(json_values) if json_values else None
        content, unseen, taken = bytearray(), 0, 0
        try:
            more = True
            while more:
                message = await self._receive(taken)
                taken += len(message["body"])
                for piece in unpacker.feed(message["body"]):
                    content += piece
                    self._hold(len(piece))
                    seen = len(content) if json_bytes is None else min(len(content), json_bytes)
                    if guard and seen > max(unseen, GUARDED_BYTES):
                        guard.feed(bytes(content[unseen:seen]))
                        unseen = seen
                more = message["more_body"]
            unpacker.end()
        except BaseException:
            self._hold(-len(content))
            raise
        self.held = len(content)
        self.mark("read")
        return content

    def release(self) -> None:
        """Stop counting the body as held."""
        self._hold(-self.held)
        self.held = 0

    def _hold(self, size: int) -> None:
        service = self.service
        service.held_bytes += size
        if size > 0 and service.held_bytes > service.settings.max_held_bytes:
            raise RequestError(429, "the server holds too many bodies; try again", retry_after=1)

    async def _receive(self, taken: int) -> dict[str, Any]:
        settings = self.service.settings
        allowed = settings.stalled_seconds + taken / MIN_BYTES_PER_SECOND
        left = self.began + allowed - time.monotonic()
        try:
            async with asyncio.timeout(min(max(left, 0), settings.stalled_seconds)):
                message = await self.request.receive()
        except TimeoutError:
            raise RequestError(408, "the body took too long") from None
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError("the client went away")
        return dict(message)

    def of(self, version: Version) -> None:
        """Name the version for the metrics."""
        self.model, self.version = version.model, str(version.number)
