"""Guards detection scores, against COCO's recorded scores, pycocotools and Pascal VOC's rules."""

from __future__ import annotations

import contextlib
import io
import json
import math
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from conftest import FindData
from cvpipe.data.sources.files import open_files
from cvpipe.metrics.detection import DetectionMetrics

TWELVE = (
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar1",
    "ar10",
    "ar100",
    "ar_small",
    "ar_medium",
    "ar_large",
)
Batch = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


def batch_of(images: list[dict[str, Any]], slots: int = 0) -> Batch:
    """Return padded arrays of images {"extent", "objects": [(box in pixels, label, crowd, area)],
    "answers": [(box, label, score)]}.
    """
    slots = slots or max(max(len(image["objects"]), len(image["answers"]), 1) for image in images)
    n = len(images)
    answers = {
        "boxes": np.zeros((n, slots, 4), np.float32),
        "scores": np.zeros((n, slots), np.float32),
        "class_ids": np.full((n, slots), -1, np.int32),
        "count": np.int32([len(image["answers"]) for image in images]),
        "image_size": np.int32([image["extent"] for image in images]).reshape(n, 2),
    }
    truths = {
        "boxes": np.zeros((n, slots, 4), np.float32),
        "labels": np.full((n, slots), -1, np.int32),
        "crowd": np.zeros((n, slots), bool),
        "area": np.full((n, slots), -1, np.float32),
    }
    for i, image in enumerate(images):
        for j, (box, label, crowd, area) in enumerate(image["objects"]):
            truths["boxes"][i, j] = np.divide(box, np.tile(image["extent"], 2))
            truths["labels"][i, j], truths["crowd"][i, j], truths["area"][i, j] = label, crowd, area
        for j, (box, label, score) in enumerate(image["answers"]):
            answers["boxes"][i, j], answers["class_ids"][i, j], answers["scores"][i, j] = (
                box,
                label,
                score,
            )
    return answers, truths


def scored(
    images: list[dict[str, Any]], classes: int, batch: int = 1000, **options: Any
) -> dict[str, Any]:
    metrics = DetectionMetrics(tuple(f"class {n}" for n in range(classes)), **options)
    for begin in range(0, len(images), batch):
        part = images[begin : begin + batch]
        metrics.update(*batch_of(part), np.ones(len(part)))
    return metrics.result()


def scene(seed: int, images: int = 30, classes: int = 4, most: int = 9) -> list[dict[str, Any]]:
    """Return images with answers near objects, in whole pixels: some misplaced, some of another
    class, some repeated, and some crowd regions.
    """
    random = np.random.default_rng(seed)
    made: list[dict[str, Any]] = []
    for _ in range(images):
        low = random.integers(0, 200, (random.integers(0, most), 2))
        boxes = np.concatenate([low, low + random.integers(5, 150, low.shape)], 1)
        labels = random.integers(0, classes, len(boxes))
        objects = [
            (box, int(label), bool(random.random() < 0.15), -1) for box, label in zip(boxes, labels)
        ]
        answers = []
        for box, label in zip(boxes, labels):
            for _ in range(random.integers(0, 3)):
                moved = np.sort((box + random.integers(-12, 13, 4)).reshape(2, 2), 0).reshape(4)
                answers.append(
                    (
                        moved,
                        int(label if random.random() < 0.8 else random.integers(classes)),
                        random.integers(1, 40) / 40,
                    )
                )
        made.append({"extent": (512, 256), "objects": objects, "answers": answers})
    return made


def xywh(box: np.ndarray) -> list[float]:
    return [float(value) for value in (box[1], box[0], box[3] - box[1], box[2] - box[0])]


