"""Checking, clipping and counting of objects from annotation files.

Dimensions: R records of the underlying files, A annotations in the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.annotations.faults import Faults, sum_of_faults
from cvpipe.data.annotations.frame import Frames
from cvpipe.errors import DataError

INVERTED = "with corners in the wrong order, left out"
WITHOUT_AREA = "without area, left out"
OUTSIDE = "outside the image, left out"
IN_PIXELS = "in pixels instead of fractions of the image, left out"
CLIPPED = "clipped to the image"
REPEATED = "repeated, left out"
WITHOUT_IMAGE = "of a missing image, left out"
LOSSES = (INVERTED, WITHOUT_AREA, OUTSIDE, IN_PIXELS)
"""Faults that drop objects."""
# A decimal fraction of six digits may exceed 1 by rounding.
_TOLERANCE = 1e-5


def collect(
    files: Sequence[str],
    record: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    crowd: np.ndarray,
    area: np.ndarray,
    place: Callable[[int], str],
    faults: Faults | None = None,
    more: Mapping[str, np.ndarray] | None = None,
    frames: Frames | None = None,
) -> Boxes:
    """Make `Boxes` from the annotations of a format.

    Boxes that extend beyond the image are clipped. Boxes that are inverted, empty, outside the
    image or repeated (with the same class) are dropped. Clipped and dropped boxes are counted by
    file.

    Args:
        files: [R], names of the records' annotations.
        record: int64 [A], the record of each annotation.
        boxes: float64 [A, 4], ymin, xmin, ymax, xmax as fractions of the image.
        labels, crowd, area: [A], as in `Boxes`.
        place: maps an annotation's number, 0 … A − 1, to its name in errors.
        faults: already known faults.
        more: further columns, [A, …] each, as in `Boxes`.
        frames: frames of the records, as in `Boxes`.

    Raises:
        DataError: a coordinate isn't a finite number.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    broken = np.flatnonzero(~np.isfinite(boxes).all(1))
    if len(broken):
        raise DataError(
            f"{place(int(broken[0]))}: a coordinate isn't a finite number; correct or remove the"
            " object"
        )
    order = np.argsort(record, kind="stable")
    record, boxes, labels = np.asarray(record)[order], boxes[order], np.asarray(labels)[order]
    clipped = np.clip(boxes, 0, 1).astype(np.float32)
    sides, shown = boxes[:, 2:] - boxes[:, :2], clipped[:, 2:] - clipped[:, :2]
    outside = (boxes[:, :2] >= 1).any(1) | (boxes[:, 2:] <= 0).any(1)
    # A box is counted under its first fault in this order.
    wrong = {
        INVERTED: (sides < 0).any(1),
        WITHOUT_AREA: (sides == 0).any(1) | (shown <= 0).any(1) & ~outside,
        OUTSIDE: outside,
        REPEATED: _repeated(record, labels, clipped),
        CLIPPED: (abs(clipped - boxes) > _TOLERANCE).any(1),
    }
    kind = np.select(list(wrong.values()), np.arange(len(wrong)), len(wrong))
    found: dict[str, Counter[str]] = {}
    for row in np.flatnonzero(kind < len(wrong)):
        found.setdefault(files[record[row]], Counter())[list(wrong)[kind[row]]] += 1
    starts = np.searchsorted(record, np.arange(len(files) + 1))
    everything = Boxes(
        clipped,
        labels.astype(np.int32),
        np.asarray(crowd, bool)[order],
        np.asarray(area, np.float32)[order],
        starts,
        sum_of_faults([faults or {}, found]),
        {key: np.asarray(column)[order] for key, column in (more or {}).items()},
        frames,
    )
    return everything.keep(kind >= list(wrong).index(CLIPPED))


def _repeated(record: np.ndarray, labels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return bool [A]: True if an earlier annotation has the same record, class and box."""
    _, first = np.unique(
        np.column_stack([record, labels, boxes.astype(np.float64)]), axis=0, return_index=True
    )
    repeated = np.ones(len(record), bool)
    repeated[first] = False
    return repeated
