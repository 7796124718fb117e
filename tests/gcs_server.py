"""A small Cloud Storage server on localhost, with the part of the JSON API that file systems use.

Objects are held in memory. One server answers HTTP; another answers HTTPS for the names of Google's
hosts, through a proxy that connects every host name to localhost. curl uses the proxy in
`HTTPS_PROXY`, so host names need no configuration.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import select
import socket
import ssl
import subprocess
import threading
import urllib.parse
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HOSTS = ("storage.googleapis.com", "www.googleapis.com")


class Store:
    """Objects by (bucket, name), and the requests received."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.uploads: dict[str, tuple[str, str, bytearray]] = {}
        self.requests: list[tuple[str, str, str]] = []
        """Method, path and range of each request."""
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """Answers requests to a store; subclasses set `store`."""

    protocol_version = "HTTP/1.1"
    store: Store

    def do_GET(self) -> None:
        path, query = self._note_request()
        parts = path.strip("/").split("/")
        if path.startswith("/storage/v1/b/"):
            bucket = parts[3]
            if len(parts) == 4:
                self._json({"kind": "storage#bucket", "name": bucket, "location": "US"})
            elif len(parts) == 5:
                self._list(bucket, query)
            elif query.get("alt") == "media":
                self._content(bucket, _name(parts[5:]))
            else:
                self._about(bucket, _name(parts[5:]))
        elif path.startswith("/download/storage/v1/b/"):
            self._content(parts[4], _name(parts[6:]))
        else:
            self._content(parts[0], _name(parts[1:]))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        path, query = self._note_request()
        parts = path.strip("/").split("/")
        body = self._body()
        if path.startswith("/upload/"):
            bucket = parts[4]
            if query["uploadType"] == "resumable":
                name = query.get("name") or json.loads(body)["name"]
                number = str(len(self.store.uploads))
                self.store.uploads[number] = bucket, name, bytearray()
                host = self.headers["Host"]
                scheme = "https" if isinstance(self.connection, ssl.SSLSocket) else "http"
                self._answer(200, b"", {"Location": f"{scheme}://{host}/session/{number}"})
                return
            self._put(bucket, query["name"], body)
        elif "rewriteTo" in parts:
            cut = parts.index("rewriteTo")
            source = parts[3], _name(parts[5:cut])
            target = parts[cut + 2], _name(parts[cut + 4 :])
            if source not in self.store.objects:
                self._answer(404, b"{}")
                return
            self.store.objects[target] = self.store.objects[source]
            self._json({"done": True, "resource": self._describe(*target)})
        else:
            self._answer(501, b"{}")

    def do_PUT(self) -> None:
        path, _ = self._note_request()
        body = self._body()
        bucket, name, held = self.store.uploads[path.rpartition("/")[2]]
        given = self.headers.get("Content-Range", "")
        if given.startswith("bytes */"):
            self._incomplete(held)
            return
        held += body
        total = given.rpartition("/")[2]
        if total in ("", "*") or len(held) < int(total):
            self._incomplete(held)
        else:
            self._put(bucket, name, bytes(held))

    def do_DELETE(self) -> None:
        path, _ = self._note_request()
        parts = path.strip("/").split("/")
        found = self.store.objects.pop((parts[3], _name(parts[5:])), None)
        self._answer(204 if found is not None else 404, b"" if found is not None else b"{}")

    def _note_request(self) -> tuple[str, dict[str, str]]:
        address = urllib.parse.urlsplit(self.path)
        with self.store.lock:
            entry = self.command, address.path, self.headers.get("Range", "")
            self.store.requests.append(entry)
        return address.path, dict(urllib.parse.parse_qsl(address.query))

    def _body(self) -> bytes:
        # With chunked encoding, TensorFlow also sends a length, which has no meaning.
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = bytearray()
        while length := int(self.rfile.readline(), 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        items, prefixes = [], set()
        for each, name in sorted(self.store.objects):
            if each != bucket or not name.startswith(prefix):
                continue
            head, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            if cut:
                prefixes.add(prefix + head + delimiter)
            else:
                items.append(self._describe(bucket, name))
        self._json({"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)})

    def _about(self, bucket: str, name: str) -> None:
        if (bucket, name) in self.store.objects:
            self._json(self._describe(bucket, name))
        else:
            self._answer(404, b'{"error": {"code": 404, "message": "no such object"}}')

    def _content(self, bucket: str, name: str) -> None:
        content = self.store.objects.get((bucket, name))
        if content is None:
            self._answer(404, b'{"error": {"code": 404, "message": "no such object"}}')
            return
        headers = {"x-goog-generation": "1", "x-goog-stored-content-length": str(len(content))}
        wanted = self.headers.get("Range", "").removeprefix("bytes=")
        if not wanted:
            self._answer(200, content, headers)
            return
        first, _, last = wanted.partition("-")
        if first:
            begin, end = int(first), min(int(last or len(content)), len(content) - 1) + 1
        else:
            begin, end = max(len(content) - int(last), 0), len(content)
        if begin >= len(content):
            self._answer(416, b"")
            return
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
        self._answer(206, content[begin:end], headers)

    def _put(self, bucket: str, name: str, content: bytes) -> None:
        self.store.objects[bucket, name] = content
        self._json(self._describe(bucket, name))

    def _incomplete(self, held: bytearray) -> None:
        headers = {"Range": f"bytes=0-{len(held) - 1}"} if held else {}
        self._answer(308, b"", headers)

    def _describe(self, bucket: str, name: str) -> dict[str, Any]:
        content = self.store.objects[bucket, name]
        return {
            "kind": "storage#object",
            "name": name,
            "bucket": bucket,
            "size": str(len(content)),
            "generation": "1",
            "metageneration": "1",
            "updated": "2026-11-29T12:00:00.000Z",
            "md5Hash": b64encode(hashlib.md5(content).digest()).decode(),
        }

    def _json(self, value: Any) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Log nothing."""


def _name(parts: list[str]) -> str:
    return urllib.parse.unquote("/".join(parts))


class Proxy(BaseHTTPRequestHandler):
    """A proxy that connects every host of a CONNECT to `target`, an address on localhost."""

    target: tuple[str, int]

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        with socket.create_connection(self.target) as other:
            ends = [self.connection, other]
            while True:
                ready, _, _ = select.select(ends, [], [], 60)
                if not ready:
                    return
                for end in ready:
                    content = end.recv(65_536)
                    if not content:
                        return
                    ends[1 - ends.index(end)].sendall(content)

    def log_message(self, *args: Any) -> None:
        """Log nothing."""


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for Google's hosts, and its key, by openssl."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    names = ",".join(f"DNS:{host}" for host in HOSTS)
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=storage.googleapis.com"
    subprocess.run(
        [
            *command.split(),
            "-addext",
            f"subjectAltName={names}",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[Store, dict[str, str]]]:
    """Run a server; yield its store, and environment variables for processes that use it."""
    certificate, key = make_certificate(folder)
    store = Store()
    handler = type("Bound", (Handler,), {"store": store})
    plain = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    secure = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    proxy = ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Bound", (Proxy,), {"target": secure.server_address})
    )
    servers = (plain, secure, proxy)
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield (
            store,
            {
                "CLOUD_STORAGE_EMULATOR_ENDPOINT": f"http://127.0.0.1:{plain.server_port}",
                "CURL_CA_BUNDLE": str(certificate),
                "HTTPS_PROXY": f"http://127.0.0.1:{proxy.server_port}",
                "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
                "NO_GCE_CHECK": "true",
            },
        )
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
