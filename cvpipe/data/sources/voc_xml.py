"""XML in any encoding that Python knows."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from cvpipe.errors import DataError

_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._:-]+)["']""")
# Programs that declare the first write its superset.
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030"}


def parse_xml(content: bytes, place: str) -> ElementTree.Element:
    """Return the root element of an XML file.

    Raises:
        DataError: it is no XML, or in an encoding that Python doesn't know; `place` says where it
            came from.
    """
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise _no_xml(place, error) from None
    except (LookupError, ValueError):
        # The parser itself knows encodings of one byte a character, UTF-8 and UTF-16 only.
        text = _decode(content, place)
    try:
        # Text needs no encoding: the one that it declares is passed over.
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise _no_xml(place, error) from None


def _decode(content: bytes, place: str) -> str:
    declared = _DECLARED.match(content)
    name = declared[1].decode() if declared else "utf-8"
    try:
        return content.decode(_WIDER.get(name.lower(), name))
    except LookupError:
        raise DataError(
            f"{place}: the encoding '{name}' is unknown; save the file as UTF-8, and declare that"
        ) from None
    except UnicodeError as error:
        raise DataError(
            f"{place}: no text in its encoding, {name} ({error}); save the file as UTF-8, and"
            " declare that"
        ) from None


def _no_xml(place: str, error: ElementTree.ParseError) -> DataError:
    line, _ = error.position
    return DataError(f"{place}:{line}: no XML ({error}); mend the file")
