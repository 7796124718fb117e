"""Values of masks in records, and class names for values that have no name in any file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cvpipe.data.formats.found import some
from cvpipe.data.sources.mask_values import GRAY, open_mask
from cvpipe.errors import DataError

# The default of ignore_indices.
IGNORED_VALUE = 255
_MOST_MASKS = 50


def mask_numbers(contents: Sequence[bytes]) -> list[int] | None:
    """Return the values of some encoded masks, sorted, without IGNORED_VALUE; None if a mask has
    colors.

    Raises:
        DataError: none of these masks can be decoded, or they have too many values for classes.
    """
    found: set[int] = set()
    fault: DataError | None = None
    decoded = 0
    for content in some(contents, _MOST_MASKS):
        try:
            picture = open_mask(content)
        except DataError as error:
            fault = error
            continue
        if picture.mode not in (*GRAY, "P"):
            return None
        decoded += 1
        found.update(np.unique(np.asarray(picture).astype(np.int64)).tolist())
    if fault and not decoded:
        raise fault
    if max(found, default=0) > IGNORED_VALUE:
        raise DataError(f"the masks have values up to {max(found)}, too many for classes")
    return sorted(found - {IGNORED_VALUE})


def numbered_classes(values: Sequence[int]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the key `classes` with a name for each value, and a remark."""
    classes = [f"class_{number}" for number in range(max(values, default=0) + 1)]
    remark = "No file names the masks' values; name them in data.source.classes"
    return {"classes": classes}, (remark,)
