"""Keypoints of COCO's instances (cocodataset.org/#format-data, section 2).

Coordinates are integer pixel indices from 0. The center of a pixel is at its index plus 0.5.

Dimensions: A annotations, P keypoints.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cvpipe.data.annotations.flip_pairs import Pairs
from cvpipe.data.sources.coco_entries import is_number
from cvpipe.errors import DataError

FIRST_CENTER = 0.5
"""Center of pixel 0."""


class PointNames(NamedTuple):
    """Keypoints as a category defines them."""

    names: tuple[str, ...]
    skeleton: Pairs


def point_names(place: str, categories: Sequence[Mapping[str, Any]]) -> PointNames:
    """Return the keypoints of the categories, which must agree.

    Raises:
        DataError: no category has keypoints, they differ, or a skeleton is invalid.
    """
    defining = [row for row in categories if row.get("keypoints")]
    if not defining:
        raise DataError(
            f"{place}: no category has keypoints; name a file of keypoints, such as"
            " annotations/person_keypoints_train2017.json"
        )
    first, *others = defining
    names = tuple(map(str, first["keypoints"]))
    for other in others:
        if tuple(map(str, other["keypoints"])) != names:
            raise DataError(
                f"{place}: the categories '{first['name']}' and '{other['name']}' have different"
                " keypoints; leave one out of the file"
            )
    if len(set(names)) < len(names):
        raise DataError(
            f"{place}: two keypoints of the category '{first['name']}' have the same name; name"
            " them differently"
        )
    return PointNames(names, _skeleton(place, first, len(names)))


def _skeleton(place: str, category: Mapping[str, Any], points: int) -> Pairs:
    lines = []
    for line in category.get("skeleton") or []:
        if not (
            isinstance(line, list)
            and len(line) == 2
            and all(n in range(1, points + 1) for n in line)
        ):
            raise DataError(
                f"{place}: the skeleton of the category '{category['name']}' has the line"
                f" {json.dumps(line)}, not two numbers from 1 to {points}; correct or remove it"
            )
        lines.append((line[0] - 1, line[1] - 1))
    return tuple(lines)


def read_points(
    rows: Sequence[Mapping[str, Any]], points: int, extents: np.ndarray, place: Callable[[int], str]
) -> tuple[np.ndarray, np.ndarray]:
    """Read the keypoints of annotations.

    Args:
        rows: A annotations, each with "keypoints": x, y and visibility of each point in turn.
        points: number of keypoints, P.
        extents: [A, 2], height and width of their images.
        place: maps an annotation's number to its name in errors.

    Returns:
        float64 [A, P, 2], y and x as fractions of the image; int [A, P], visibility.

    Raises:
        DataError: the keypoints aren't 3 P numbers, or a visibility is unknown.
    """
    values = np.zeros([len(rows), points, 3])
    for number, row in enumerate(rows):
        given = row["keypoints"]
        if (
            not isinstance(given, list)
            or len(given) != 3 * points
            or not all(map(is_number, given))
        ):
            raise DataError(
                f"{place(number)}: keypoints are not {3 * points} numbers, x, y and visibility of"
                f" {points} points; correct or remove it"
            )
        values[number] = np.reshape(given, [points, 3])
        unknown = ~np.isin(values[number, :, 2], [0, 1, 2])
        if unknown.any():
            raise DataError(
                f"{place(number)}: a keypoint has the visibility {values[number, unknown, 2][0]:g},"
                " which must be 0 (not annotated), 1 (hidden) or 2 (visible); correct or remove it"
            )
    places = (values[..., 1::-1] + FIRST_CENTER) / extents[:, np.newaxis]
    return places, values[..., 2].astype(np.int32)
