"""Text of files of unknown encoding."""

from __future__ import annotations

import codecs

from cvpipe.errors import DataError

# UTF-32's mark begins with UTF-16's.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decode_text(content: bytes, place: str) -> str:
    """Return the text of a file in UTF-8, or in the encoding that its first bytes mark.

    Raises:
        DataError: it is none; `place` says where it came from.
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
