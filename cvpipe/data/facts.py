"""Facts that the data decides, not the pipeline file."""

from __future__ import annotations

from typing import NamedTuple


class Facts(NamedTuple):
    """Names that labels stand for. Stored in run.json and in every artefact."""

    class_names: tuple[str, ...] = ()
    """A label is a position in them."""
    keypoint_names: tuple[str, ...] = ()
    """Names of an object's keypoints, in the order of their coordinates."""
    flip_pairs: tuple[tuple[int, int], ...] = ()
    """Pairs of keypoints, such as left and right eye, that change places in a mirror image."""
