"""The listening socket of a server, and how to close it without resetting connections."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any

from cvpipe.errors import UserError
from cvpipe.serving.errors import RequestError
from cvpipe.serving.protocol import GRACE_SECONDS, refusal

_SO_ATTACH_FILTER = 26
_NO_SYN = (
    (0x30, 0, 0, 13),  # load the byte with TCP's flags
    (0x54, 0, 0, 0x12),  # keep its bits SYN and ACK
    (0x15, 0, 1, 0x02),  # if SYN alone is set, a connection begins:
    (0x06, 0, 0, 0),  # drop it;
    (0x06, 0, 0, 0xFFFFFFFF),  # accept all other packets
)
"""Instructions of a classic BPF program: operation, two jumps, operand."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address.

    Raises:
        UserError: the address can't be used.
    """
    try:
        found: list[Any] = socket.getaddrinfo(
            host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        # If a name has IPv4 and IPv6 addresses, prefer IPv4, because every client tries IPv4.
        family, *_, address = min(found, key=lambda each: each[0] != socket.AF_INET)
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # Makes :: accept IPv4, too.
                with suppress(OSError):
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind((address[0], port, *address[2:]))
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        raise _no_address(host, port, error) from error
    return listener


def listen(listener: socket.socket, host: str, port: int) -> None:
    """Start listening.

    Raises:
        UserError: another process listens on the address.
    """
    try:
        listener.listen(1024)
    except OSError as error:
        raise _no_address(host, port, error) from error


def refuse_new(listener: socket.socket) -> None:
    """Make the kernel ignore new connections, on Linux. Pending connections can still be accepted.

    Closing a socket resets its pending connections. To avoid this, call this function, accept the
    pending connections, then close the socket. After closing, the kernel refuses new connections.
    """
    if sys.platform != "linux":
        return
    code = b"".join(struct.pack("HBBI", *line) for line in _NO_SYN)
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(_NO_SYN), ctypes.addressof(held))
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def close(listener: socket.socket, plain: bool) -> None:
    """Close the socket, and answer pending connections with an error.

    Args:
        listener: the socket. Nothing else may accept connections from it.
        plain: True for HTTP. Over HTTPS no error can be sent.
    """
    waiting: list[socket.socket] = []
    listener.setblocking(False)
    with suppress(OSError):
        while True:
            waiting.append(listener.accept()[0])
    # Close immediately, because connections that arrive between the last accept and the close are
    # reset.
    listener.close()
    answer = refusal(RequestError(503, "this server is stopping; try another", retry_after=1))
    end = time.monotonic() + GRACE_SECONDS
    for connection in waiting if plain else []:
        with suppress(OSError):
            connection.setblocking(False)
            connection.send(answer)
            connection.shutdown(socket.SHUT_WR)
    for connection in waiting:
        with connection, suppress(OSError):
            connection.settimeout(max(0.01, end - time.monotonic()))
            # Unread data would also reset the connection.
            while time.monotonic() < end and connection.recv(2**16):
                pass


def _no_address(host: str, port: int, error: Exception) -> UserError:
    return UserError(
        f"can't listen on {host}, port {port}: {error}; choose others with --host and --port"
    )
