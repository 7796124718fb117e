"""Guards pose scores: PCK and OKS, against their definitions in plain NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cvpipe.metrics.pose import PoseMetrics
from cvpipe.metrics.pose_oks import COCO_NAMES, UNIFORM_SIGMA, sigmas_of

NAMES = ("head", "hand", "foot")
IMAGES = 40


def batch(seed: int = 0, points: int = 3) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return predictions near to and far from the truth, in images of different sizes."""
    random = np.random.default_rng(seed)
    size = random.integers(50, 200, (IMAGES, 2))
    low = random.uniform(0, 0.5, (IMAGES, 2))
    high = low + random.uniform(0.1, 0.5, (IMAGES, 2))
    truth = random.uniform(low[:, np.newaxis], high[:, np.newaxis], (IMAGES, points, 2))
    targets = {
        "keypoints": truth.astype(np.float32),
        "visibility": random.integers(0, 3, (IMAGES, points)).astype(np.int32),
        "box": np.concatenate([low, high], 1).astype(np.float32),
        "area": np.where(random.uniform(size=IMAGES) < 0.5, -1, 900).astype(np.float32),
    }
    spread = random.choice([0.01, 0.05, 0.3], (IMAGES, 1, 1))
    answers = {
        "keypoints": ((truth + random.normal(size=truth.shape) * spread) * size[:, None]),
        "scores": random.uniform(size=(IMAGES, points)),
        "image_size": size,
    }
    return answers, targets


def scores_of(
    answers: dict[str, np.ndarray],
    targets: dict[str, np.ndarray],
    weight: np.ndarray | None = None,
    names: tuple[str, ...] = NAMES,
) -> dict[str, float]:
    metrics = PoseMetrics(names)
    metrics.update(answers, targets, np.ones(IMAGES) if weight is None else weight)
    return metrics.result()


def side_of(targets: dict[str, np.ndarray], image: int, size: np.ndarray) -> float:
    top, left, bottom, right = targets["box"][image] * np.tile(size[image], 2)
    return float(max(bottom - top, right - left))


def test_pck_counts_points_within_a_tenth_of_the_figures_longer_side() -> None:
    answers, targets = batch()
    size, right, of_foot = answers["image_size"], [], []
    for image in range(IMAGES):
        for point in range(3):
            if targets["visibility"][image, point] == 0:
                continue
            true = targets["keypoints"][image, point] * size[image]
            distance = math.dist(true, answers["keypoints"][image, point])
            right.append(distance <= 0.1 * side_of(targets, image, size))
            if point == 2:
                of_foot.append(right[-1])
    scores = scores_of(answers, targets)
    assert scores["pck"] == pytest.approx(np.mean(right)) and 0.1 < scores["pck"] < 0.9
    assert scores["per_keypoint"]["foot"] == {
        "pck": pytest.approx(np.mean(of_foot)),
        "mean_error": pytest.approx(scores["per_keypoint"]["foot"]["mean_error"]),
        "keypoints": len(of_foot),
    }
    assert scores["keypoints"] == len(right)


def oks_of(answers: dict[str, np.ndarray], targets: dict[str, np.ndarray], image: int) -> float:
    """Return the OKS of an image by its definition, with uniform tolerances."""
    height, width = answers["image_size"][image]
    top, left, bottom, right = targets["box"][image] * [height, width, height, width]
    annotated_area = targets["area"][image]
    area = annotated_area if annotated_area >= 0 else (bottom - top) * (right - left)
    similar = []
    for point, level in enumerate(targets["visibility"][image]):
        if level:
            true = targets["keypoints"][image, point] * [height, width]
            squared = math.dist(true, answers["keypoints"][image, point]) ** 2
            similar.append(math.exp(-squared / (2 * area * (2 * UNIFORM_SIGMA) ** 2)))
    return float(np.mean(similar)) if similar else float("nan")


def average_precision(oks: np.ndarray, scores: np.ndarray, threshold: float) -> float:
    """Return the mean of interpolated precision at the recalls 0, 0.01 … 1."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(oks[order] >= threshold)
    precision = hits / np.arange(1, len(oks) + 1)
    recall = hits / len(oks)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, np.linspace(0, 1, 101))
    return float(np.mean([best[place] if place < len(best) else 0.0 for place in places]))


@pytest.mark.parametrize("seed", [0, 1])
def test_average_precision_is_that_of_the_definition(seed: int) -> None:
    answers, targets = batch(seed)
    oks = np.array([oks_of(answers, targets, image) for image in range(IMAGES)])
    known = ~np.isnan(oks)
    ranks = answers["scores"].mean(1)[known]
    thresholds = np.arange(0.5, 1, 0.05)
    each = [average_precision(oks[known], ranks, threshold) for threshold in thresholds]
    scores = scores_of(answers, targets)
    assert scores["oks_ap"] == pytest.approx(np.mean(each), abs=1e-6)
    assert scores["oks_ap50"] == pytest.approx(each[0], abs=1e-6)
    assert scores["oks_ap75"] == pytest.approx(each[5], abs=1e-6)
    assert scores["figures"] == known.sum() and 0.05 < scores["oks_ap"] < 0.95


def test_the_truth_scores_1_and_points_without_annotation_are_ignored() -> None:
    answers, targets = batch()
    right = targets["keypoints"] * answers["image_size"][:, np.newaxis]
    wrong = np.where(targets["visibility"][..., np.newaxis] > 0, right, 1e4)
    scores = scores_of({**answers, "keypoints": wrong}, targets)
    for name in ("pck", "pck_visible", "pck_hidden", "oks_ap", "oks_ap50", "oks_ap75"):
        assert scores[name] == pytest.approx(1), name
    assert scores["mean_error"] == pytest.approx(0, abs=1e-5)


def test_images_of_weight_0_do_not_count_and_batches_add_up() -> None:
    answers, targets = batch()
    weight = (np.arange(IMAGES) < 30).astype(np.float32)
    metrics = PoseMetrics(NAMES)
    for rows in (slice(0, 12), slice(12, None)):
        metrics.update(
            {name: values[rows] for name, values in answers.items()},
            {name: values[rows] for name, values in targets.items()},
            weight[rows],
        )
    first = [{name: values[:30] for name, values in part.items()} for part in (answers, targets)]
    expected = PoseMetrics(NAMES)
    expected.update(*first, np.ones(30))
    assert metrics.result() == expected.result() and metrics.result()["images"] == 30


def test_without_annotated_keypoints_scores_are_nan() -> None:
    answers, targets = batch()
    blank = {**targets, "visibility": np.zeros_like(targets["visibility"])}
    for scores in (scores_of(answers, blank), PoseMetrics(NAMES).result()):
        assert all(math.isnan(scores[name]) for name in ("pck", "oks_ap", "mean_error"))
        assert scores["figures"] == scores["keypoints"] == 0


def test_cocos_points_have_cocos_tolerances_in_any_order() -> None:
    from faster_coco_eval.core.cocoeval import Params

    np.testing.assert_allclose(sigmas_of(COCO_NAMES), Params("keypoints").kpt_oks_sigmas)
    backwards = COCO_NAMES[::-1]
    np.testing.assert_allclose(sigmas_of(backwards), Params("keypoints").kpt_oks_sigmas[::-1])
    assert sigmas_of(COCO_NAMES).mean() == pytest.approx(UNIFORM_SIGMA, abs=5e-4)
    assert sigmas_of(NAMES).tolist() == [UNIFORM_SIGMA] * 3
