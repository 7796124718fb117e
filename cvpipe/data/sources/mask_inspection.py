"""Inspection of masks before training: values without a class, and classes without a pixel."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

import numpy as np

from cvpipe.data.sources.mask_values import (
    SHOWN,
    MaskValues,
    in_words,
    look_up,
    open_mask,
    share_in_words,
    unknown_values_in_words,
)
from cvpipe.data.statistics import evenly_spaced
from cvpipe.errors import DataError, counted
from cvpipe.geometry.masks import IGNORED

log = logging.getLogger(__name__)

# Number of masks to inspect first: a second or two for images of a megapixel.
FIRST_MASKS = 100
# A class that is in none of the inspected masks is reported if at least this many masks were
# inspected.
_MIN_INSPECTED = 20


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
        more = f" and {len(unseen) - SHOWN} more" if len(unseen) > SHOWN else ""
        log.warning(
            "no pixel of %s%s in %s inspected, such as %s; add images of these classes, or their"
            " scores will be unreliable",
            ", ".join(unseen[:SHOWN]),
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
    return f"data.source.{key}: {', '.join(in_words(value, known) for value in known.ignored)}"


def _one_class_in_words(pixels: np.ndarray, known: MaskValues) -> str:
    """Describe masks that show only one class besides ignored pixels, and how to read the ignored
    value as a class.
    """
    what = "color" if known.by_color else "value"
    shown = int(np.flatnonzero(pixels)[0]) - 1
    share = share_in_words(pixels[IGNORED + 1] / pixels.sum())
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
