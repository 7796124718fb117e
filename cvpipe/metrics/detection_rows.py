"""Detections, annotated objects and their overlapping pairs as flat tables over all images.

Dimensions: B images, at most S detections and M objects per image; D detections, O objects and P
pairs in total.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from cvpipe.metrics.pixel_boxes import area, overlaps, rounded

LEAST_OVERLAP = 0.1
"""Minimum IoU of a pair. Below it, TIDE counts a detection as background (Bolya et al. 2020,
section 2.2).
"""


class Detections(NamedTuple):
    """Detections, one per row."""

    image: np.ndarray
    """int64 [D]: the image's number."""
    label: np.ndarray
    """int64 [D]."""
    score: np.ndarray
    """float64 [D]."""
    box: np.ndarray
    """float64 [D, 4]: corners in pixels, rounded."""


class GroundTruth(NamedTuple):
    """Annotated objects, one per row."""

    image: np.ndarray
    """int64 [O]."""
    label: np.ndarray
    """int64 [O]."""
    box: np.ndarray
    """float64 [O, 4]: corners in pixels, rounded."""
    crowd: np.ndarray
    """bool [O]: True for crowd regions and difficult objects, which scores ignore."""
    area: np.ndarray
    """float64 [O]: area in pixels², of the object if annotated, else of its box."""


class Pairs(NamedTuple):
    """Overlapping detections and objects of the same image, of any classes."""

    detection: np.ndarray
    """int64 [P]: rows of `Detections`."""
    object: np.ndarray
    """int64 [P]: rows of `GroundTruth`."""
    iou: np.ndarray
    """float64 [P]."""
    inside: np.ndarray
    """float64 [P]: fraction of the detection's area that lies in the object."""


Rows = TypeVar("Rows", Detections, GroundTruth, Pairs)


def rows_of(
    predictions: Mapping[str, np.ndarray],
    targets: Mapping[str, np.ndarray],
    first: tuple[int, int, int],
) -> tuple[Detections, GroundTruth, Pairs]:
    """Return the rows of a batch, with rounded boxes (see `pixel_boxes.DECIMALS`).

    Args:
        predictions: "boxes" float [B, S, 4], corners in pixels of the original image, "scores"
            float [B, S], "class_ids" int [B, S] and "count" int [B], the number of valid slots.
        targets: "boxes" float [B, M, 4], normalized corners, "extent" int [B, 2], height and width
            of the original image, "labels" int [B, M], −1 in empty slots, "crowd" bool [B, M], and
            optionally "area" float [B, M] in pixels², below 0 if the annotation has none.
        first: row numbers of the batch's first image, detection and object.
    """
    boxes = rounded(predictions["boxes"])
    is_answer = np.arange(boxes.shape[1]) < np.asarray(predictions["count"])[:, np.newaxis]
    extent = np.asarray(targets["extent"], np.float64)
    truths = rounded(np.asarray(targets["boxes"], np.float64) * np.tile(extent, 2)[:, np.newaxis])
    is_object = np.asarray(targets["labels"]) >= 0
    image = first[0] + np.arange(len(boxes))[:, np.newaxis]
    box_areas = area(truths)
    annotated_areas = np.asarray(targets.get("area", np.full(box_areas.shape, -1)), np.float64)
    detections = Detections(
        np.broadcast_to(image, is_answer.shape)[is_answer],
        np.asarray(predictions["class_ids"], np.int64)[is_answer],
        np.asarray(predictions["scores"], np.float64)[is_answer],
        boxes[is_answer],
    )
    objects = GroundTruth(
        np.broadcast_to(image, is_object.shape)[is_object],
        np.asarray(targets["labels"], np.int64)[is_object],
        truths[is_object],
        np.asarray(targets["crowd"], bool)[is_object],
        np.where(annotated_areas >= 0, annotated_areas, box_areas)[is_object],
    )
    return detections, objects, _pairs(boxes, truths, is_answer, is_object, first[1:])


def no_rows() -> tuple[Detections, GroundTruth, Pairs]:
    """Return the rows of an empty batch, so that `joined` always has one."""
    none, boxes = np.zeros(0, np.int64), np.zeros((0, 4))
    return (
        Detections(none, none, np.zeros(0), boxes),
        GroundTruth(none, none, boxes, np.zeros(0, bool), np.zeros(0)),
        Pairs(none, none, np.zeros(0), np.zeros(0)),
    )


def joined(kind: type[Rows], parts: Sequence[Rows]) -> Rows:
    """Concatenate the rows of at least one batch."""
    return kind(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _pairs(
    boxes: np.ndarray,
    truths: np.ndarray,
    is_answer: np.ndarray,
    is_object: np.ndarray,
    first: tuple[int, int],
) -> Pairs:
    iou, inside = overlaps(boxes[:, :, np.newaxis], truths[:, np.newaxis])
    image, detection, truth = np.nonzero(
        ((iou >= LEAST_OVERLAP) | (inside >= LEAST_OVERLAP))
        & is_answer[:, :, np.newaxis]
        & is_object[:, np.newaxis]
    )
    rows = [
        first[n] - 1 + np.cumsum(filled).reshape(filled.shape)
        for n, filled in enumerate((is_answer, is_object))
    ]
    kept = image, detection, truth
    return Pairs(rows[0][image, detection], rows[1][image, truth], iou[kept], inside[kept])
