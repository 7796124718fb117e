"""Labels of mask images: the mapping from pixel values or colors to classes.

A pixel's value is a gray value, a palette index, or a color as R + 2⁸·G + 2¹⁶·B. A table maps each
value to a label.
"""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageOps

from cvpipe.config.mask_sources import Masks
from cvpipe.data.header import MAX_PIXELS
from cvpipe.errors import DataError
from cvpipe.geometry.masks import IGNORED

GRAY = ("1", "L", "LA", "I", "I;16")
# Pillow's factor for the values of a PNG of fewer than 8 bits.
SCALES = {"L;2": 85, "L;4": 17}
_GRAY = (
    "the mask is gray, but the classes have other colors: leave the colors out of"
    " data.source.classes if the mask's values are the positions of the classes"
)
# Number of values or classes that a message lists.
SHOWN = 8
# More unknown values than this come from lossy compression, or from scaling that blends neighbors.
_TOO_MANY = 64


# Compared by identity, because == of arrays returns an array.
@dataclasses.dataclass(frozen=True, eq=False)
class MaskValues:
    """Mapping from the pixel values of masks to classes."""

    labels: np.ndarray
    """uint16, [2¹⁶] or for colors [2²⁴]: the label + 1 of each value, 0 for unknown values."""
    by_color: bool
    """True if values are colors."""
    names: Mapping[int, str]
    """Class names by value."""
    ignored: Sequence[int]
    """Values that mean IGNORED."""


def values_of_colors(config: Masks) -> MaskValues:
    """Return the mapping of the classes' colors and of ignored colors."""
    names = {_packed(str(known.color)): known.name for known in config.classes}
    return _mask_values(names, [_packed(color) for color in config.ignore_colors], by_color=True)


def values_of_indices(names: Sequence[str], ignored: Sequence[int], first: int = 0) -> MaskValues:
    """Return the mapping of class ids, counted from `first`, and of ignored values."""
    return values_of_numbers(dict(enumerate(names, first)), ignored)


def values_of_numbers(names: Mapping[int, str], ignored: Sequence[int]) -> MaskValues:
    """Return the mapping of class names by value, and of ignored values."""
    return _mask_values(names, ignored, by_color=False)


def _mask_values(names: Mapping[int, str], ignored: Sequence[int], by_color: bool) -> MaskValues:
    # np.zeros takes no memory for parts that are never written.
    labels = np.zeros(2**24 if by_color else 2**16, np.uint16)
    labels[list(names)] = np.arange(1, len(names) + 1)
    labels[list(ignored)] = IGNORED + 1
    return MaskValues(labels, by_color, names, ignored)


def labels_of(encoded: bytes, known: MaskValues) -> np.ndarray:
    """Return a mask's labels, uint8 [H, W, 1], from the bytes of its file.

    Raises:
        DataError: the mask is damaged, of another kind than `known`, or has unknown values.
    """
    labels, unknown_values = look_up(open_mask(encoded), known)
    if unknown_values:
        raise DataError(
            f"the mask has {unknown_values_in_words(unknown_values, labels.size, known)}"
        )
    return (labels - 1).astype(np.uint8)[..., np.newaxis]


def open_mask(encoded: bytes) -> Image.Image:
    """Decode the image in a file; raises DataError if it can't be decoded."""
    try:
        picture = Image.open(io.BytesIO(encoded), formats=("PNG", "BMP", "WEBP", "JPEG"))
        if picture.width * picture.height > MAX_PIXELS:
            raise DataError(
                f"the mask's header says {picture.width} x {picture.height} pixels, but at"
                f" most {MAX_PIXELS:,} are allowed"
            )
        # The number of bits is no longer known after decoding.
        stored = str(picture.tile[0][3]) if picture.tile else ""
        picture.info["scale"] = SCALES.get(stored, 1)
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
    # Each decoder has its own exceptions.
    except (
        OSError,
        SyntaxError,
        ValueError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ):
        raise DataError("the mask is damaged, cut off, or not a PNG, BMP, WebP or JPEG") from None
    if stored == "LA;16B":
        # Pillow keeps only the upper byte of each value.
        raise DataError(
            "the mask has 16-bit gray values and alpha, which can't be read; save it without alpha"
        )
    return picture


