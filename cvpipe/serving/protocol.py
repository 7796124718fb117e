"""HTTP/1.1 connections: uvicorn's protocol with limits on time and size, and errors as JSON."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from cvpipe.serving.bodies import body_length
from cvpipe.serving.errors import RequestError
from cvpipe.serving.settings import Settings

MAX_HEADER_BYTES = 2**16
MAX_TRAILERS = 100
LINGER_SECONDS = 5.0
GRACE_SECONDS = 1.0
"""After the server begins to stop, idle connections may send a request for this number of seconds.
"""
HALF_CLOSE = "cvpipe.half_close"
"""ASGI extension: a function that ends the sending direction of a connection; reading continues."""


class _Refused(Exception):
    """Raised in a callback of the parser to stop the parser."""


class Protocol(HttpToolsProtocol):
    """One connection.

    Headers must arrive within `header_seconds`. A body that is too long or has an unknown encoding
    is refused before it is read. A client that receives nothing for `stalled_seconds` is
    disconnected.
    """

    settings = Settings()
    """Each server sets this in a subclass."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        # Spaces before a chunk extension are allowed by RFC 9112.
        self.parser.set_dangerous_leniencies(
            lenient_data_after_close=True, lenient_spaces_after_chunk_size=True
        )

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for headers."""
        super().connection_made(transport)
        self._header_bytes, self._trailers, self._in_headers, self._body_begun = 0, 0, True, False
        self._refusal: RequestError | None = None
        self._deferred: RequestError | None = None
        self._header_buffer = _HeaderBuffer(transport)
        self._refused = self._half_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        if len(self.connections) > self.settings.max_connections:
            self._refuse(RequestError(503, "too many connections; try again", retry_after=1))
        else:
            self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        for timer in (self._timer, self._stalled):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass data to the parser, unless the connection was refused."""
        if self._refused:
            return
        if self._in_headers:
            self._header_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return
        except httptools.HttpParserError as error:
            self._refuse(self._refusal or self._reason(error))
            return
        if self._in_headers and self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(RequestError(431, f"the headers have over {MAX_HEADER_BYTES} bytes"))

    def eof_received(self) -> bool:  # type: ignore[override]
        """Return True to keep the connection open for a response.

        If the request is incomplete, the response is an error.
        """
        if self._deferred:
            return True
        cycle: RequestResponseCycle | None = self.cycle
        if self._refused or cycle is None or cycle.response_complete:
            return False
        cycle.keep_alive = False
        if cycle.more_body:
            self._refuse(RequestError(400, "the body ended early; send the whole body"))
        return True

    def on_message_begin(self) -> None:
        """Start a request. Empty lines don't start one, and the keep-alive timer runs on."""
        self._unset_keepalive_if_required()
        super().on_message_begin()
        self._in_headers, self._body_begun, self._trailers = True, False, 0
        self._set_timer()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header. Trailers are ignored."""
        if self._in_headers:
            super().on_header(name, value)
            return
        self._trailers += 1
        if self._trailers > MAX_TRAILERS:
            self._stop(RequestError(400, f"the body has over {MAX_TRAILERS} trailers"))

    def on_headers_complete(self) -> None:
        """Refuse unreadable bodies; pass all other requests to the application."""
        self._in_headers, self._header_bytes = False, 0
        self._clear_timer()
        method, version = self.parser.get_method().decode("ascii"), self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._stop(RequestError(400, "this is not an HTTP/1.1 request"))
        try:
            body_length(method, version, self.headers, self.settings.max_body_bytes)
        except RequestError as error:
            self._stop(error)
        extensions: Any = {HALF_CLOSE: self._half_close}
        self.scope["extensions"] = extensions
        super().on_headers_complete()
        buffer: Any = self._header_buffer
        self.cycle.transport = buffer

    def on_message_complete(self) -> None:
        """End a request."""
        super().on_message_complete()
        self._in_headers, self._header_bytes = True, 0

    def on_response_complete(self) -> None:
        """Flush a response without a body, and start or wait for the next request."""
        self._header_buffer.flush()
        is_last = not self.pipeline
        super().on_response_complete()
        if self._deferred and is_last and not self.transport.is_closing():
            self._send_refusal(self._deferred)

    def shutdown(self) -> None:
        """Close the connection after its current request. An idle connection is kept open for
        `GRACE_SECONDS`, because a request may be in transit.
        """
        if self._is_idle():
            self.loop.call_later(GRACE_SECONDS, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self._is_idle():
            self.transport.close()

    def _is_idle(self) -> bool:
        """Return True if no request is in progress; otherwise close the connection after it."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            return True
        cycle.keep_alive = False
        return False

    def pause_writing(self) -> None:
        """Start the timer that disconnects a client that receives nothing."""
        super().pause_writing()
        self._set_stalled()

    def resume_writing(self) -> None:
        """Cancel the timer of `pause_writing`. The connection is idle only from now on."""
        super().resume_writing()
        if self._stalled:
            self._stalled.cancel()
        if self.timeout_keep_alive_task:
            self._set_keep_alive()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, even if the client has not read the end of the response."""
        if self.flow.write_paused:
            # The client may still be reading a long response; `_check_stalled` finds out.
            self._set_keep_alive()
        elif self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _set_keep_alive(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _set_stalled(self) -> None:
        self._stalled = self.loop.call_later(
            self.settings.stalled_seconds,
            self._check_stalled,
            self.transport.get_write_buffer_size(),
        )

    def _check_stalled(self, unsent: int) -> None:
        """Disconnect the client if it has received nothing since `unsent` bytes were left."""
        if self.transport.get_write_buffer_size() < unsent:
            self._set_stalled()
        else:
            self.transport.abort()

    def _stop(self, error: RequestError) -> None:
        self._refusal = error
        raise _Refused

    def _reason(self, error: httptools.HttpParserError) -> RequestError:
        """Convert an error of the parser."""
        if self._in_headers and isinstance(error, httptools.HttpParserInvalidMethodError):
            return RequestError(501, "unknown HTTP method")
        if "Invalid `Transfer-Encoding`" in str(error) or (
            "invalid `Transfer-Encoding`" in str(error)
        ):
            return RequestError(
                501, "Transfer-Encoding must be chunked; for gzip, send Content-Encoding: gzip"
            )
        return RequestError(400, f"this is not an HTTP/1.1 request: {error}")

    def _refuse(self, error: RequestError) -> None:
        """Stop parsing, and send an error after the responses to earlier requests."""
        self._refused = True
        self._clear_timer()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self._send_refusal(error)
            return
        if not cycle.more_body:
            # The request in progress is complete, so the error is in one that follows it.
            self._deferred = error
            return
        cycle.disconnected = True
        cycle.message_event.set()
        if self.pipeline:
            # The request with the error is the last in the queue.
            self.pipeline.popleft()
            self._deferred = error
        elif cycle.response_started:
            self.transport.close()
        else:
            self._send_refusal(error)

    def _send_refusal(self, error: RequestError) -> None:
        """Send an error, read the data that the client still sends, then close the connection.

        Closing immediately would reset the connection, and the client wouldn't receive the error.
        """
        self._deferred = None
        self._unset_keepalive_if_required()
        self.transport.write(refusal(error))
        self._half_close()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _half_close(self) -> None:
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    def _set_timer(self) -> None:
        self._clear_timer()
        self._timer = self.loop.call_later(self.settings.header_seconds, self._too_slow)

    def _clear_timer(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _too_slow(self) -> None:
        # Bytes of a pipelined request that arrive with the end of another are not counted.
        if self._header_bytes or self.cycle is not None:
            self._refuse(RequestError(408, "the headers arrived too slowly; send them again"))
        else:
            self.transport.close()


class _HeaderBuffer:
    """Transport that sends headers and body in one write. Every write is a system call in which
    Python's global lock may pass to another thread.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._held = transport, b""

    def write(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100"):
            self._held = data
        elif data or self._held:
            # Skip empty writes: after `write_eof`, even these are errors.
            self._transport.write(self._held + data if self._held else data)
            self._held = b""

    def flush(self) -> None:
        if self._held:
            self._transport.write(self._held)
            self._held = b""

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


def refusal(error: RequestError) -> bytes:
    """Return an error as an HTTP response that closes the connection."""
    body = json.dumps({"error": str(error)}).encode("ascii")
    headers: dict[str, Any] = {
        "content-type": "application/json",
        "content-length": len(body),
        "connection": "close",
        **error.headers,
    }
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
