"""Common handling of HTTP requests: request ids, API keys, errors as JSON, metrics, logs.

If a request is refused before its body has been read, the connection is closed after the response.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cvpipe.serving.errors import RequestError, to_request_error
from cvpipe.serving.exchange import Exchange, Json
from cvpipe.serving.logs import log, log_error
from cvpipe.serving.protocol import HALF_CLOSE, LINGER_SECONDS
from cvpipe.serving.service import Service

Handler = Callable[[Exchange], Awaitable[Response]]
SPARED_BYTES = 2**16
"""If an unread rest of a body has at most this number of bytes, it is read, so that the connection
can stay open.
"""
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
# Request ids are a random prefix and a counter, because drawing random bytes for each request is
# slow.
_PROCESS, _NUMBERS = secrets.token_hex(12), itertools.count(1)


def endpoint(service: Service, handler: Handler, public: bool = False) -> ASGIApp:
    """Wrap a handler as an ASGI application.

    Args:
        service: the service.
        handler: maps a request to its response.
        public: True to require no API key.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(scope, receive)
        exchange = Exchange(Request(scope, body.receive), service)
        request_id = _request_id(exchange.request.headers)
        try:
            if not public:
                exchange.check_key()
            response = await handler(exchange)
        except ConnectionAbortedError:
            return
        except Exception as error:  # an error must not affect other requests
            response = _refusal(error, exchange, request_id)
        finally:
            exchange.release()
        response.headers["X-Request-Id"] = request_id
        if service.draining:
            response.headers["Connection"] = "close"
        await body.finish(response, send)
        _count(exchange, response, request_id)

    return app


class _Body:
    """The body of a request. Records if reading it has begun and ended."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = Headers(scope=scope)
        self._scope, self._receive = scope, receive
        self._ended = not (
            headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        )
        self._expects_continue = "expect" in headers
        self._begun = False

    async def receive(self) -> Message:
        self._begun = True
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            self._ended = True
        return message

    async def finish(self, response: Response, send: Send) -> None:
        """Send a response. If too much of the body is unread, then close the connection."""
        if not self._ended and (self._begun or not self._expects_continue):
            await self._skip(SPARED_BYTES, 0.2)
        if self._ended:
            await response(self._scope, self._receive, send)
            return
        response.headers["Connection"] = "close"
        raw = response.raw_headers
        await send({"type": "http.response.start", "status": response.status_code, "headers": raw})
        body = {"type": "http.response.body", "body": bytes(response.body), "more_body": True}
        await send(body)
        if close := self._scope.get("extensions", {}).get(HALF_CLOSE):
            close()
        # Closing while the client still sends would reset the connection and lose the response.
        if self._begun or not self._expects_continue:
            await self._skip(None, LINGER_SECONDS)
        await send({**body, "body": b"", "more_body": False})

    async def _skip(self, most: int | None, seconds: float) -> None:
        skipped, end = 0, time.monotonic() + seconds
        with suppress(TimeoutError):
            while not self._ended and (most is None or skipped <= most):
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    message = await self.receive()
                skipped += len(message.get("body", b""))


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"{_PROCESS}{next(_NUMBERS):08x}"


def _refusal(error: Exception, exchange: Exchange, request_id: str) -> Json:
    if isinstance(error, HTTPException):
        error = RequestError(error.status_code, error.detail)
    refusal = to_request_error(error)
    if refusal.status == 500:
        log_error(error, request_id=request_id, path=exchange.raw_path)
    return Json({"error": str(refusal)}, refusal.status, refusal.headers)


def _count(exchange: Exchange, response: Response, request_id: str) -> None:
    exchange.mark("write")
    service, path = exchange.service, exchange.raw_path
    version = (exchange.model, exchange.version)
    service.metrics.count("http", *version, str(response.status_code))
    if exchange.model:
        service.metrics.note_stages(*version, exchange.times)
    if service.settings.access_log:
        log(
            "request",
            request_id=request_id,
            method=exchange.method,
            path=path,
            status=response.status_code,
            model=exchange.model,
            version=exchange.version,
            **{stage: round(seconds, 6) for stage, seconds in exchange.times.items()},
        )
