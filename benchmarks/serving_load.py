"""An HTTP client that measures a server under load. The client is made to use little CPU time,
because it shares the cores with the server.

    python benchmarks/serving_load.py PORT PATH BODY CLIENTS SECONDS

One thread handles CLIENTS sockets. Each socket sends the file BODY, and sends it again as soon as
the answer has arrived. The client prints JSON: the number of answers, seconds, latencies, and its
own CPU time.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from pathlib import Path

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Connection:
    """A connection with one request in progress at a time."""

    def __init__(self, port: int, request: bytes) -> None:
        self.request, self.missing, self.reply = request, -1, b""
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self) -> None:
        """Send the request."""
        self.reply, self.missing = b"", -1
        self.began = time.perf_counter()
        self.socket.sendall(self.request)

    def receive(self) -> bool:
        """Read the received data. Return True if the answer is complete."""
        part = self.socket.recv(2**18)
        if not part:
            raise ConnectionError(f"the server closed the connection after {self.reply[:500]!r}")
        if self.missing >= 0:
            self.missing -= len(part)
            return self.missing <= 0
        self.reply += part
        head, separator, body = self.reply.partition(b"\r\n\r\n")
        if not separator:
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"the server answered {self.reply[:500]!r}")
        length = LENGTH.search(head)
        if length is None:
            return body.endswith(b"0\r\n\r\n")  # in chunks
        self.missing = int(length[1]) - len(body)
        return self.missing <= 0


def load(port: int, request: bytes, clients: int, seconds: float) -> list[float]:
    """Return the latencies of all answers within `seconds`."""
    poll, taken = select.epoll(), list[float]()
    connections = {}
    for _ in range(clients):
        connection = Connection(port, request)
        connections[connection.socket.fileno()] = connection
        poll.register(connection.socket, select.EPOLLIN)
        connection.send()
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        for number, _ in poll.poll(end - now):
            connection = connections[number]
            if connection.receive():
                taken.append(time.perf_counter() - connection.began)
                connection.send()
    for connection in connections.values():
        connection.socket.close()
    return taken


def main() -> None:
    """Load a server, and print the measurements."""
    port, path, file, clients, seconds = sys.argv[1:]
    body = Path(file).read_bytes()
    kind = "application/json" if body.startswith(b"{") else "application/octet-stream"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    load(int(port), request, int(clients), float(seconds) / 4)
    began, cpu = time.perf_counter(), time.process_time()
    taken = load(int(port), request, int(clients), float(seconds))
    measured = {"answers": len(taken), "latencies": taken, "cpu": time.process_time() - cpu}
    print(json.dumps({**measured, "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
