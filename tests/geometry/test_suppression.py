"""Guards suppression, against brute force: eager, in a graph and compiled by XLA."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.geometry.suppression import suppress

SLOTS = 6


def overlap(a: np.ndarray, b: np.ndarray) -> np.float32:
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared
    return shared / union if union > 0 else np.float32(0)


def by_hand(
    boxes: np.ndarray,
    scores: np.ndarray,
    kind: str,
    score_threshold: float,
    iou_threshold: float,
    most: int,
    candidates: int,
) -> list[tuple[float, int, list[float]]]:
    """Return the objects (score, class, box) of an image with boxes [N, K, 4] and scores [N, K], in
    plain Python.
    """
    pairs = [(n, k) for n in range(scores.shape[0]) for k in range(scores.shape[1])]
    if kind == "agnostic":
        pairs = [(n, int(scores[n].argmax())) for n in range(len(scores))]
    pairs = sorted(pairs, key=lambda pair: -scores[pair])[:candidates]
    left = {pair: scores[pair] for pair in pairs if scores[pair] > np.float32(score_threshold)}
    answer = []
    while left and len(answer) < most:
        best = max(left, key=lambda pair: (left[pair], -pairs.index(pair)))
        answer.append((float(left.pop(best)), best[1], boxes[best].tolist()))
        for pair in list(left):
            iou = overlap(boxes[best], boxes[pair])
            if iou > np.float32(iou_threshold) and (kind == "agnostic" or pair[1] == best[1]):
                score = left.pop(pair) * (np.float32(1) - iou)
                if kind == "soft" and score > np.float32(score_threshold):
                    left[pair] = score
    return answer


def padded(answers: list[list[tuple[float, int, list[float]]]]) -> dict[str, np.ndarray]:
    rows = [answer + [(0.0, -1, [0.0] * 4)] * (SLOTS - len(answer)) for answer in answers]
    return {
        "boxes": np.float32([[box for _, _, box in row] for row in rows]),
        "scores": np.float32([[score for score, _, _ in row] for row in rows]),
        "classes": np.int32([[label for _, label, _ in row] for row in rows]),
        "count": np.int32([len(answer) for answer in answers]),
    }


def random_boxes(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Return boxes with corners on a grid, so that areas are exact and many overlaps are equal."""
    low = random.integers(0, 6, (*shape, 2))
    return (np.concatenate([low, low + random.integers(1, 5, (*shape, 2))], -1) / 8).astype(
        np.float32
    )


