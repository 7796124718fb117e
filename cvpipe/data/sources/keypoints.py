"""Shared parts of keypoint sources: flip pairs, visibility, and the source.

Dimensions: A objects in the files, P keypoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.annotations.flip_pairs import Pairs, flip_pairs_of
from cvpipe.data.annotations.keypoints import Keypoints, mirror_order
from cvpipe.data.example import Reader
from cvpipe.data.facts import Facts
from cvpipe.data.sources.source import Source, make_source
from cvpipe.errors import DataError, suggest

OUTSIDE = "with keypoints outside the image, which count as not annotated"


def keypoint_source(
    facts: Facts,
    figures: Boxes,
    read_record: Reader,
    name_record: Callable[[int], str],
    locate: Callable[[str], str] = str,
) -> Source:
    """Return images with figures, whose "keypoints" and "visibility" are columns of `figures`."""
    kinds = [figures, Keypoints(mirror_order(len(facts.keypoint_names), facts.flip_pairs))]
    return make_source(facts, kinds, len(figures.starts) - 1, read_record, name_record, locate)


def pairs_by_name(pairs: Sequence[tuple[str, str]], names: Sequence[str], key: str) -> Pairs:
    """Return the index pairs of the pipeline file's pairs of names.

    Raises:
        DataError: a name is unknown.
    """
    for name in (name for pair in pairs for name in pair):
        if name not in names:
            raise DataError(f"{key}: no keypoint is called '{name}'; {suggest(name, names)}")
    return tuple((names.index(first), names.index(last)) for first, last in pairs)


def flip_pairs(given: Sequence[tuple[str, str]], names: Sequence[str]) -> Pairs:
    """Return the flip pairs of the pipeline file, or else the pairs found by name.

    Raises:
        DataError: a name is unknown, or in several pairs.
    """
    key = "data.source.flip_pairs"
    pairs = pairs_by_name(given, names, key)
    paired = [position for pair in pairs for position in pair]
    twice = [position for position in paired if paired.count(position) > 1]
    if twice:
        raise DataError(f"{key}: '{names[twice[0]]}' is given twice; a keypoint has one partner")
    return pairs or flip_pairs_of(names)


def points_inside(
    places: np.ndarray, visibility: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mark points outside the image as not annotated.

    Args:
        places: float64 [A, P, 2], y and x as fractions of the image.
        visibility: int [A, P].

    Returns:
        Positions, float32, 0 if not annotated; visibility, int32; and bool [A], True for objects
        that lost points.
    """
    inside = ((places >= 0) & (places <= 1)).all(-1)
    kept = np.where(inside, visibility, 0).astype(np.int32)
    lost = np.any((visibility > 0) & ~inside, axis=1)
    return np.where(kept[..., np.newaxis] > 0, places, 0).astype(np.float32), kept, lost
