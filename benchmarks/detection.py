"""Measure cvpipe's matching, non-maximum suppression and scoring of detections, compared with Model
Garden, TensorFlow and pycocotools.

First the results of all contestants are compared. Then the contestants run alternately in one
process, and the median of the rounds is reported. `python benchmarks/detection.py` takes about five
minutes and needs Model Garden's dependencies.
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from cvpipe.geometry.boxes import to_corners
from cvpipe.geometry.default_boxes import default_boxes, ssd300_layers
from cvpipe.geometry.matching import match
from cvpipe.geometry.suppression import suppress
from cvpipe.metrics.detection import DetectionMetrics
from record import record, row
from turns import median_seconds, timed

ROUNDS = 7
IMAGES, CLASSES, SLOTS, OVERLAP = 32, 21, 100, 0.45
OURS = "cvpipe"
Work = Callable[[], Any]


def suppression(threshold: float) -> tuple[dict[str, Work], str]:
    """Return the contestants for suppressing SSD300's 8,732 boxes of 21 classes, and a sentence
    that says if their results are equal. Few boxes have high scores.
    """
    random = np.random.default_rng(0)
    boxes = tf.constant(np.tile(to_corners(default_boxes(ssd300_layers())), (IMAGES, 1, 1)))
    logits = random.normal(size=(IMAGES, 8732, CLASSES)).astype(np.float32)
    has_object = random.random((IMAGES, 8732)) < 0.03
    logits[has_object, random.integers(0, CLASSES, has_object.sum())] += random.uniform(
        2, 8, has_object.sum()
    ).astype(np.float32)
    scores = tf.sigmoid(logits - 5)

    def ours() -> dict[str, tf.Tensor]:
        return suppress(
            boxes,
            scores,
            score_threshold=threshold,
            iou_threshold=OVERLAP,
            max_detections=SLOTS,
            slots=SLOTS,
            candidates=400,
        )

    def tensorflows() -> Any:
        return tf.image.combined_non_max_suppression(
            boxes[:, :, tf.newaxis], scores, SLOTS, SLOTS, OVERLAP, threshold, clip_boxes=False
        )

    contestants = {
        OURS: tf.function(ours),
        "cvpipe, XLA": tf.function(ours, jit_compile=True),
        "TensorFlow": tf.function(tensorflows),
    }
    found, expected = contestants[OURS](), contestants["TensorFlow"]()
    same = np.array_equal(found["scores"], expected.nmsed_scores) and np.array_equal(
        found["boxes"], expected.nmsed_boxes
    )
    return contestants, "equal answers" if same else "answers differ"


def matching(objects: int) -> tuple[dict[str, Work], str]:
    """Return the contestants for matching SSD300's default boxes with `objects` objects per image,
    and a sentence with the share of boxes that they match differently.
    """
    from official.vision.ops import box_matcher, iou_similarity

    random = np.random.default_rng(0)
    defaults = to_corners(default_boxes(ssd300_layers()))
    middle, size = (
        random.uniform(size=(IMAGES, objects, 2)),
        random.uniform(0.02, 0.6, (IMAGES, objects, 2)),
    )
    boxes = tf.constant(np.concatenate([middle - size / 2, middle + size / 2], -1), tf.float32)
    labels, crowd = tf.zeros([IMAGES, objects], tf.int32), tf.zeros([IMAGES, objects], tf.bool)
    similarity = iou_similarity.IouSimilarity()
    matcher = box_matcher.BoxMatcher([0.5], [-1, 1], force_match_for_each_col=True)
    contestants = {
        OURS: tf.function(lambda: match(defaults, boxes, labels, crowd)),
        "Model Garden": tf.function(
            lambda: matcher(similarity(tf.broadcast_to(defaults, [IMAGES, *defaults.shape]), boxes))
        ),
    }
    index, indicator = contestants["Model Garden"]()
    differ = float(np.mean(np.where(indicator > 0, index, -1) != contestants[OURS]().numpy()))
    return (
        contestants,
        (
            f"{differ:.4%} of the boxes are matched differently: Model Garden lets objects share"
            " their best box"
        ),
    )


def scoring(images: int = 5_000, each: int = 20, classes: int = 80) -> tuple[dict[str, Work], str]:
    """Return the contestants for computing COCO's scores of random detections, each near an object,
    and a sentence with their average precisions.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    random = np.random.default_rng(0)
    # Whole pixels, because the contestants may round fractions differently.
    corner, size = (
        random.integers(0, 300, (images, each, 2)),
        random.integers(8, 200, (images, each, 2)),
    )
    labels = random.integers(0, classes, (images, 1)).repeat(each, 1)
    found_corner, found_size = (
        corner + random.integers(-8, 9, corner.shape),
        np.maximum(size + random.integers(-8, 9, size.shape), 1),
    )
    scores = random.permutation(images * each).reshape(images, each).astype(np.float32) / (
        images * each
    )
    extent = np.full((images, 2), 512, np.int32)
    targets: dict[str, np.ndarray] = {
        "boxes": (np.concatenate([corner, corner + size], -1) / 512).astype(np.float32),
        "labels": labels,
        "crowd": np.zeros(labels.shape, bool),
    }
    answers: dict[str, np.ndarray] = {
        "boxes": np.concatenate([found_corner, found_corner + found_size], -1).astype(np.float32),
        "scores": scores,
        "class_ids": labels,
        "count": np.full(images, each),
        "image_size": extent,
    }

    def ours() -> dict[str, Any]:
        metrics = DetectionMetrics(tuple(map(str, range(classes))))
        for begin in range(0, images, 64):
            part = slice(begin, begin + 64)
            predictions, truths = (
                {key: value[part] for key, value in given.items()} for given in (answers, targets)
            )
            metrics.update(predictions, truths, np.ones(len(extent[part])))
        return metrics.result()

    def rows(corners: np.ndarray, sizes: np.ndarray, **more: np.ndarray) -> list[dict[str, Any]]:
        return [
            {
                "id": image * each + n + 1,
                "image_id": image,
                "category_id": int(labels[image, n]) + 1,
                "iscrowd": 0,
                "bbox": [*corners[image, n, ::-1].tolist(), *sizes[image, n, ::-1].tolist()],
                "area": float(sizes[image, n].prod()),
                **{key: float(value[image, n]) for key, value in more.items()},
            }
            for image in range(images)
            for n in range(each)
        ]

    truths, detections = rows(corner, size), rows(found_corner, found_size, score=scores)
    categories = [{"id": n + 1, "name": str(n)} for n in range(classes)]

    def pycocos() -> np.ndarray:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO()
            coco.dataset = {
                "images": [{"id": n} for n in range(images)],
                "annotations": truths,
                "categories": categories,
                "info": {},
            }
            coco.createIndex()
            evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(detections)), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation.stats

    ap, theirs = ours()["ap"], pycocos()[0]
    return {OURS: ours, "pycocotools": pycocos}, f"AP {ap:.6f} and {theirs:.6f}"


