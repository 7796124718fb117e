"""The server: sockets, event loop, graceful shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn

from cvpipe.errors import UserError
from cvpipe.serving import listener as listeners
from cvpipe.serving.app import make_app
from cvpipe.serving.logs import log
from cvpipe.serving.protocol import Protocol
from cvpipe.serving.service import Service
from cvpipe.serving.settings import Settings

SETTLE_SECONDS = 0.3
"""Seconds in which a stopping server accepts pending connections."""


def make_server(folder: Path, host: str, port: int, settings: Settings | None = None) -> Server:
    """Load the models of a folder and listen. Call `serve_forever()` to answer requests.

    To stop without losing responses, call `shutdown()` from another thread, which waits until
    requests in progress are answered; then call `server_close()`.

    Args:
        folder: a folder of models, as for `models.find_models`.
        host: IPv4 or IPv6 address to listen on. 127.0.0.1 and ::1 allow only this machine; ::
            listens on all addresses of both kinds.
        port: port to listen on; 0 for a free port, which `Server.server_port` then states.
        settings: settings of the server.

    Raises:
        UserError: there is no model to serve, or the address can't be used.
    """
    settings = settings or Settings()
    listener = listeners.bind(host, port)
    service = Service(folder, settings)
    try:
        # Accept connections only after the models are loaded.
        service.shelf.start()
        listeners.listen(listener, host, port)
        return Server(service, listener, host)
    except BaseException:
        listener.close()
        service.close()
        raise


class Server:
    """A service that listens on a socket. As a context manager, it closes the socket at the end."""

    def __init__(self, service: Service, listener: socket.socket, host: str) -> None:
        """Prepare to serve on a listening socket. gRPC listens on the same host once
        `serve_forever` runs.
        """
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
        self._running, self._grace = False, 0.0

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
        """Answer requests until `shutdown` or `stop` is called."""
        self._running = True
        try:
            factory = self._uvicorn.config.get_loop_factory()
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(self._serve())
        finally:
            self._started.set()
            self._done.set()

    def wait_until_started(self) -> None:
        """Wait until the server listens on all ports."""
        self._started.wait(60)

    def stop(self, grace: float = 0.0) -> None:
        """Start stopping. May be called from any thread and from signal handlers.

        Args:
            grace: seconds in which requests are still accepted, so that load balancers can stop
                sending them. Meanwhile /readyz fails, and every response closes its connection.
        """
        if not self._asked.is_set():
            self._grace = grace
        self._asked.set()
        self.service.draining = True
        if self._loop and self._stopping:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)

    def shutdown(self) -> None:
        """Stop, and wait until all requests are answered."""
        self.stop()
        if self._running:
            self._done.wait()

    def server_close(self) -> None:
        """Close the socket and release the models."""
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
        await self._drain_connections()
        self._uvicorn.should_exit = True
        drain = self.service.settings.drain
        ends = asyncio.gather(serving, remote.stop(drain) if remote else asyncio.sleep(0))
        while any(server.is_serving() for server in self._uvicorn.servers):
            await asyncio.sleep(0.01)
        plain = not self.service.settings.tls_cert
        await asyncio.to_thread(listeners.close, self._listener, plain)
        await ends
        log("drained", left=self.service.in_flight)
        stopping.cancel()

    async def _start_grpc(self) -> Any:
        port = self.service.settings.grpc_port
        if port is None:
            return None
        # Import it here, because importing gRPC is slow and starts threads.
        from cvpipe.serving.grpc_server import start_grpc

        server, self.grpc_port = await start_grpc(self.service, self._host, port)
        log("grpc", port=self.grpc_port)
        return server

    async def _drain_connections(self) -> None:
        """Serve for the grace period; then accept only connections that are already pending."""
        log("draining", requests=self.service.in_flight, grace=self._grace)
        await asyncio.sleep(self._grace)
        listeners.refuse_new(self._listener)
        await asyncio.sleep(SETTLE_SECONDS)


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: the command handles signals."""
        yield
