"""Limits on the bodies of HTTP requests: length, compression, JSON.

Bodies are checked while they arrive, so that a request never uses more memory than its limits.
Source: RFC 9112, sections 6 and 7.1.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

import numpy as np

from cvpipe.serving.errors import RequestError

MAX_RATIO = 100
"""Largest ratio of a body's decompressed size to its compressed size."""
UNSUSPICIOUS = 2**20
"""Bodies that decompress to at most this number of bytes may have any ratio."""
MAX_UNSIZED = 8 * 2**20
"""Largest chunked body in bytes. Its size isn't known before it arrives."""
MAX_DEPTH = 64
STRINGS_PER_VALUE = 64
"""Maximum number of names and strings per instance. Each takes 70 bytes of memory. An instance for
cvpipe's models has about a tenth of this number.
"""
MAX_CONTAINERS = 2**22
"""Maximum number of lists and objects. The text `{},` has 3 bytes, but the object takes 75 bytes of
memory; the 4 bytes of `[1],` take 108. Without this limit, a body of 64 MiB, which may be 0.7 MiB
in gzip, would take over 1.5 GiB. With it, lists and objects take less than 0.5 GiB, to which larger
numbers add their own size. The limit on strings bounds objects with names. Images sent as numbers
have a list per pixel, so a body holds at most 83 images of 224 x 224 pixels. Larger batches are
refused even if their numbers are so short that more would fit into 64 MiB.
"""
_CHUNK = 2**16
_NO_STRUCTURE = bytes(set(range(256)) - set(b'"[]{},'))
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_STRING = re.compile(rb'"[^"]*"')


def body_length(
    method: str, version: str, headers: Iterable[tuple[bytes, bytes]], limit: int
) -> int | None:
    """Return the length of a request's body in bytes; None for a chunked body.

    Args:
        method: the HTTP method, such as POST.
        version: the HTTP version, such as 1.1.
        headers: headers with names in lower case.
        limit: maximum length of a body in bytes.

    Raises:
        RequestError: the length is missing, invalid, or too large.
    """
    lengths = {value for name, value in headers if name == b"content-length"}
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings:
        # Conflicting lengths would allow request smuggling.
        if lengths or version < "1.1":
            raise RequestError(
                400, "send a chunked body with HTTP/1.1, and without a Content-Length"
            )
        if [coding.strip().lower() for coding in codings] != [b"chunked"]:
            raise RequestError(
                501, "Transfer-Encoding must be chunked; for gzip, send Content-Encoding: gzip"
            )
        return None
    if method == "POST" and not lengths:
        raise RequestError(411, "send the body with a Content-Length, or in chunks")
    if not lengths:
        return 0
    length = lengths.pop()
    if lengths or not re.fullmatch(b"[0-9]{1,18}", length):
        raise RequestError(400, "Content-Length must be one number of bytes")
    check_size(int(length), limit)
    return int(length)


def check_size(size: int, limit: int, hint: str = "") -> None:
    """Refuse a body larger than the limit. `hint` is appended to the error.

    Raises:
        RequestError: 413.
    """
    if size > limit:
        raise RequestError(
            413,
            f"the body has {size} bytes or more; this server reads at most {limit}: send fewer"
            f" images at a time{hint}",
        )


