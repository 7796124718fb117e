"""Labels of mask images: the mapping from pixel values or colors to classes, and its errors.

A pixel's value is a gray value, a palette index, or a color as R + 2⁸·G + 2¹⁶·B. A table maps each
value to a label.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageOps

from cvpipe.config.mask_sources import Masks
from cvpipe.data.header import MAX_PIXELS
from cvpipe.data.statistics import evenly_spaced
from cvpipe.errors import DataError, counted
from cvpipe.geometry.masks import IGNORED

log = logging.getLogger(__name__)

GRAY = ("1", "L", "LA", "I", "I;16")
# Pillow's factor for the values of a PNG of fewer than 8 bits.
SCALES = {"L;2": 85, "L;4": 17}
_GRAY = (
    "the mask is gray, but the classes have other colors: leave the colors out of"
    " data.source.classes if the mask's values are the positions of the classes"
)
# Number of masks to inspect first: a second or two for images of a megapixel.
FIRST_MASKS = 100
# A class that is in none of the inspected masks is reported if at least this many masks were
# inspected.
_MIN_INSPECTED = 20
_SHOWN = 8
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


def refuse_unknown_values(
    masks: int, read: Callable[[int], bytes], locate: Callable[[int], str], known: MaskValues
) -> None:
    """Inspect some masks, evenly spaced over all. Skip damaged masks, and warn of missing classes.

    Args:
        masks: number of masks.
        read: maps a number to the bytes of the mask's file.
        locate: maps a number to the mask's name in messages.

    Raises:
        DataError: masks have unknown values or are of another kind than `known`; or some pixels are
            ignored and all others have the same class.
    """
    unknown_values, pixels, strange, looked = (
        Counter[int](),
        np.zeros(IGNORED + 2, np.int64),
        list[int](),
        0,
    )
    first = evenly_spaced(masks, FIRST_MASKS).tolist()
    # The second class may be rare, so inspect all masks before raising an error.
    for number in [*first, *sorted({*range(masks)}.difference(first))]:
        lacks_classes = _lacks_a_second_class(pixels, known) or _all_ignored(pixels)
        if looked >= len(first) and (unknown_values or not lacks_classes):
            break
        looked += 1
        try:
            picture = open_mask(read(number))
        except DataError:
            continue
        try:
            labels, found = look_up(picture, known)
        except DataError as error:
            raise DataError(f"{locate(number)}: {error}") from None
        unknown_values.update(found)
        strange += [number] if found else []
        pixels += np.bincount(labels.ravel(), minlength=len(pixels))
    if unknown_values:
        raise DataError(
            f"{len(strange)} of {counted(looked, 'mask')} inspected, such as {locate(strange[0])},"
            f" {'has' if len(strange) == 1 else 'have'}"
            f" {unknown_values_in_words(unknown_values, int(pixels.sum()), known)}"
        )
    if _all_ignored(pixels):
        raise DataError(
            f"all pixels of {counted(looked, 'mask')}, such as {locate(0)}, are ignored, by"
            f" {_ignored_in_words(known)}; remove the values of classes there, or add masks that"
            " show classes"
        )
    if _lacks_a_second_class(pixels, known):
        raise DataError(
            f"{counted(looked, 'mask')} inspected, such as {locate(0)}:"
            f" {_one_class_in_words(pixels, known)}"
        )
    unseen = [
        name for name, count in zip(known.names.values(), pixels[1:], strict=False) if not count
    ]
    if pixels.any() and unseen and (looked >= _MIN_INSPECTED or len(known.names) - len(unseen) < 2):
        more = f" and {len(unseen) - _SHOWN} more" if len(unseen) > _SHOWN else ""
        log.warning(
            "no pixel of %s%s in %s inspected, such as %s; add images of these classes, or their"
            " scores will be unreliable",
            ", ".join(unseen[:_SHOWN]),
            more,
            counted(looked, "mask"),
            locate(0),
        )


def _lacks_a_second_class(pixels: np.ndarray, known: MaskValues) -> bool:
    """Return True if the masks contain ignored pixels and exactly one class although several are
    declared. `pixels` are counts by label + 1.
    """
    return (
        len(known.names) > 1
        and pixels[IGNORED + 1] > 0
        and np.count_nonzero(pixels[1 : IGNORED + 1]) == 1
    )


def _all_ignored(pixels: np.ndarray) -> bool:
    """Return True if all pixels, counted by label + 1, are ignored."""
    return bool(pixels[IGNORED + 1] > 0 and not pixels[: IGNORED + 1].any())


def _ignored_in_words(known: MaskValues) -> str:
    """Return the key that ignores pixels, and its values."""
    key = "ignore_colors" if known.by_color else "ignore_indices"
    return f"data.source.{key}: {', '.join(_in_words(value, known) for value in known.ignored)}"


def _one_class_in_words(pixels: np.ndarray, known: MaskValues) -> str:
    """Describe masks that show only one class besides ignored pixels, and how to read the ignored
    value as a class.
    """
    what = "color" if known.by_color else "value"
    shown = int(np.flatnonzero(pixels)[0]) - 1
    share = _share(pixels[IGNORED + 1] / pixels.sum())
    advice = _how_to_read_ignored(list(known.names)[shown], known)
    return (
        f"the only class is '{list(known.names.values())[shown]}', and {share} of the pixels are"
        f" ignored, by {_ignored_in_words(known)}. If this is the {what} of a class, {advice}; if"
        " not, add masks that show other classes"
    )


def _how_to_read_ignored(shown: int, known: MaskValues) -> str:
    """Return advice on making an ignored value a class; `shown` is the value of the only class."""
    if known.by_color:
        return "remove it there and write it as that class's `color` in data.source.classes"
    anew = "save the masks again with the positions of the classes as values"
    ignored = known.ignored[0]
    if max(shown, ignored) > 255:
        return anew
    # Classes by index must cover all values from 0 on; classes by color need not.
    other = next(value for value in known.names if value != shown)
    grays = {shown: f"{shown:02X}" * 3, other: f"{ignored:02X}" * 3}
    classes = ", ".join(
        f"{{name: {name}, color: '#{grays[value]}'}}"
        for value, name in known.names.items()
        if value in grays
    )
    return (
        "read gray masks by colors, in a source of the kind masks with data.source.classes:"
        f" [{classes}], or {anew}"
    )


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
    listed = [value for value, _ in unknown_values.most_common(_SHOWN)]
    what = "color" if known.by_color else "value"
    shares = [
        f"{_in_words(value, known)}, {_share(unknown_values[value] / pixels)} of the"
        f" pixels{_nearest(value, known)}"
        for value in listed
    ]
    more = [f"and {len(unknown_values) - _SHOWN:,} more"] if len(unknown_values) > _SHOWN else []
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
        ignored = ", ".join(f"'{_in_words(value, known)}'" for value in [*known.ignored, *listed])
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


def _in_words(value: int, known: MaskValues) -> str:
    return f"#{value.to_bytes(3, 'little').hex().upper()}" if known.by_color else str(value)


def _share(share: float) -> str:
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
    return f" (nearest: {known.names[nearest]}, {_in_words(nearest, known)})"
