"""Facts that come from the data, not from the pipeline file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, NotRequired, TypedDict


class Facts(NamedTuple):
    """Names of classes and keypoints. Stored in run.json and in every artifact."""

    class_names: tuple[str, ...] = ()
    """Class names; a label is an index into them."""
    keypoint_names: tuple[str, ...] = ()
    """Names of an object's keypoints, in the order of their coordinates."""
    flip_pairs: tuple[tuple[int, int], ...] = ()
    """Pairs of keypoints, such as left and right eye, that a mirror image swaps."""
    skeleton: tuple[tuple[int, int], ...] = ()
    """Pairs of keypoints that pictures connect by a line."""

    def to_json(self) -> dict[str, Any]:
        """Return the facts as plain JSON values."""
        return {
            "class_names": list(self.class_names),
            "keypoint_names": list(self.keypoint_names),
            "flip_pairs": [list(pair) for pair in self.flip_pairs],
            "skeleton": [list(pair) for pair in self.skeleton],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Facts:
        """Restore facts from `to_json`."""
        return cls(
            tuple(values["class_names"]),
            tuple(values["keypoint_names"]),
            tuple((first, second) for first, second in values["flip_pairs"]),
            tuple((first, second) for first, second in values["skeleton"]),
        )


class KnownData(TypedDict):
    """Description of the data that a run or an artifact was trained on, as plain JSON values."""

    facts: dict[str, Any]
    """The value of `Facts.to_json`."""
    examples: dict[str, int]
    """Number of examples by split."""
    digests: dict[str, str]
    """Fingerprint of each split's set of examples."""
    images: dict[str, str]
    """Fingerprints of all examples by split, one uint64 each, little-endian, in base64."""
    overlaps: NotRequired[dict[str, list[str]]]
    """Of ensembles: for each split with images that some members were trained on, their runs."""
