"""Image sizes from file headers, without decoding.

A file of 8 kB can contain an image of 200 MB, so sizes are checked before decoding.
"""

from __future__ import annotations

import re

from cvpipe.data.header import FORMATS

Size = tuple[int, int]
# Matches markers of segments that have a length field, but no fill bytes or standalone markers.
_SEGMENT = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")
# A segment has up to 64 KiB, so even large metadata takes only hundreds of segments. Scanning 1,000
# takes a millisecond.
_MOST_SEGMENTS, _MOST_BETWEEN = 1_000, 2**16
# Assumed size of a JPEG with more segments, or with more bytes between segments.
_LARGEST_JPEG = (65_535, 65_535)


def image_size(encoded: bytes) -> Size | None:
    """Return width and height from the header of a JPEG, PNG, BMP or WebP; None if they can't be
    found.
    """
    if encoded.startswith(FORMATS["JPEG"]):
        return _jpeg(encoded)
    if encoded.startswith(FORMATS["PNG"]):
        # PNG specification, section 11.2.2.
        return _pair(encoded, 16, 4, "big") if len(encoded) >= 24 else None
    if encoded.startswith(FORMATS["BMP"]) and len(encoded) >= 26:
        width = int.from_bytes(encoded[18:22], "little", signed=True)
        height = int.from_bytes(encoded[22:26], "little", signed=True)
        return abs(width), abs(height)
    if encoded.startswith(FORMATS["WebP"]) and encoded[8:12] == b"WEBP" and len(encoded) >= 30:
        return _webp(encoded)
    return None


def _jpeg(encoded: bytes) -> Size | None:
    """Find the frame header (ITU T.81, B.2.2), which comes after other segments.

    If a damaged or malicious file has several frame headers, return the largest size. Bytes between
    segments are skipped, as in libjpeg.
    """
    at, largest, left = 2, None, _MOST_BETWEEN
    for _ in range(_MOST_SEGMENTS):
        found = _SEGMENT.search(encoded, at, at + left)
        if found is None:
            return _LARGEST_JPEG if at + left < len(encoded) else largest
        if found.end() + 7 > len(encoded) or found[1] == b"\xda":
            return largest
        left -= found.start() - at
        marker, at = found[1][0], found.end()
        # C4, C8 and CC are not frame headers.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = _pair(encoded, at + 3, 2, "big")
            largest = max(largest or (0, 0), (width, height), key=lambda size: size[0] * size[1])
        at += max(2, int.from_bytes(encoded[at : at + 2], "big"))
    return _LARGEST_JPEG


def _webp(encoded: bytes) -> Size | None:
    """Read the size from the first chunk (RFC 9649, sections 2.5 to 2.7)."""
    kind = encoded[12:16]
    if kind == b"VP8 ":
        width, height = _pair(encoded, 26, 2, "little")
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(encoded[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        width, height = _pair(encoded, 24, 3, "little")
        return width + 1, height + 1
    return None


def _pair(encoded: bytes, at: int, size: int, order: str) -> Size:
    first, second = encoded[at : at + size], encoded[at + size : at + 2 * size]
    return int.from_bytes(first, order), int.from_bytes(second, order)  # type: ignore[arg-type]
