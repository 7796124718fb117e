"""One HTTP request and its response: body, deadlines, errors."""

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
    from cvpipe.serving.versions import Version

GUARDED_BYTES = 2**12
"""`JsonGuard` checks only bodies with more bytes."""
MIN_BYTES_PER_SECOND = 50_000
"""Minimum rate at which a body must arrive, enforced after `stalled_seconds`."""


class Json(Response):
    """JSON response. NaN and Infinity are written as numbers, as in TF Serving."""

    media_type = "application/json"

    def __init__(
        self, content: Any, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        """Create a response from an object or from encoded JSON."""
        super().__init__(content, status, headers)

    def render(self, content: Any) -> bytes:
        """Encode the object."""
        return content if isinstance(content, bytes) else json.dumps(content).encode("ascii")


class Exchange:
    """An HTTP request in progress: body, model, times."""

    def __init__(self, request: Request, service: Service) -> None:
        """Wrap a Starlette request."""
        self.request, self.service = request, service
        self.model = self.version = ""
        """Model and version for the metrics; empty before they are known."""
        self.began = self._marked = time.monotonic()
        self.times: dict[str, float] = {}
        self.held = 0

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.request.method

    @cached_property
    def raw_path(self) -> str:
        """The path before decoding, without the query."""
        raw: bytes = self.request.scope.get("raw_path") or self.request.scope["path"].encode()
        return raw.partition(b"?")[0].decode("latin-1")

    def check_key(self) -> None:
        """Refuse a request without a valid API key, if the server has keys.

        Raises:
            RequestError: 401.
        """
        check_key(self.service.settings.api_keys, self.request.headers.get)

    def mark(self, stage: str) -> None:
        """Record the end of a stage of the request."""
        now = time.monotonic()
        self.times[stage], self._marked = now - self._marked, now

    async def body(
        self, json_values: int | None = None, json_bytes: int | None = None
    ) -> bytearray:
        """Read and decode the body.

        Args:
            json_values: maximum number of instances in a JSON body; None for other bodies.
            json_bytes: length of the JSON if binary data follows it.

        Raises:
            RequestError: the body is too large, too slow or damaged, or the server holds too many
                bodies.
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
                    self.service.hold(len(piece))
                    seen = len(content) if json_bytes is None else min(len(content), json_bytes)
                    if guard and seen > max(unseen, GUARDED_BYTES):
                        guard.feed(bytes(content[unseen:seen]))
                        unseen = seen
                more = message["more_body"]
            unpacker.end()
        except BaseException:
            self.service.hold(-len(content))
            raise
        self.held = len(content)
        self.mark("read")
        return content

    def release(self) -> None:
        """Release the memory counted for the body."""
        self.service.hold(-self.held)
        self.held = 0

    async def _receive(self, taken: int) -> dict[str, Any]:
        settings = self.service.settings
        allowed = settings.stalled_seconds + taken / MIN_BYTES_PER_SECOND
        left = self.began + allowed - time.monotonic()
        try:
            async with asyncio.timeout(min(max(left, 0), settings.stalled_seconds)):
                message = await self.request.receive()
        except TimeoutError:
            raise RequestError(408, "the body arrived too slowly; send it again") from None
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError("the client went away")
        return dict(message)

    def of(self, version: Version) -> None:
        """Set the version for the metrics."""
        self.model, self.version = version.model, str(version.number)