def look_up(picture: Image.Image, known: MaskValues) -> tuple[np.ndarray, Counter[int]]:
    """Return the label + 1 of every pixel, uint16 [H, W], 0 for unknown values; and the number of
    pixels with each unknown value.

    Raises:
        DataError: values are expected and the mask has colors, or vice versa.
    """
    is_gray = picture.mode in GRAY
    if known.by_color and picture.mode.startswith("I"):
        raise DataError(_GRAY)
    if not known.by_color and not is_gray and picture.mode != "P":
        raise DataError(
            f"the mask has colors ({picture.mode}), but no class of the pipeline has a color: give"
            " each class its color in data.source.classes, or save masks as gray or palette PNGs"
            " whose values are the classes' positions"
        )
    values = _colors(picture) if known.by_color else _indices(picture)
    labels = known.labels[values]
    strange = values[labels == 0]
    # If a gray mask has some class colors, its other values are reported as unknown.
    if (
        known.by_color
        and is_gray
        and strange.size
        and not ((labels > 0) & (labels <= IGNORED)).any()
    ):
        raise DataError(_GRAY)
    numbers, counts = np.unique(strange, return_counts=True)
    return labels, Counter(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))


def unknown_values_in_words(unknown_values: Counter[int], pixels: int, known: MaskValues) -> str:
    """Describe unknown values: shares of the pixels, nearest classes, and how to map or ignore
    them.
    """
    listed = [value for value, _ in unknown_values.most_common(SHOWN)]
    what = "color" if known.by_color else "value"
    shares = [
        f"{in_words(value, known)}, {share_in_words(unknown_values[value] / pixels)} of the"
        f" pixels{_nearest(value, known)}"
        for value in listed
    ]
    more = [f"and {len(unknown_values) - SHOWN:,} more"] if len(unknown_values) > SHOWN else []
    number = (
        f"{len(unknown_values):,} {what}s that no class has"
        if len(unknown_values) > 1
        else f"a {what} that no class has"
    )
    if known.by_color and len(unknown_values) > _TOO_MANY:
        advice = (
            "This many come from lossy compression, as in JPEG, or from scaling that blends"
            " neighbors: write the masks again as PNG"
        )
    elif known.by_color:
        ignored = ", ".join(f"'{in_words(value, known)}'" for value in [*known.ignored, *listed])
        advice = (
            "Give each its class in data.source.classes, or set data.source.ignore_colors:"
            f" [{ignored}]"
        )
    else:
        ignored = ", ".join(str(value) for value in [*known.ignored, *listed])
        advice = (
            "Name more classes in data.source.classes, or set data.source.ignore_indices:"
            f" [{ignored}]"
        )
    return f"{number}: {'; '.join(shares + more)}. {advice}"


def _colors(picture: Image.Image) -> np.ndarray:
    # Pillow stores three channels as four; this is the fast conversion.
    return np.asarray(picture.convert("RGBA")).view("<u4")[..., 0] & 0xFFFFFF


def _indices(picture: Image.Image) -> np.ndarray:
    # Alpha is ignored. A PNG has at most 16 bits per value; Pillow may return 16 bits as 32, and
    # one bit as bool.
    gray = picture.getchannel("L") if picture.mode == "LA" else picture
    values = np.asarray(gray).astype(
        np.uint16 if picture.mode.startswith("I") else np.uint8, copy=False
    )
    return values // picture.info["scale"] if picture.info["scale"] > 1 else values


def _packed(color: str) -> int:
    return int.from_bytes(bytes.fromhex(color[1:]), "little")


def in_words(value: int, known: MaskValues) -> str:
    """Return a pixel value as users write it: a number, or a color such as #FF0000."""
    return f"#{value.to_bytes(3, 'little').hex().upper()}" if known.by_color else str(value)


def share_in_words(share: float) -> str:
    """Return a share of pixels in percent."""
    return f"{share:.2%}" if share >= 0.0001 else "under 0.01%"


def _nearest(value: int, known: MaskValues) -> str:
    """Describe the class with the nearest color in RGB; "" for indices, which have no distance."""
    if not known.by_color:
        return ""
    red_green_blue = np.array(
        [list(other.to_bytes(3, "little")) for other in (value, *known.names)]
    )
    distances = np.square(red_green_blue[1:] - red_green_blue[0]).sum(1)
    nearest = list(known.names)[int(distances.argmin())]
    return f" (nearest: {known.names[nearest]}, {in_words(nearest, known)})"