def pycocotools_scores(images: list[dict[str, Any]], classes: int) -> np.ndarray:
    truths, answers = [], []
    for n, image in enumerate(images):
        for box, label, crowd, _ in image["objects"]:
            area = xywh(box)[2] * xywh(box)[3]
            truths.append(
                {
                    "id": len(truths) + 1,
                    "image_id": n,
                    "category_id": label,
                    "bbox": xywh(box),
                    "area": area,
                    "iscrowd": int(crowd),
                }
            )
        answers += [
            {"image_id": n, "category_id": label, "bbox": xywh(box), "score": score}
            for box, label, score in image["answers"]
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": n} for n in range(len(images))],
            "annotations": truths,
            "categories": [{"id": n} for n in range(classes)],
            "info": {},
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(answers), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.where(evaluation.stats < 0, np.nan, evaluation.stats)


def test_the_scores_equal_cocos_recorded_scores(public_data: FindData) -> None:
    files = open_files(str(public_data("coco-eval-check")))
    truth = json.loads(files.read("instances_val2014_100.json"))
    answers = json.loads(files.read("results/instances_val2014_fakebbox100_results.json"))
    labels = {category["id"]: n for n, category in enumerate(truth["categories"])}

    def corners(box: list[float]) -> list[float]:
        x, y, width, height = box
        return [y, x, y + height, x + width]

    images: dict[int, dict[str, Any]] = {
        image["id"]: {"extent": (image["height"], image["width"]), "objects": [], "answers": []}
        for image in truth["images"]
    }
    for row in truth["annotations"]:
        images[row["image_id"]]["objects"].append(
            (corners(row["bbox"]), labels[row["category_id"]], row["iscrowd"], row["area"])
        )
    for row in answers:
        images[row["image_id"]]["answers"].append(
            (corners(row["bbox"]), labels[row["category_id"]], row["score"])
        )
    # Scores have three decimals, so some are equal; COCO ranks equal ones by image id.
    scores = scored([images[number] for number in sorted(images)], len(labels), batch=16)
    recorded = [
        0.504581,
        0.696973,
        0.572982,
        0.585626,
        0.519400,
        0.501398,
        0.386813,
        0.593680,
        0.595353,
        0.639811,
        0.566421,
        0.564291,
    ]
    np.testing.assert_allclose([scores[name] for name in TWELVE], recorded, atol=1e-6)
    assert (scores["images"], scores["objects"]) == (100, 830)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_scores_equal_pycocotools(seed: int) -> None:
    images = scene(seed)
    scores = scored(images, 4)
    np.testing.assert_allclose(
        [scores[name] for name in TWELVE], pycocotools_scores(images, 4), atol=1e-9
    )
    assert np.nanmean([row["ap"] for row in scores["per_class"].values()]) == pytest.approx(
        scores["ap"]
    )
    curves = scores["precision_recall"]
    assert np.mean(curves["precision"]) == pytest.approx(scores["ap50"])
    assert np.mean(curves["per_class"]["class 2"]) == pytest.approx(
        scores["per_class"]["class 2"]["ap50"]
    )
    assert len(curves["recall"]) == len(curves["precision"]) == 101


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return float(shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared))


def voc_by_hand(images: list[dict[str, Any]], label: int) -> tuple[float, float]:
    """Return both APs of a class by the rules of VOC's development kit, detection by detection."""
    objects = [
        (n, box, crowd)
        for n, image in enumerate(images)
        for box, class_id, crowd, _ in image["objects"]
        if class_id == label
    ]
    answers = [
        (n, box, score)
        for n, image in enumerate(images)
        for box, class_id, score in image["answers"]
        if class_id == label
    ]
    found, right, wrong = set(), [], []
    for n, box, _ in sorted(answers, key=lambda answer: -answer[2]):
        candidates = [
            (overlap(box, truth), -m) for m, (image, truth, _) in enumerate(objects) if image == n
        ]
        best, m = max(candidates, default=(0.0, 0))
        if best >= 0.5 and objects[-m][2]:
            continue
        is_right = best >= 0.5 and -m not in found
        found |= {-m} if is_right else set()
        right.append(is_right)
        wrong.append(not is_right)
    total = sum(not crowd for _, _, crowd in objects)
    recall, precision = (
        np.cumsum(right) / total,
        np.cumsum(right) / (np.cumsum(right) + np.cumsum(wrong)),
    )
    eleven = np.mean([max(precision[recall >= t - 1e-12], default=0) for t in np.arange(11) / 10])
    steps = np.concatenate([[0], recall])
    area = sum((steps[i + 1] - steps[i]) * precision[i:].max() for i in range(len(recall)))
    return float(eleven), float(area)