def main() -> None:
    """Print a table and write benchmarks/results/detection.json."""
    tf.config.experimental.enable_op_determinism()
    rows, ratios = [], []
    tasks: dict[str, tuple[Callable[[], tuple[dict[str, Work], str]], int]] = {
        "NMS, score > 0.01": (lambda: suppression(0.01), ROUNDS),
        "NMS, score > 0.05": (lambda: suppression(0.05), ROUNDS),
        "NMS, score > 0.3": (lambda: suppression(0.3), ROUNDS),
        "matching, 20 objects": (lambda: matching(20), ROUNDS),
        "matching, 100 objects": (lambda: matching(100), ROUNDS),
        "COCO scores, 5,000 × 20": (scoring, 1),
    }
    for task, (prepare, rounds) in tasks.items():
        contestants, compared = prepare()
        taken = median_seconds({name: timed(work) for name, work in contestants.items()}, rounds)
        print(f"{task}: {compared}", flush=True)
        rows += [
            row(f"{task}: {name}", 1000 * value, "ms", name.startswith(OURS))
            for name, value in taken.items()
        ]
        ratios.append(
            min(value for name, value in taken.items() if not name.startswith(OURS)) / taken[OURS]
        )
        rows.append(row(f"{task}: best peer / cvpipe", ratios[-1], "", True))
    record("detection", rows, min(ratios))


if __name__ == "__main__":
    main()
