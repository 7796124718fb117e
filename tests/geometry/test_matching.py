"""Guards SSD's matching and mining, against brute force."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.geometry.boxes import to_corners
from cvpipe.geometry.default_boxes import default_boxes, layers_for, ssd300_layers
from cvpipe.geometry.matching import IN_CROWD, UNMATCHED, hard_negatives, match


def overlap(a: np.ndarray, b: np.ndarray) -> np.float32:
    """IoU of two boxes, in float32."""
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared
    return shared / union if union > 0 else np.float32(0)


def matched_by_hand(
    defaults: np.ndarray, boxes: np.ndarray, labels: np.ndarray, crowd: np.ndarray, threshold: float
) -> np.ndarray:
    """Match the boxes of one image pair by pair, as the authors' code does."""
    objects = [m for m in range(len(boxes)) if labels[m] >= 0 and not crowd[m]]
    ious = {(m, d): overlap(boxes[m], defaults[d]) for m in objects for d in range(len(defaults))}
    index = np.full(len(defaults), UNMATCHED)
    left = dict(ious)
    while left and max(left.values()) > 0:
        m, d = max(left, key=lambda pair: (left[pair], -pair[0], -pair[1]))
        index[d] = m
        left = {pair: value for pair, value in left.items() if pair[0] != m and pair[1] != d}
    for d in np.flatnonzero(index == UNMATCHED):
        best = max(objects, key=lambda m: (ious[m, d], -m), default=None)
        if best is not None and ious[best, d] >= threshold:
            index[d] = best
            continue
        for m in np.flatnonzero((labels >= 0) & crowd):
            shared = np.prod(
                np.maximum(
                    np.minimum(boxes[m, 2:], defaults[d, 2:])
                    - np.maximum(boxes[m, :2], defaults[d, :2]),
                    0,
                )
            )
            if shared > 0 and shared >= threshold * np.prod(defaults[d, 2:] - defaults[d, :2]):
                index[d] = IN_CROWD
    return index


