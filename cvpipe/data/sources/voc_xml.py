"""Parsing of Pascal VOC's XML in any encoding that Python supports, and refusal of other XML
formats.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from cvpipe.errors import DataError

_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._:-]+)["']""")
# Programs that declare these encodings write supersets of them.
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030"}
# Elements that stand for objects in other formats with the same root element.
_OF_OBJECTS = ("object", "bndbox", "box", "polygon", "points", "xmin")


def parse_xml(content: bytes, place: str) -> ElementTree.Element:
    """Return the root element of an XML file.

    Raises:
        DataError: the content isn't XML, or its encoding is unknown. The message names the file by
            `place`.
    """
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise _no_xml(place, error) from None
    except (LookupError, ValueError):
        # The parser knows only single-byte encodings, UTF-8 and UTF-16.
        text = _decode(content, place)
    try:
        # For text, the parser ignores the declared encoding.
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise _no_xml(place, error) from None


def check_format(tree: ElementTree.Element, place: str) -> None:
    """Refuse formats other than Pascal VOC's; strip namespaces from names."""
    for element in tree.iter():
        # Comments and processing instructions have functions as tags.
        element.tag = str(element.tag).rpartition("}")[2]
    if tree.tag != "annotation":
        hint = " (this may be CVAT's own format)" if tree.tag == "annotations" else ""
        raise DataError(
            f"{place}: the root element is <{tree.tag}>{hint}, but Pascal VOC's is <annotation>;"
            " export the annotations as Pascal VOC, or give another folder"
        )
    elsewhere = next((element for element in tree.iter() if element.tag in _OF_OBJECTS), None)
    if tree.find("object") is None and elsewhere is not None:
        raise DataError(
            f"{place}: there is <{elsewhere.tag}>, but no <object> directly in <annotation>, where"
            " Pascal VOC has objects; export the annotations as Pascal VOC"
        )


def _decode(content: bytes, place: str) -> str:
    declared = _DECLARED.match(content)
    name = declared[1].decode() if declared else "utf-8"
    try:
        return content.decode(_WIDER.get(name.lower(), name))
    except LookupError:
        raise DataError(
            f"{place}: the declared encoding '{name}' is unknown; save the file as UTF-8, and"
            ' declare encoding="UTF-8"'
        ) from None
    except UnicodeError:
        raise DataError(
            f"{place}: this is not text in its encoding, {name}; save the file as UTF-8, and"
            ' declare encoding="UTF-8"'
        ) from None


def _no_xml(place: str, error: ElementTree.ParseError) -> DataError:
    line, _ = error.position
    return DataError(f"{place}:{line}: not valid XML ({error}); correct the file")
