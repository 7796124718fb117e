"""Parsing of multipart/form-data bodies. Source: RFC 7578 and RFC 2046, section 5.1."""

from __future__ import annotations

from email.message import Message
from email.parser import HeaderParser

from cvpipe.serving.errors import RequestError

MAX_HEADER_BYTES = 2**13
MAX_FIELDS = 64
"""Maximum number of fields other than files. They are ignored, but parsing each takes time."""


def is_multipart(content_type: str) -> bool:
    """Return True for the content type multipart/form-data."""
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def files_of(body: bytes | bytearray, content_type: str, most: int) -> list[tuple[str, bytes]]:
    """Return the names and contents of the files in a form. Other fields are ignored.

    Raises:
        RequestError: 400 if the form is malformed, 413 if it has more files than `most` or too many
            other fields.
    """
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_param("boundary")
    if not isinstance(boundary, str) or not 1 <= len(boundary) <= 70:
        raise RequestError(400, "multipart/form-data needs a boundary in its Content-Type")
    mark = b"\r\n--" + boundary.encode("latin-1", "replace")
    content = b"\r\n" + body
    files: list[tuple[str, bytes]] = []
    fields = 0
    at = content.find(mark)
    while at >= 0:
        begin = at + len(mark)
        if content.startswith(b"--", begin):
            return files
        at = content.find(mark, begin)
        if at < 0:
            break
        name, value = _part(content[begin:at])
        if name is None:
            fields += 1
        else:
            files.append((name, value))
        if len(files) > most:
            raise RequestError(413, f"the form has over {most} files; send fewer at a time")
        if fields > MAX_FIELDS:
            raise RequestError(
                413, f"the form has over {MAX_FIELDS} fields that aren't files; send only files"
            )
    raise RequestError(400, "the form is cut off; send it again")


def _part(part: bytes) -> tuple[str | None, bytes]:
    """Return the name and content of a part; the name is None if it isn't a file."""
    head, separator, value = part.partition(b"\r\n\r\n")
    if not separator or len(head) > MAX_HEADER_BYTES:
        raise RequestError(400, "a part of the form has no headers")
    headers = HeaderParser().parsestr(head.lstrip(b"\r\n").decode("utf-8", "replace"))
    return headers.get_filename(), value