def on_grid(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Return boxes whose corners are multiples of 1/8, so that areas are exact and many IoUs are
    equal bit for bit.
    """
    low = random.integers(0, 7, (*shape, 2))
    return (np.concatenate([low, low + random.integers(1, 5, (*shape, 2))], -1) / 8).astype(
        np.float32
    )


def scenes(
    seed: int, images: int = 5, slots: int = 6, defaults: int = 40
) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    boxes = on_grid(random, images, slots)
    labels = random.integers(-1, 3, (images, slots)).astype(np.int32)
    crowd = random.random((images, slots)) < 0.2
    boxes[labels < 0] = 0
    labels[0] = -1
    return on_grid(random, defaults), boxes, labels, crowd


@pytest.mark.parametrize(
    "compiled",
    [
        match,
        tf.function(match, autograph=False),
        tf.function(match, jit_compile=True, autograph=False),
    ],
    ids=["eager", "graph", "xla"],
)
def test_matching_equals_brute_force_with_many_ties_and_crowds(
    compiled: Callable[..., tf.Tensor],
) -> None:
    for seed in range(4):
        defaults, boxes, labels, crowd = scenes(seed)
        given = compiled(defaults, boxes, labels, crowd, 0.5)
        expected = [matched_by_hand(defaults, *image, 0.5) for image in zip(boxes, labels, crowd)]
        np.testing.assert_array_equal(given, expected)


def test_objects_that_all_overlap_the_same_box_most_get_different_boxes() -> None:
    random = np.random.default_rng(0)
    defaults = on_grid(random, 12)
    boxes = np.broadcast_to(np.float32([0.1, 0.1, 0.9, 0.9]), (2, 8, 4))
    labels, crowd = np.zeros((2, 8), np.int32), np.zeros((2, 8), bool)
    given = match(defaults, boxes, labels, crowd).numpy()
    np.testing.assert_array_equal(
        given[0], matched_by_hand(defaults, boxes[0], labels[0], crowd[0], 0.5)
    )
    assert set(given[0]) >= set(range(8))


def test_some_objects_get_no_box_if_there_are_too_few_default_boxes() -> None:
    defaults = np.float32([[0, 0, 0.5, 0.5], [0, 0, 1, 1]])
    boxes = np.float32([[[0, 0, 0.5, 0.5], [0, 0, 1, 1], [0, 0, 0.75, 0.75]]])
    given = match(defaults, boxes, np.zeros((1, 3), np.int32), np.zeros((1, 3), bool))
    assert given.numpy().tolist() == [[0, 1]]


def test_every_object_in_an_image_has_a_box_of_ssd300() -> None:
    random = np.random.default_rng(3)
    low = random.uniform(0, 0.95, (4, 30, 2))
    boxes = np.concatenate(
        [low, np.minimum(low + random.uniform(0.02, 0.9, (4, 30, 2)), 1)], -1
    ).astype(np.float32)
    defaults = to_corners(default_boxes(ssd300_layers()))
    given = match(defaults, boxes, np.zeros((4, 30), np.int32), np.zeros((4, 30), bool)).numpy()
    assert given.shape == (4, 8732) and given.dtype == np.int32
    assert all(set(image) >= set(range(30)) for image in given)


def test_without_objects_of_an_area_all_boxes_are_background() -> None:
    defaults = to_corners(default_boxes(layers_for([(4, 4)], 0.3, 0.6)))
    boxes, crowd = np.zeros((2, 3, 4), np.float32), np.zeros((2, 3), bool)
    labels = np.int32([[-1, -1, -1], [0, 1, -1]])
    assert (match(defaults, boxes, labels, crowd).numpy() == UNMATCHED).all()


def test_a_crowd_region_is_never_positive_and_an_object_inside_it_is() -> None:
    defaults = np.float32([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0.25, 0.25, 1, 0.75]])
    boxes = np.float32([[[0, 0, 0.5, 1], [0, 0, 0.5, 0.5]]])
    given = match(defaults, boxes, np.zeros((1, 2), np.int32), np.array([[True, False]]))
    assert given.numpy().tolist() == [[1, UNMATCHED, UNMATCHED]]
    alone = match(defaults, boxes[:, :1], np.zeros((1, 1), np.int32), np.array([[True]]))
    assert alone.numpy().tolist() == [[IN_CROWD, UNMATCHED, UNMATCHED]]


def test_matching_runs_with_op_determinism() -> None:
    defaults, boxes, labels, crowd = scenes(0)
    before = match(defaults, boxes, labels, crowd)
    tf.config.experimental.enable_op_determinism()
    np.testing.assert_array_equal(
        tf.function(match, autograph=False)(defaults, boxes, labels, crowd), before
    )


def mined_by_hand(
    loss: np.ndarray, positive: np.ndarray, eligible: np.ndarray, ratio: float, minimum: int
) -> np.ndarray:
    chosen = np.zeros(loss.shape, bool)
    for image in range(len(loss)):
        order = sorted(np.flatnonzero(eligible[image]), key=lambda d: (-loss[image, d], d))
        chosen[image, order[: max(int(ratio * positive[image].sum()), minimum)]] = True
    return chosen


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("minimum", [0, 4])
def test_mining_equals_brute_force_with_ties(minimum: int, jit_compile: bool) -> None:
    random = np.random.default_rng(minimum)
    loss = random.integers(0, 6, (6, 50)).astype(np.float32)
    positive = random.random((6, 50)) < np.array([0, 0.02, 0.1, 0.3, 0.6, 1])[:, np.newaxis]
    eligible = ~positive & (random.random((6, 50)) < 0.8)
    mine = tf.function(hard_negatives, jit_compile=jit_compile)
    np.testing.assert_array_equal(
        mine(loss, positive, eligible, 3.0, minimum),
        mined_by_hand(loss, positive, eligible, 3, minimum),
    )


def test_an_image_without_objects_gives_no_negatives_unless_a_minimum_is_set() -> None:
    loss, positive = np.float32([[3, 1, 2]]), np.zeros((1, 3), bool)
    assert not hard_negatives(loss, positive, ~positive).numpy().any()
    assert hard_negatives(loss, positive, ~positive, minimum=2).numpy().tolist() == [
        [True, False, True]
    ]
