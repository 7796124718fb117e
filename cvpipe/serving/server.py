"""The HTTP side of the server: connections, bodies, statuses.

What is answered is `routes.answer`'s work.
"""

from __future__ import annotations

import json
import socket
import sys
import time
import traceback
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cvpipe import __version__
from cvpipe.errors import UserError
from cvpipe.serving import bodies, routes
from cvpipe.serving.errors import RequestError, to_request_error
from cvpipe.serving.models import Models, load_models

STALLED_SECONDS = 30.0
"""A connection that neither sends nor takes anything for so long is closed."""
LINGER_SECONDS = 5.0


def make_server(folder: Path, host: str, port: int) -> ThreadingHTTPServer:
    """Loads the models of a folder and listens; `serve_forever()` then answers TF Serving's REST
    API.

    To stop without losing an answer: `shutdown()` from another thread, then `server_close()`, which
    waits for the requests under way.

    Args:
        folder: what `models.find_versions` takes.
        host: the address to listen on, of IPv4 or IPv6; one other than 127.0.0.1 and ::1 lets other
            machines ask, and :: takes all of both kinds.
        port: 0 takes a free one, which `server_port` then tells.

    Raises:
        UserError: nothing to serve, a model that doesn't load, or an address that can't be listened
            on.
    """
    models = load_models(folder)
    try:
        return _Server(host, port, models)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"can't listen on {host}, port {port}: {error}; choose others with --host and --port"
        ) from error


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close waits for them
    request_queue_size = 128

    def __init__(self, host: str, port: int, models: Models) -> None:
        self.models = models
        self._connections: set[Any] = set()
        found: list[Any] = socket.getaddrinfo(
            host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        # Of a name with addresses of both kinds that of IPv4, where every client looks.
        family, *_, address = min(found, key=lambda each: each[0] != socket.AF_INET)
        self.address_family = family
        super().__init__((address[0], port, *address[2:]), _Handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            # So that :: also listens to IPv4.
            with suppress(OSError):
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        # A connection kept alive looks closed to its thread from now on; an answer under way can
        # still be written.
        for connection in self._connections.copy():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, ConnectionError):
            print(f"{client_address[0]} went away: {error}", file=sys.stderr)
        else:
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # not 0.9, which has no statuses: a garbled first line is answered with 400
    default_request_version = "HTTP/1.0"
    server_version = f"cvpipe/{__version__}"
    sys_version = ""
    timeout = STALLED_SECONDS
    # headers and body leave in two writes; the second would wait for the first's acknowledgement
    disable_nagle_algorithm = True

    def _answer(self) -> None:
        try:
            body = bodies.read_body(self.rfile, self._body_length())
        except RequestError as error:
            self._refuse_body(error)
            return
        try:
            body = bodies.unpack(body, self.headers.get("Content-Encoding", "identity"))
            content = routes.answer(self.server.models, self.command, self.path, body)
        except Exception as error:  # whatever one request meets, the others go on
            refusal = to_request_error(error)
            if refusal.status == 500:
                traceback.print_exc()
            self._send(refusal.status, {"error": str(refusal)}, refusal.allow)
        else:
            self._send(200, content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = (
        _answer  # routes.answer knows which are allowed
    )

    def handle_expect_100(self) -> bool:
        """Refuse a body before it is sent, for clients that ask first, as curl does."""
        try:
            self._body_length()
        except RequestError as error:
            self._refuse_body(error)
            return False
        return super().handle_expect_100()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What `http.server` itself finds wrong with a request, as TF Serving's JSON instead of a
        page.
        """
        self.close_connection = True
        self._send(code, {"error": message or self.responses.get(code, ("error",))[0]})

    def _body_length(self) -> int | None:
        return bodies.body_length(self.command, self.request_version, self.headers)

    def _refuse_body(self, error: RequestError) -> None:
        # An unread body would be taken for the next request, so the connection has to close; closed
        # at once, while the client still sends, it would be reset and the client would never see
        # why.
        self.close_connection = True
        self._send(error.status, {"error": str(error)})
        deadline = time.monotonic() + LINGER_SECONDS
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(LINGER_SECONDS)
            while time.monotonic() < deadline and self.rfile.read1(2**16):
                pass

    def _send(self, status: int, content: dict[str, Any], allow: str = "") -> None:
        body = json.dumps(content).encode("ascii")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if allow:
            self.send_header("Allow", allow)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