def test_voc_scores_equal_its_rules_done_by_hand() -> None:
    images = scene(2)
    scores = scored(images, 4)
    expected = [voc_by_hand(images, label) for label in range(4)]
    actual = [(row["voc_ap_11"], row["voc_ap_area"]) for row in scores["per_class"].values()]
    np.testing.assert_allclose(actual, expected, atol=1e-9)
    np.testing.assert_allclose((scores["voc_ap_11"], scores["voc_ap_area"]), np.mean(expected, 0))


@pytest.mark.parametrize("batch", [1, 7])
def test_batching_changes_no_score(batch: int) -> None:
    images = scene(3)
    assert repr(scored(images, 4, batch)) == repr(scored(images, 4))


def test_images_of_weight_zero_and_slots_after_the_count_are_ignored() -> None:
    images = scene(4)
    weight = np.arange(len(images)) % 3 > 0
    answers, truths = batch_of(images)
    behind = np.arange(answers["scores"].shape[1]) >= answers["count"][:, np.newaxis]
    answers["scores"][behind], answers["class_ids"][behind] = 1, 1
    metrics = DetectionMetrics(("class 0", "class 1", "class 2", "class 3"))
    metrics.update(answers, truths, weight)
    assert repr(metrics.result()) == repr(
        scored([image for image, counts in zip(images, weight) if counts], 4)
    )


def test_perfect_answers_score_one_and_annotated_areas_decide_which_objects_are_small() -> None:
    box = np.array([10, 10, 60, 60])
    images = [
        {"extent": (100, 100), "objects": [(box, 0, False, 20 * 20)], "answers": [(box, 0, 0.9)]}
    ]
    scores = scored(images, 1)
    assert all(
        scores[name] == pytest.approx(1)
        for name in ("ap", "ap_small", "ar1", "ar_small", "voc_ap_11", "voc_ap_area")
    )
    assert math.isnan(scores["ap_medium"]) and math.isnan(scores["ap_large"])


def test_answers_without_annotated_areas_are_scored_by_the_areas_of_boxes() -> None:
    answers, truths = batch_of(scene(0))
    with_area = DetectionMetrics(("a", "b", "c", "d"))
    with_area.update(answers, truths, np.ones(30))
    del truths["area"]
    without = DetectionMetrics(("a", "b", "c", "d"))
    without.update(answers, truths, np.ones(30))
    assert repr(with_area.result()) == repr(without.result())


@pytest.mark.parametrize(
    "images",
    [
        [],
        [{"extent": (50, 50), "objects": [], "answers": []}],
        [{"extent": (50, 50), "objects": [], "answers": [([0, 0, 9, 9], 1, 0.9)]}],
        [
            {
                "extent": (50, 50),
                "objects": [([0, 0, 9, 9], 1, True, -1)],
                "answers": [([0, 0, 9, 9], 1, 0.9)],
            }
        ],
    ],
    ids=["nothing evaluated", "nothing there", "no objects", "only a crowd"],
)
def test_without_objects_scores_are_nan_not_an_error(images: list[dict[str, Any]]) -> None:
    scores = scored(images, 3)
    assert (scores["images"], scores["objects"]) == (len(images), 0)
    assert all(math.isnan(scores[name]) for name in (*TWELVE, "voc_ap_11", "voc_ap_area"))
    assert all(math.isnan(value) for value in scores["precision_recall"]["precision"])


def test_without_answers_scores_are_zero_and_all_objects_are_missed() -> None:
    scores = scored(
        [{"extent": (50, 50), "objects": [([0, 0, 9, 9], 1, False, -1)] * 2, "answers": []}], 3
    )
    assert (scores["ap"], scores["ar100"], scores["voc_ap_11"], scores["voc_ap_area"]) == (
        0,
        0,
        0,
        0,
    )
    assert math.isnan(scores["per_class"]["class 0"]["ap"])
    assert scores["errors"]["missed"] == 2
