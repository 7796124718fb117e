"""Guards the limits of HTTP connections, with a small application over real sockets."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvicorn

from cvpipe.serving.protocol import Protocol
from cvpipe.serving.settings import Settings

GET = b"GET /short HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW_GET = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
BAD = b"BAD / HTTP/1.1\r\nHost: x\r\n\r\n"
BAD_CHUNK = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"
LONG_GET = b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n"
LONG = 5 * 2**20
"""Bytes of a response that is too long for the buffers of a socket."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with few bytes or many, soon or later, depending on the path."""
    if scope["path"] == "/slow":
        await asyncio.sleep(0.2)
    body = b"x" * LONG if scope["path"] == "/long" else b"done"
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def connected(**limits: float) -> Iterator[tuple[socket.socket, uvicorn.Server]]:
    """Serve `app` with limits in seconds; yield a client's connection and the server."""
    settings = Settings(**limits)  # type: ignore[arg-type]
    config = uvicorn.Config(
        app,
        http=type("Protocol", (Protocol,), {"settings": settings}),
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=settings.keep_alive_seconds,  # type: ignore[arg-type]
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        # Small buffers, so that the server notices soon that the client reads.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            client.settimeout(5)
            client.connect(listener.getsockname())
            yield client, server
        finally:
            client.close()
            server.should_exit = True
            thread.join()


@pytest.mark.parametrize("limit", ["stalled_seconds", "keep_alive_seconds"])
def test_a_client_that_reads_slowly_but_steadily_gets_a_long_response(limit: str) -> None:
    with connected(**{limit: 0.6}) as (client, _), suppress(ConnectionError):
        client.sendall(LONG_GET)
        received = 0
        while received < LONG and (data := client.recv(2**16)):
            received += len(data)
            time.sleep(0.01)
    assert received >= LONG


def test_a_client_that_stops_reading_a_long_response_is_disconnected() -> None:
    with connected(stalled_seconds=0.3) as (client, server):
        client.sendall(LONG_GET)
        client.recv(2**16)
        deadline = time.monotonic() + 10
        while server.server_state.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not server.server_state.connections


def test_empty_lines_dont_keep_an_idle_connection_open() -> None:
    with connected(keep_alive_seconds=0.5) as (client, _):
        client.sendall(GET)
        assert client.recv(2**16).endswith(b"done")
        client.sendall(b"\r\n")
        assert client.recv(2**16) == b""


def test_a_request_after_empty_lines_is_answered() -> None:
    with connected() as (client, _):
        for request in (GET, b"\r\n\r\n" + GET, b"\r\n", GET):
            client.sendall(request)
            if request.strip():
                assert client.recv(2**16).endswith(b"done")


@pytest.mark.parametrize(
    ("requests", "statuses"),
    [
        pytest.param(SLOW_GET + BAD, [200, 501], id="method"),
        pytest.param(SLOW_GET + SLOW_GET + BAD, [200, 200, 501], id="method of a third"),
        pytest.param(SLOW_GET + BAD_CHUNK, [200, 400], id="body"),
        pytest.param(SLOW_GET + SLOW_GET + BAD_CHUNK, [200, 200, 400], id="body of a third"),
        pytest.param(SLOW_GET + b"GET /sho", [200, 408], id="slow headers"),
    ],
)
def test_requests_before_a_bad_one_are_answered_first(requests: bytes, statuses: list[int]) -> None:
    with connected(header_seconds=0.1) as (client, _):
        client.sendall(requests)
        assert statuses_until_the_end(client) == statuses


def test_a_client_that_sends_no_more_gets_all_answers_before_an_error() -> None:
    with connected() as (client, _):
        client.sendall(SLOW_GET + BAD)
        client.shutdown(socket.SHUT_WR)
        assert statuses_until_the_end(client) == [200, 501]


def statuses_until_the_end(client: socket.socket) -> list[int]:
    """Read until the server sends no more; return the status of each response."""
    reply = b"".join(iter(lambda: client.recv(2**16), b""))
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", reply)]
