"""Segmentation metrics, accumulated in NumPy. Padding, ignored pixels and examples of weight 0
never count.

Dimensions: B images of H × W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cvpipe.geometry.masks import IGNORED
from cvpipe.metrics.shares import class_shares, mean_of_defined, share

BOUNDARY_SHARE = 0.02
"""Width of a boundary as a fraction of the image's diagonal (Cheng et al. 2021)."""


class SegmentationMetrics:
    """Pixel and mean accuracy, mean, frequency-weighted and boundary IoU, confusion matrix and
    per-class scores.
    """

    def __init__(self, classes: tuple[str, ...], boundary: bool = True):
        """`boundary`: True to measure boundary IoU, too, which takes most of the time."""
        self.classes = classes
        self.boundary = boundary
        self.confusion = np.zeros((len(classes), len(classes)), np.int64)
        """[K, K]: pixels; rows are the true class, columns the predicted one."""
        self._images = 0
        self._boundaries = np.zeros((3, len(classes)), np.int64)
        """[3, K]: pixels of each class in both boundaries, in the true boundary, and in the
        predicted one.
        """

    def update(
        self,
        predictions: Mapping[str, np.ndarray],
        targets: Mapping[str, np.ndarray],
        weight: np.ndarray,
    ) -> None:
        """Add a batch; images of weight 0 don't count.

        Args:
            predictions: "mask" uint8 [B, H, W], the class of every pixel; IGNORED to the right of
                and below smaller images.
            targets: "mask" uint8 [B, H', W'] of the same images; IGNORED in padding, which may
                differ from that of the predictions, and in unlabeled pixels.
            weight: float [B] of 0 and 1.
        """
        for answer, truth, counted in zip(
            predictions["mask"], targets["mask"], np.asarray(weight) > 0, strict=True
        ):
            if counted:
                self._add(*_within_image(np.asarray(answer), np.asarray(truth)))

    def _add(self, answer: np.ndarray, truth: np.ndarray) -> None:
        classes = len(self.classes)
        self._images += 1
        self.confusion += _pairs(truth, answer)[:classes, :classes]
        if self.boundary:
            width = max(round(BOUNDARY_SHARE * float(np.hypot(*truth.shape))), 1)
            # Ignored pixels are cut out of both masks, so that both have a boundary there.
            pairs = _pairs(
                boundaries(truth, width),
                boundaries(np.where(truth == IGNORED, truth, answer), width),
            )
            self._boundaries += np.stack([pairs.diagonal(), pairs.sum(1), pairs.sum(0)])[
                :, :classes
            ]

    def result(self) -> dict[str, Any]:
        """Return the scores, in [0, 1]; nan if the denominator is 0.

        Returns:
            images and pixels, the counted ones; pixel_accuracy, mean_accuracy, mean_iou
            and frequency_weighted_iou (Long et al. 2015, section 5); boundary_iou (Cheng et al.
            2021), from the pixels of all images, averaged over the classes; per_class {name: {iou,
            accuracy, precision, boundary_iou, pixels, label_share, answer_share}}, where accuracy
            is the recall of the class, pixels is its number of true pixels, and shares are
            fractions of all pixels; confusion_matrix (a row per true class).

            Means leave out undefined values: the IoU of classes in neither the truth nor the
            predictions, and the accuracy of classes not in the truth.
        """
        hits, truths, answers = (
            self.confusion.diagonal(),
            self.confusion.sum(1),
            self.confusion.sum(0),
        )
        pixels = int(truths.sum())
        shares = class_shares(truths, answers)
        both, of_truth, of_answer = self._boundaries
        of_class = {
            "iou": share(hits, truths + answers - hits),
            "accuracy": share(hits, truths),
            "precision": share(hits, answers),
            "boundary_iou": share(both, of_truth + of_answer - both),
        }
        return {
            "images": self._images,
            "pixels": pixels,
            "pixel_accuracy": float(share(hits.sum(), pixels)),
            "mean_accuracy": mean_of_defined(of_class["accuracy"]),
            "mean_iou": mean_of_defined(of_class["iou"]),
            "frequency_weighted_iou": float(share(np.nansum(truths * of_class["iou"]), pixels)),
            "boundary_iou": mean_of_defined(of_class["boundary_iou"]),
            "per_class": {
                name: {
                    **{score: float(values[n]) for score, values in of_class.items()},
                    "pixels": int(truths[n]),
                    **shares[n],
                }
                for n, name in enumerate(self.classes)
            },
            "confusion_matrix": self.confusion.tolist(),
        }


def boundaries(mask: np.ndarray, width: int) -> np.ndarray:
    """Return the boundaries of a mask's regions: uint8 [H, W], with interior pixels set to IGNORED.

    A pixel is interior if all pixels of the square that extends `width` pixels around it lie in the
    image and have its label. As in the authors' code of boundary IoU, the edge of the image is a
    boundary, too.
    """
    corner = mask[1:, 1:]
    changes = (mask[:-1, :-1] != corner) | (mask[:-1, 1:] != corner) | (mask[1:, :-1] != corner)
    left = mask.copy()
    left[width:-width, width:-width][~_any_within(changes, 2 * width)] = IGNORED
    return left


def _any_within(marks: np.ndarray, span: int) -> np.ndarray:
    """Return True for each square of `span` pixels a side that contains a mark: bool [H, W] to bool
    [H − span + 1, W − span + 1].
    """
    reach = 1
    while reach < span:
        step = min(reach, span - reach)
        marks = marks[step:] | marks[:-step]
        marks = marks[:, step:] | marks[:, :-step]
        reach += step
    return marks


def _within_image(answer: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Crop both masks [H, W] to the image, removing their padding."""
    answered = answer != IGNORED
    height, width = (int(np.flatnonzero(answered.any(axis)).max(initial=-1)) + 1 for axis in (1, 0))
    inside = slice(min(height, truth.shape[0])), slice(min(width, truth.shape[1]))
    return answer[inside], truth[inside]


def _pairs(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Count the co-occurrences of the values of two uint8 arrays: int64 [256, 256].

    All values are counted, so ignored pixels need not be removed first.
    """
    return np.bincount(
        ((rows.astype(np.uint16) << 8) | columns).ravel(), minlength=1 << 16
    ).reshape(256, 256)