class Unpacker:
    """Decodes the Content-Encoding of a body that arrives in parts."""

    def __init__(self, coding: str, limit: int, sized: bool = True) -> None:
        """Accept "identity" and "gzip".

        Args:
            coding: value of the header Content-Encoding.
            limit: maximum size of the body in bytes, both encoded and decoded.
            sized: False for a chunked body.

        Raises:
            RequestError: 415 for another coding.
        """
        coding = coding.strip().lower()
        if coding not in ("identity", "gzip", "x-gzip"):
            raise RequestError(
                415,
                f"Content-Encoding: {coding} is not supported; send the body uncompressed, or with"
                " gzip",
            )
        self._limit = limit if sized else min(limit, MAX_UNSIZED)
        self._hint = "" if sized else ", or send the body with its Content-Length"
        self._taken, self._given = 0, 0
        self._stream = None if coding == "identity" else zlib.decompressobj(16 + zlib.MAX_WBITS)

    def feed(self, part: bytes) -> Iterable[bytes]:
        """Decode a part and yield pieces of bounded size.

        Raises:
            RequestError: 413 if the body is too large, 400 if it is damaged.
        """
        self._taken += len(part)
        if self._stream is None:
            check_size(self._taken, self._limit, self._hint)
            yield part
            return
        while part:
            if self._stream.eof:
                # Refuse concatenated streams, because each would copy the rest of the body.
                raise RequestError(400, "the body is not one complete gzip stream; send it again")
            try:
                piece = self._stream.decompress(part, _CHUNK)
            except zlib.error as error:
                raise RequestError(
                    400, f"the body is not gzip as Content-Encoding says: {error}"
                ) from None
            part = self._stream.unconsumed_tail or self._stream.unused_data
            self._count(len(piece), self._taken - len(part))
            yield piece

    def end(self) -> None:
        """Check that the body is complete.

        Raises:
            RequestError: 400 if it isn't.
        """
        if self._stream is not None and not self._stream.eof:
            raise RequestError(400, "the body is not one complete gzip stream; send it again")

    def _count(self, size: int, consumed: int) -> None:
        self._given += size
        check_size(self._given, self._limit, self._hint)
        if self._given > max(UNSUSPICIOUS, MAX_RATIO * consumed):
            raise RequestError(
                413,
                f"the body decompresses to over {MAX_RATIO} times its size, which this server"
                f" refuses; send it uncompressed, with at most {self._limit} bytes",
            )


class JsonGuard:
    """Limits the memory that parsing JSON will take: its depth, the number of values in the lists
    "instances" and "inputs", and the numbers of strings, lists and objects.
    """

    def __init__(self, max_values: int) -> None:
        """Allow `max_values` values per list."""
        self._max_values = max_values
        self._in_string = self._escape = False
        self._depth = self._values = self._quotes = self._containers = 0

    def feed(self, part: bytes) -> None:
        """Check a part of the text.

        Raises:
            RequestError: 400 if the JSON is nested too deeply, 413 if it has too many values,
                strings, lists or objects.
        """
        marks = self._outside_strings(part)
        if marks:
            self._count(np.frombuffer(marks, np.uint8))
        if self._values >= self._max_values:
            raise self._too_many(f"{self._max_values} instances")
        if self._quotes > 2 * STRINGS_PER_VALUE * self._max_values:
            raise self._too_many(f"{STRINGS_PER_VALUE * self._max_values} strings")
        if self._containers > MAX_CONTAINERS:
            raise self._too_many(f"{MAX_CONTAINERS} lists and objects")

    def _count(self, signs: np.ndarray) -> None:
        """Count brackets and commas, uint8 [n]. Raises RequestError if they are nested too deep."""
        opened = (signs == ord("[")) | (signs == ord("{"))
        closed = (signs == ord("]")) | (signs == ord("}"))
        self._containers += int(np.count_nonzero(opened))
        depths = self._depth + np.cumsum(opened.astype(np.int32) - closed)
        self._depth = int(depths[-1])
        self._values += int(np.count_nonzero((signs == ord(",")) & (depths == 2)))
        if depths.max() > MAX_DEPTH:
            raise RequestError(400, f"the body is not JSON of at most {MAX_DEPTH} levels")

    def _too_many(self, what: str) -> RequestError:
        return RequestError(
            413, f"the body has over {what}, the limit of this server; send fewer per request"
        )

    def _outside_strings(self, part: bytes) -> bytes:
        """Return the brackets and commas of a part outside of strings."""
        if self._escape:
            part, self._escape = part[1:], not part
        if b"\\" in part:
            part = _ESCAPED.sub(b"", part)
            if part.endswith(b"\\"):
                part, self._escape = part[:-1], True
        marks = part.translate(None, _NO_STRUCTURE)
        self._quotes += marks.count(b'"')
        if self._in_string:
            marks = b'"' + marks
        self._in_string = marks.count(b'"') % 2 == 1
        if self._in_string:
            marks = marks[: marks.rindex(b'"')]
        return _STRING.sub(b"", marks)
