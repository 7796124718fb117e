"""Guards mask scores, against scikit-learn and NumPy, pixel by pixel."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import sklearn.metrics

from cvpipe.geometry.masks import IGNORED
from cvpipe.json_files import jsonable
from cvpipe.metrics.segmentation import SegmentationMetrics, boundaries

CLASSES = 5
NAMES = tuple(f"class {n}" for n in range(CLASSES))


def regions(images: int, height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return answers and truths, uint8 [images, height, width]: truths are blocks of classes, some
    of them ignored, and answers are mostly right.
    """
    random = np.random.default_rng(seed)
    blocks = random.integers(0, CLASSES, (images, -(-height // 6), -(-width // 6)))
    whole = np.kron(blocks, np.ones((6, 6), int))[:, :height, :width].astype(np.uint8)
    answers = np.roll(whole, 1, 1)
    wrong = random.random(whole.shape) < 0.05
    answers[wrong] = random.integers(0, CLASSES, int(wrong.sum()))
    return answers, np.where(random.random(whole.shape) < 0.02, IGNORED, whole).astype(np.uint8)


def counted(
    answers: np.ndarray, truths: np.ndarray, weight: np.ndarray | None = None, batch: int = 100
) -> SegmentationMetrics:
    metrics = SegmentationMetrics(NAMES)
    weight = np.ones(len(truths)) if weight is None else weight
    for begin in range(0, len(truths), batch):
        part = slice(begin, begin + batch)
        metrics.update({"mask": answers[part]}, {"mask": truths[part]}, weight[part])
    return metrics


def padded(masks: np.ndarray, height: int, width: int) -> np.ndarray:
    around = [(0, 0), (0, height - masks.shape[1]), (0, width - masks.shape[2])]
    return np.pad(masks, around, constant_values=IGNORED)


def test_the_scores_equal_scikit_learns() -> None:
    answers, truths = regions(4, 40, 30)
    scores = counted(answers, truths).result()
    y_true, y_pred = truths[truths != IGNORED], answers[truths != IGNORED]
    ious = sklearn.metrics.jaccard_score(y_true, y_pred, average=None)
    recalls = sklearn.metrics.recall_score(y_true, y_pred, average=None)
    assert scores["pixel_accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(y_true, y_pred))
    assert scores["mean_accuracy"] == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(y_true, y_pred)
    )
    assert scores["mean_iou"] == pytest.approx(ious.mean())
    assert scores["frequency_weighted_iou"] == pytest.approx(
        sklearn.metrics.jaccard_score(y_true, y_pred, average="weighted")
    )
    np.testing.assert_array_equal(
        scores["confusion_matrix"], sklearn.metrics.confusion_matrix(y_true, y_pred)
    )
    rows = scores["per_class"].values()
    np.testing.assert_allclose([row["iou"] for row in rows], ious)
    np.testing.assert_allclose([row["accuracy"] for row in rows], recalls)
    np.testing.assert_allclose(
        [row["precision"] for row in rows],
        sklearn.metrics.precision_score(y_true, y_pred, average=None),
    )
    assert [row["pixels"] for row in rows] == np.bincount(y_true).tolist()
    assert (scores["images"], scores["pixels"]) == (4, len(y_true))


def band(mask: np.ndarray, label: int, width: int) -> np.ndarray:
    """Return a class's pixels with another class or the image's outside at most `width` rows and
    columns away.
    """
    is_other = np.pad(mask != label, width, constant_values=True)
    near = [
        is_other[y : y + mask.shape[0], x : x + mask.shape[1]]
        for y in range(2 * width + 1)
        for x in range(2 * width + 1)
    ]
    found: np.ndarray = (mask == label) & np.any(near, 0)
    return found


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("shape", [(40, 30), (1, 1), (1, 20), (7, 3), (10, 16)])
def test_boundaries_are_the_pixels_that_an_erosion_removes(
    shape: tuple[int, int], width: int
) -> None:
    mask = np.kron(np.random.default_rng(width).integers(0, 3, shape), np.ones((3, 4), int))[
        : shape[0], : shape[1]
    ].astype(np.uint8)
    left = boundaries(mask, width)
    for label in range(3):
        np.testing.assert_array_equal(left == label, band(mask, label, width))


def test_the_boundary_iou_equals_its_definition() -> None:
    answers, truths = regions(3, 120, 110)
    width = round(0.02 * math.hypot(120, 110))
    assert width == 3
    cut = np.where(truths == IGNORED, IGNORED, answers)
    expected = []
    for label in range(CLASSES):
        of_truth, of_answer = (
            np.stack([band(mask, label, width) for mask in masks]) for masks in (truths, cut)
        )
        expected.append((of_truth & of_answer).sum() / (of_truth | of_answer).sum())
    scores = counted(answers, truths).result()
    np.testing.assert_allclose(
        [row["boundary_iou"] for row in scores["per_class"].values()], expected
    )
    assert scores["boundary_iou"] == pytest.approx(np.mean(expected))


def test_a_boundary_is_a_fiftieth_of_the_diagonal_of_the_image_not_of_its_padding() -> None:
    answers, truths = regions(2, 60, 80)
    expected = counted(answers, truths).result()
    assert counted(padded(answers, 200, 300), padded(truths, 90, 500)).result() == expected


def test_coarse_contours_lower_boundary_iou_more_than_iou() -> None:
    y, x = np.mgrid[0:200, 0:200]
    truth = (np.hypot(y - 100, x - 100) < 70).astype(np.uint8)
    coarse = np.kron(truth[5::10, 5::10], np.ones((10, 10), np.uint8))
    scores = counted(coarse[np.newaxis], truth[np.newaxis]).result()
    assert scores["mean_iou"] > 0.9 and scores["boundary_iou"] < scores["mean_iou"] - 0.1


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_batching_and_padding_change_nothing(batch: int) -> None:
    answers, truths = regions(5, 33, 47)
    assert (
        counted(padded(answers, 50, 47), padded(truths, 33, 64), batch=batch).result()
        == counted(answers, truths).result()
    )


def test_the_sizes_of_images_are_inferred_from_padding() -> None:
    small, large = regions(1, 20, 50, 1), regions(1, 44, 30, 2)
    answers, truths = (
        np.concatenate([padded(first, 44, 50), padded(second, 44, 50)])
        for first, second in zip(small, large)
    )
    apart = SegmentationMetrics(NAMES)
    for answer, truth in (small, large):
        apart.update({"mask": answer}, {"mask": truth}, np.ones(1))
    assert counted(answers, truths).result() == apart.result()


def test_examples_of_weight_zero_dont_count() -> None:
    answers, truths = regions(6, 24, 24)
    weight = np.arange(6) % 3 > 0
    assert (
        counted(answers, truths, weight).result()
        == counted(answers[weight], truths[weight]).result()
    )


def test_the_answer_where_the_truth_is_ignored_doesnt_matter() -> None:
    answers, truths = regions(2, 40, 40)
    other = np.where(truths == IGNORED, (answers + 1) % CLASSES, answers).astype(np.uint8)
    assert counted(other, truths).result() == counted(answers, truths).result()


def test_the_truth_as_the_answer_is_right_everywhere() -> None:
    _, truths = regions(3, 40, 40)
    scores = counted(truths, truths).result()
    assert scores["pixels"] == np.count_nonzero(truths != IGNORED)
    assert {
        scores[name]
        for name in (
            "pixel_accuracy",
            "mean_accuracy",
            "mean_iou",
            "frequency_weighted_iou",
            "boundary_iou",
        )
    } == {1.0}


def test_means_leave_out_absent_classes_but_count_classes_only_predicted() -> None:
    truth = np.zeros((1, 30, 30), np.uint8)
    truth[:, :, 15:] = 1
    scores = counted(truth, truth).result()
    assert scores["mean_iou"] == scores["mean_accuracy"] == scores["boundary_iou"] == 1
    assert math.isnan(scores["per_class"]["class 4"]["iou"])
    answer = truth.copy()
    answer[:, 0, 0] = 4
    scores = counted(answer, truth).result()
    assert scores["per_class"]["class 4"]["iou"] == 0 and scores["mean_iou"] == pytest.approx(
        (449 / 450 + 1) / 3
    )
    assert scores["mean_accuracy"] == pytest.approx((449 / 450 + 1) / 2)


@pytest.mark.parametrize("images", [0, 2])
def test_nothing_to_score_gives_nan_not_an_error(images: int) -> None:
    nothing = np.full((images, 8, 8), IGNORED, np.uint8)
    scores = counted(np.zeros_like(nothing), nothing).result()
    assert (scores["images"], scores["pixels"]) == (images, 0)
    for name in (
        "pixel_accuracy",
        "mean_accuracy",
        "mean_iou",
        "frequency_weighted_iou",
        "boundary_iou",
    ):
        assert math.isnan(scores[name])
    assert json.loads(json.dumps(jsonable(scores)))["mean_iou"] is None


def test_boundary_iou_can_be_left_out() -> None:
    answers, truths = regions(2, 30, 30)
    metrics = SegmentationMetrics(NAMES, boundary=False)
    metrics.update({"mask": answers}, {"mask": truths}, np.ones(2))
    scores, whole = metrics.result(), counted(answers, truths).result()
    assert math.isnan(scores["boundary_iou"]) and scores["mean_iou"] == whole["mean_iou"]


def test_255_classes_are_counted() -> None:
    mask = np.arange(255, dtype=np.uint8).reshape(1, 15, 17)
    metrics = SegmentationMetrics(tuple(map(str, range(255))))
    metrics.update({"mask": mask}, {"mask": mask}, np.ones(1))
    assert metrics.confusion.dtype == np.int64 and (metrics.confusion == np.eye(255)).all()
    assert metrics.result()["mean_iou"] == 1
