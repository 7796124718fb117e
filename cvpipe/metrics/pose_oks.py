"""Average precision by object keypoint similarity (OKS), computed by faster-coco-eval.

Dimensions: F figures, one per image, P keypoints.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Standard deviations between annotators of COCO's keypoints, as fractions of the square root of a
# person's area (cocodataset.org/#keypoints-eval).
COCO_SIGMAS = {
    "nose": 0.026,
    "eye": 0.025,
    "ear": 0.035,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
}
COCO_NAMES = (
    "nose",
    *(f"{side}_{part}" for part in list(COCO_SIGMAS)[1:] for side in ("left", "right")),
)
UNIFORM_SIGMA = 0.067
"""Mean of COCO's sigmas, for the keypoints of other data."""
# The average over all OKS thresholds, and the scores at 0.5 and at 0.75.
SCORES = ("oks_ap", "oks_ap50", "oks_ap75")


def sigmas_of(names: tuple[str, ...]) -> np.ndarray:
    """Return the sigma of each keypoint, float64 [P]: COCO's for its 17 keypoints, else
    `UNIFORM_SIGMA`.
    """
    if set(names) != set(COCO_NAMES):
        return np.full(len(names), UNIFORM_SIGMA)
    return np.array([COCO_SIGMAS[name.split("_")[-1]] for name in names])


def oks_scores(
    points: np.ndarray,
    truths: np.ndarray,
    visibility: np.ndarray,
    boxes: np.ndarray,
    areas: np.ndarray,
    scores: np.ndarray,
    names: tuple[str, ...],
) -> dict[str, float]:
    """Evaluate one predicted pose per image, which has only one figure, as COCO does.

    OKS is the mean over annotated points of exp(−d² / (2 area (2σ)²)). The area is that of the
    figure's outline if annotated, else of its box.

    Args:
        points, truths: float64 [F, P, 2], y and x in pixels.
        visibility: int [F, P].
        boxes: float64 [F, 4], the figures' corners in pixels.
        areas: float64 [F], pixels².
        scores: float64 [F], confidences by which the poses are ranked.
        names: names of the keypoints.

    Returns:
        oks_ap, the mean over OKS thresholds 0.5, 0.55 … 0.95; oks_ap50; oks_ap75. nan without
        figures.
    """
    if not (visibility > 0).any():
        return dict.fromkeys(SCORES, float("nan"))
    # Imported here, because only scoring needs it.
    from faster_coco_eval import COCO, COCOeval_faster

    def coco(keypoints: np.ndarray, **columns: np.ndarray) -> COCO:
        data = COCO()
        names_of = list(columns)
        data.dataset = {
            "images": [{"id": image} for image in range(len(keypoints))],
            "categories": [{"id": 0, "name": "figure", "keypoints": list(names)}],
            "annotations": [
                _row(image, keypoints[image], boxes[image], areas[image])
                | {name: columns[name][image].item() for name in names_of}
                for image in range(len(keypoints))
            ],
        }
        data.createIndex()
        return data

    flagged = np.concatenate([truths, visibility[..., np.newaxis]], -1)
    answers = np.concatenate([points, np.ones_like(points[..., :1])], -1)
    evaluation: Any = COCOeval_faster(
        coco(flagged, num_keypoints=(visibility > 0).sum(1)),
        coco(answers, score=scores),
        "keypoints",
        kpt_oks_sigmas=sigmas_of(names),
    )
    evaluation.evaluate()
    evaluation.accumulate()
    # [thresholds, recall levels, classes, area ranges, limits], −1 if nothing is annotated.
    precision = np.array(evaluation.eval["precision"], np.float64)[:, :, 0, 0, 0]
    precision = np.where(precision < 0, np.nan, precision).mean(1)
    return dict(
        zip(SCORES, map(float, (precision.mean(), precision[0], precision[5])), strict=True)
    )


def _row(image: int, keypoints: np.ndarray, box: np.ndarray, area: float) -> dict[str, Any]:
    """Return a figure as a COCO annotation. Keypoints are [P, 3] (y, x, flag); ids begin at 1."""
    top, left, bottom, right = box.tolist()
    return {
        "id": image + 1,
        "image_id": image,
        "category_id": 0,
        "keypoints": keypoints[:, [1, 0, 2]].ravel().tolist(),
        "bbox": [left, top, right - left, bottom - top],
        "area": float(area),
        "iscrowd": 0,
    }
