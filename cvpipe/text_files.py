"""Decoding of text files: UTF-8, or the encoding that a byte order mark names."""

from __future__ import annotations

import codecs

from cvpipe.errors import DataError

# Byte order marks. UTF-32 precedes UTF-16, because the little-endian mark of UTF-32 begins with the
# mark of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decode_text(content: bytes, place: str) -> str:
    """Decode the content of a text file in UTF-8, or in the encoding of its byte order mark.

    Raises:
        DataError: the content isn't in this encoding. The message names the file by `place`.
    """
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        known = encoding.removesuffix("-sig").upper()
        raise DataError(
            f"{place}:{line}: this is not text in {known}; save the file as UTF-8"
        ) from None
