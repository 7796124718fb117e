"""Bodies of HTTP requests: by length or in chunks, plain or gzip, and never beyond a limit.

Source: RFC 9112, sections 6 and 7.1.
"""

from __future__ import annotations

import re
import zlib
from email.message import Message
from io import BufferedIOBase

from cvpipe.serving.errors import RequestError

MAX_BODY_BYTES = 64 * 2**20
"""Most bytes of a body, both as it is sent and unpacked."""
MAX_LINE_BYTES = 2**12
MAX_TRAILERS = 100


def body_length(command: str, version: str, headers: Message) -> int | None:
    """Return the length of a request's body in bytes; None if it comes in chunks.

    Args:
        command: such as POST.
        version: such as HTTP/1.1.

    Raises:
        RequestError: the headers don't say how long it is, or too long.
    """
    lengths = set(headers.get_all("Content-Length", []))
    codings = headers.get_all("Transfer-Encoding", [])
    if codings:
        # Two lengths are how one request is smuggled inside another.
        if lengths or version < "HTTP/1.1":
            raise RequestError(
                400, "send a chunked body with HTTP/1.1, and without a Content-Length"
            )
        if [coding.strip().lower() for coding in codings] != ["chunked"]:
            raise RequestError(
                501, "Transfer-Encoding must be chunked; for gzip, send Content-Encoding: gzip"
            )
        return None
    if command == "POST" and not lengths:
        raise RequestError(411, "send the body with a Content-Length, or in chunks")
    if not lengths:
        return 0
    length = lengths.pop()
    if lengths or not re.fullmatch("[0-9]{1,18}", length):
        raise RequestError(400, "Content-Length must be one number of bytes")
    _check_size(int(length))
    return int(length)


def read_body(stream: BufferedIOBase, length: int | None) -> bytes:
    """Read a body of that many bytes, or in chunks; their extensions and trailers are passed over.

    Raises:
        RequestError: the chunks are malformed or too many.
        ConnectionAbortedError: the client went away.
    """
    if length is not None:
        return _read(stream, length)
    body = bytearray()
    while size := _chunk_size(_read_line(stream)):
        _check_size(len(body) + size)
        body += _read(stream, size)
        if _read_line(stream):
            raise RequestError(400, "a chunk of the body is longer than its size says")
    for _ in range(MAX_TRAILERS):
        if not _read_line(stream):
            return bytes(body)
    raise RequestError(400, f"the body has more than {MAX_TRAILERS} trailers; send fewer")


def unpack(body: bytes, coding: str) -> bytes:
    """Undo the Content-Encoding of a body.

    Raises:
        RequestError: it isn't gzip, is damaged, or unpacks to too much.
    """
    if coding.strip().lower() == "identity":
        return body
    if coding.strip().lower() not in ("gzip", "x-gzip"):
        raise RequestError(
            415, f"Content-Encoding: {coding} is not supported; send the body plain, or as gzip"
        )
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        content = stream.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise RequestError(400, f"the body is not gzip as Content-Encoding says: {error}") from None
    _check_size(len(content))
    # One stream: of many empty ones, each would take the time of copying the rest.
    if not stream.eof or stream.unused_data:
        raise RequestError(400, "the body must be exactly one whole gzip stream; send it again")
    return content


def _read(stream: BufferedIOBase, length: int) -> bytes:
    content = stream.read(length)
    if len(content) < length:
        raise ConnectionAbortedError(f"{len(content)} of {length} bytes of a body arrived")
    return content


def _read_line(stream: BufferedIOBase) -> bytes:
    """Return a line between chunks, without its end."""
    line = stream.readline(MAX_LINE_BYTES)
    if not line.endswith(b"\r\n"):
        raise RequestError(
            400, f"a line between chunks doesn't end with CR LF within {MAX_LINE_BYTES} bytes"
        )
    return line[:-2]


def _chunk_size(line: bytes) -> int:
    size = re.fullmatch(rb"([0-9a-fA-F]{1,15})[ \t]*(;.*)?", line)
    if size is None:
        raise RequestError(400, "a chunk of the body has no size in hexadecimal digits")
    return int(size[1], 16)


def _check_size(size: int) -> None:
    if size > MAX_BODY_BYTES:
        raise RequestError(
            413,
            f"the body has {size} bytes or more, and this server reads at most {MAX_BODY_BYTES};"
            " send fewer images at a time",
        )
