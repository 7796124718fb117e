"""Format and color type of an image file, detected from its first bytes, not from its name."""

from __future__ import annotations

from cvpipe.data.header import FORMATS

# Color types by the number at byte 25 (PNG specification, table 11.1).
_PNG_COLORS = {0: "gray", 2: "RGB", 3: "palette", 4: "gray + alpha", 6: "RGB + alpha"}
_JPEG_COLORS = {1: "gray", 3: "RGB", 4: "CMYK"}
_BMP_COLORS = {8: "palette", 24: "RGB", 32: "RGB + alpha"}


def file_kind(encoded: bytes) -> str:
    """Return format and colors, such as "JPEG gray", "PNG 16-bit RGB" or "WebP RGB + alpha"; "" for
    other formats.
    """
    kind = next((name for name, beginning in FORMATS.items() if encoded.startswith(beginning)), "")
    match kind:
        case "JPEG":
            colors = _JPEG_COLORS.get(_jpeg_channels(encoded), "")
        case "PNG":
            deep = "16-bit " if encoded[24:25] == b"\x10" else ""
            colors = deep + _PNG_COLORS.get(_byte(encoded, 25), "")
        case "BMP":
            colors = _BMP_COLORS.get(_byte(encoded, 28), "")
        case "WebP":
            colors = "RGB + alpha" if _webp_has_alpha(encoded) else "RGB"
        case _:
            colors = ""
    return f"{kind} {colors}".strip()


def _jpeg_channels(encoded: bytes) -> int:
    """Return the number of components in the frame header (ITU T.81, B.2.2); 0 without a header."""
    at = 2
    while at + 9 < len(encoded) and encoded[at] == 0xFF:
        marker = encoded[at + 1]
        # C4, C8 and CC (Huffman tables, an extension, arithmetic coding) aren't frame headers.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return encoded[at + 9]
        # A fill byte (FF) has no length field; every segment before the frame header has one.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")
    return 0


def _webp_has_alpha(encoded: bytes) -> bool:
    # RFC 9649: the extended format has a flag for alpha; in the lossless format, it is the bit
    # after width and height.
    if encoded[12:16] == b"VP8L":
        return bool(_byte(encoded, 24) & 0x10)
    return encoded[12:16] == b"VP8X" and bool(_byte(encoded, 20) & 0x10)


def _byte(encoded: bytes, position: int) -> int:
    return encoded[position] if len(encoded) > position else -1