def scene(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes [3, 20, 4] and scores [3, 20, 4]."""
    random = np.random.default_rng(7)
    boxes, scores = random_boxes(random, 3, 20), random.random((3, 20, 4), np.float32)
    match name:
        case "ties":
            scores = (random.integers(0, 4, scores.shape) / 4).astype(np.float32)
        case "one score":
            scores = np.full_like(scores, 0.5)
        case "empty":
            scores[1:] = 0
        case "all overlap":
            boxes[:] = [0.25, 0.25, 0.75, 1]
        case "no area":
            boxes[..., 2:] = boxes[..., :2]
    return boxes, scores


COMPILED = {
    jit: functools.cache(
        lambda kind, candidates, jit=jit: tf.function(
            lambda boxes, scores, score, iou, most: suppress(
                boxes,
                scores,
                kind=kind,
                score_threshold=score,
                iou_threshold=iou,
                max_detections=most,
                slots=SLOTS,
                candidates=candidates,
            ),
            jit_compile=jit,
            autograph=False,
        )
    )
    for jit in (False, True)
}
"""The function as a graph whose thresholds are inputs, without and with XLA: traced once for all
tests.
"""


def check(
    boxes: np.ndarray,
    scores: np.ndarray,
    kind: str,
    score: float,
    iou: float,
    most: int,
    candidates: int,
    jit: bool,
) -> None:
    given = COMPILED[jit](kind, candidates)(
        boxes, scores, tf.constant(score), tf.constant(iou), tf.constant(most)
    )
    boxes_of_classes = (
        boxes if boxes.ndim == 4 else np.repeat(boxes[:, :, np.newaxis], scores.shape[2], 2)
    )
    expected = padded(
        [
            by_hand(*image, kind, score, iou, most, candidates)
            for image in zip(boxes_of_classes, scores)
        ]
    )
    assert {name: value.dtype for name, value in given.items()} == {
        name: value.dtype for name, value in expected.items()
    }
    for name, value in expected.items():
        np.testing.assert_allclose(given[name], value, rtol=1e-6, atol=0, err_msg=name)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("kind", ["classwise", "agnostic", "soft"])
def test_suppression_equals_brute_force(kind: str, jit: bool) -> None:
    for name in ("random", "ties", "one score", "empty", "all overlap", "no area"):
        boxes, scores = scene(name)
        for score, iou, most in (
            (0.1, 0.45, SLOTS),
            (0.0, 0.0, 3),
            (0.7, 0.3, SLOTS),
            (0.2, 1.0, SLOTS),
            (1.0, 0.5, SLOTS),
        ):
            check(boxes, scores, kind, score, iou, most, 80, jit)


@pytest.mark.parametrize("kind", ["classwise", "agnostic", "soft"])
def test_candidates_have_the_highest_scores_of_all_boxes_and_classes(kind: str) -> None:
    for name in ("random", "ties", "one score"):
        check(*scene(name), kind, 0.0, 0.5, SLOTS, 9, False)


@pytest.mark.parametrize("kind", ["classwise", "soft"])
def test_classes_may_have_separate_boxes(kind: str) -> None:
    random = np.random.default_rng(1)
    check(
        random_boxes(random, 3, 20, 4),
        random.random((3, 20, 4), np.float32),
        kind,
        0.1,
        0.4,
        SLOTS,
        50,
        False,
    )


def test_agnostic_suppression_refuses_boxes_of_every_class() -> None:
    with pytest.raises(ValueError, match="boxes \\[B, N, 4\\] that all classes share"):
        suppress(
            tf.zeros([1, 2, 3, 4]),
            tf.zeros([1, 2, 3]),
            kind="agnostic",
            score_threshold=0.0,
            iou_threshold=0.5,
            max_detections=1,
        )


def test_suppression_of_a_batch_equals_that_of_its_images() -> None:
    boxes, scores = scene("random")
    run = COMPILED[False]("classwise", 80)
    limits = tf.constant(0.05), tf.constant(0.45), tf.constant(5)
    together = run(boxes, scores, *limits)
    for n in range(len(boxes)):
        alone = run(boxes[n : n + 1], scores[n : n + 1], *limits)
        for name, value in together.items():
            np.testing.assert_array_equal(value[n], alone[name][0])


def test_the_result_equals_that_of_tensorflows_suppression() -> None:
    random = np.random.default_rng(5)
    low = random.random((2, 200, 2), np.float32)
    boxes = np.concatenate([low, low + random.uniform(0.05, 0.4, (2, 200, 2))], -1).astype(
        np.float32
    )
    scores = random.random((2, 200, 3), np.float32)
    given = suppress(
        boxes,
        tf.constant(scores),
        score_threshold=0.3,
        iou_threshold=0.4,
        max_detections=50,
        slots=50,
        candidates=600,
    )
    theirs = tf.image.combined_non_max_suppression(
        boxes[:, :, np.newaxis], scores, 50, 50, 0.4, 0.3, clip_boxes=False
    )
    np.testing.assert_array_equal(given["count"], theirs.valid_detections)
    np.testing.assert_array_equal(given["boxes"], theirs.nmsed_boxes)
    np.testing.assert_array_equal(given["scores"], theirs.nmsed_scores)
    np.testing.assert_array_equal(given["classes"], theirs.nmsed_classes)


def test_suppression_runs_with_an_unknown_number_of_images() -> None:
    boxes, scores = scene("random")
    run = tf.function(
        lambda b, s: suppress(
            b,
            s,
            score_threshold=0.1,
            iou_threshold=0.5,
            max_detections=4,
            slots=SLOTS,
            candidates=30,
        ),
        input_signature=[tf.TensorSpec([None, 20, 4]), tf.TensorSpec([None, 20, 4])],
        autograph=False,
    )
    assert run(boxes[:0], scores[:0])["boxes"].shape == (0, SLOTS, 4)
    assert run(boxes[:2], scores[:2])["scores"].shape == (2, SLOTS)
