"""Ports of this machine for tests of several processes."""

from __future__ import annotations

import socket


def free_ports(count: int) -> list[int]:
    """Return different ports that no process uses. Another process may take them until they are
    bound.
    """
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [server.getsockname()[1] for server in sockets]
    finally:
        for server in sockets:
            server.close()
