"""The server's sockets, its loop, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn

from cvpipe.errors import UserError
from cvpipe.serving.app import make_app
from cvpipe.serving.errors import RequestError
from cvpipe.serving.logs import log
from cvpipe.serving.protocol import GRACE_SECONDS, Protocol, refusal
from cvpipe.serving.service import Service
from cvpipe.serving.settings import Settings

SETTLE_SECONDS = 0.3
"""So long a server that stops still answers, so that no request meets a closed connection."""


def make_server(folder: Path, host: str, port: int, settings: Settings | None = None) -> Server:
    """Load the models of a folder and listen; `serve_forever()` then answers.

    To stop without losing an answer: `shutdown()` from another thread, which waits for the requests
    under way, then `server_close()`.

    Args:
        folder: what `models.find_models` takes.
        host: the address to listen on, of IPv4 or IPv6; one other than 127.0.0.1 and ::1 lets other
            machines ask, and :: takes all of both kinds.
        port: 0 takes a free one, which `server_port` then tells.
        settings: limits and choices.

    Raises:
        UserError: nothing to serve, a model that doesn't load, or an address that can't be listened
            on.
    """
    settings = settings or Settings()
    listener = _bind(host, port)
    service = Service(folder, settings)
    try:
        # Nobody is let in before there is something to answer.
        service.shelf.start()
        _listen(listener, host, port)
        return Server(service, listener, host)
    except BaseException:
        listener.close()
        service.close()
        raise


class Server:
    """A service that listens; a context, within which it may serve."""

    def __init__(self, service: Service, listener: socket.socket, host: str) -> None:
        """Serve on a socket that listens; gRPC listens on the same host once it serves."""
        self.service, self._listener, self._host = service, listener, host
        self.grpc_port: int | None = None
        self.server_port: int = listener.getsockname()[1]
        settings = service.settings
        protocol = type("Protocol", (Protocol,), {"settings": settings})
        config = uvicorn.Config(
            make_app(service),
            http=protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=True,
            timeout_keep_alive=settings.keep_alive_seconds,  # type: ignore[arg-type]
            timeout_graceful_shutdown=max(1, round(settings.drain)),
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
            headers=[("Server", "cvpipe")],
        )
        try:
            config.load()
        except (OSError, ValueError) as error:
            raise UserError(
                f"{settings.tls_cert}: the certificate can't be used ({error}); give --tls-cert and"
                " --tls-key in PEM"
            ) from None
        self._uvicorn = _Uvicorn(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._asked, self._done = threading.Event(), threading.Event()
        self._started = threading.Event()
        self._running = False

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.server_close()

    def serve_forever(self) -> None:
        """Answer until `shutdown` or `stop` is called."""
        self._running = True
        try:
            factory = self._uvicorn.config.get_loop_factory()
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(self._serve())
        finally:
            self._started.set()
            self._done.set()

    def wait_until_started(self) -> None:
        """Return once all ports listen."""
        self._started.wait(60)

    def stop(self) -> None:
        """Begin to stop, from any thread and from handlers of signals."""
        self._asked.set()
        self.service.draining = True
        if self._loop and self._stopping:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)

    def shutdown(self) -> None:
        """Stop, and wait until the last request is answered."""
        self.stop()
        if self._running:
            self._done.wait()

    def server_close(self) -> None:
        """Let go of the socket and the models."""
        self.shutdown()
        self._listener.close()
        self.service.close()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        if self._asked.is_set():
            self._stopping.set()
        remote = await self._start_grpc()
        self._started.set()
        serving = asyncio.create_task(self._uvicorn.serve(sockets=[self._listener.dup()]))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await self._drain()
        self._uvicorn.should_exit = True
        await serving
        if not self.service.settings.tls_cert:
            await asyncio.to_thread(_turn_away, self._listener)
        self._listener.close()
        if remote:
            await remote.stop(self.service.settings.drain)
        stopping.cancel()

    async def _start_grpc(self) -> Any:
        port = self.service.settings.grpc_port
        if port is None:
            return None
        # Importing it takes time, and gRPC starts threads.
        from cvpipe.serving.grpc_server import start_grpc

        server, self.grpc_port = await start_grpc(self.service, self._host, port)
        log("grpc", port=self.grpc_port)
        return server

    async def _drain(self) -> None:
        """Wait for the requests that were taken before."""
        began = time.monotonic()
        log("draining", requests=self.service.in_flight)
        await asyncio.sleep(min(SETTLE_SECONDS, self.service.settings.drain))
        while self.service.in_flight and time.monotonic() - began < self.service.settings.drain:
            await asyncio.sleep(0.02)
        log("drained", left=self.service.in_flight)


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the command."""
        yield


def _turn_away(listener: socket.socket) -> None:
    """Answer connections that were made and never taken up; closing the socket would reset them."""
    answer = refusal(RequestError(503, "this server is stopping; ask another", retry_after=1))
    listener.setblocking(False)
    # Clients that come back at once would have the server never end.
    end = time.monotonic() + GRACE_SECONDS
    with suppress(OSError):
        while time.monotonic() < end:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.settimeout(GRACE_SECONDS)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(2**16):
                    pass


def _bind(host: str, port: int) -> socket.socket:
    """Return a socket of an address.

    Raises:
        UserError: it can't be had.
    """
    try:
        found: list[Any] = socket.getaddrinfo(
            host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        # Of a name with addresses of both kinds that of IPv4, where every client looks.
        family, *_, address = min(found, key=lambda each: each[0] != socket.AF_INET)
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # So that :: also listens to IPv4.
                with suppress(OSError):
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind((address[0], port, *address[2:]))
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        raise _no_address(host, port, error) from error
    return listener


def _listen(listener: socket.socket, host: str, port: int) -> None:
    try:
        listener.listen(1024)
    except OSError as error:
        raise _no_address(host, port, error) from error


def _no_address(host: str, port: int, error: Exception) -> UserError:
    return UserError(
        f"can't listen on {host}, port {port}: {error}; choose others with --host and --port"
    )
