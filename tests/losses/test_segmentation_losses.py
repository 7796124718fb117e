"""Guards mask losses, against NumPy, pixel by pixel."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter

from cvpipe.config.segmentation import SegmentationLoss
from cvpipe.errors import ConfigError
from cvpipe.geometry.masks import IGNORED
from cvpipe.losses.segmentation import expected_initial_loss, part_names, segmentation_loss

CLASSES, SHAPE = 4, (3, 5, 6)
RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(*SHAPE, CLASSES)) * 2
MASK = RANDOM.integers(0, CLASSES, SHAPE).astype(np.uint8)
# The first image has every class, the second one class and ignored pixels, the third two classes.
MASK[1] = np.where(RANDOM.random(SHAPE[1:]) < 0.5, 2, IGNORED)
MASK[2] = np.where(MASK[2] == 0, IGNORED, MASK[2] // 2)
WEIGHTS = (1.0, 0.25, 3.0, 2.0)
SECTIONS: list[dict[str, Any]] = [
    {},
    {"class_weights": WEIGHTS},
    {"label_smoothing": 0.2},
    {"hard_pixels": 0.3},
    {"class_weights": WEIGHTS, "hard_pixels": 0.3},
    {"kind": "focal"},
    {"kind": "focal", "focal_gamma": 0.5, "class_weights": WEIGHTS},
    {"kind": "focal", "focal_gamma": 0},
    {"kind": "dice"},
    {"dice_weight": 0.5},
    {"kind": "focal", "dice_weight": 2, "class_weights": WEIGHTS, "hard_pixels": 0.5},
]
sections = pytest.mark.parametrize(
    "keys", SECTIONS, ids=lambda keys: "-".join(map(str, keys.values())) or "softmax"
)


def section_of(**keys: Any) -> SegmentationLoss:
    return TypeAdapter(SegmentationLoss).validate_python({"kind": "softmax", **keys})


def brute_force(
    logits: np.ndarray, mask: np.ndarray, section: SegmentationLoss
) -> dict[str, float]:
    """Return the loss of one image by its definition."""
    pixels = [place for place in np.ndindex(*mask.shape) if mask[place] != IGNORED]
    probabilities = {place: np.exp(logits[place]) / np.exp(logits[place]).sum() for place in pixels}
    parts = {}
    if section.kind != "dice":
        costs = []
        for place in pixels:
            p, label = probabilities[place], int(mask[place])
            smoothing = getattr(section, "label_smoothing", 0.0)
            target = smoothing / CLASSES + (1 - smoothing) * (np.arange(CLASSES) == label)
            cost = -(target * np.log(p)).sum() * (
                (1 - p[label]) ** section.focal_gamma if section.kind == "focal" else 1
            )
            costs.append((cost, section.class_weights[label] if section.class_weights else 1.0))
        costs.sort(key=lambda pair: -pair[0] * pair[1])
        hardest = costs[: max(int(section.hard_pixels * len(costs)), 1)]
        parts[part_names(section)[0]] = sum(cost * weight for cost, weight in hardest) / sum(
            weight for _, weight in hardest
        )
    if section.kind == "dice" or section.dice_weight:
        overlaps = []
        for shown in {int(mask[place]) for place in pixels}:
            of_class, truth = np.array(
                [[probabilities[place][shown], mask[place] == shown] for place in pixels]
            ).T
            overlaps.append(2 * (of_class * truth).sum() / ((of_class**2).sum() + (truth**2).sum()))
        parts["dice"] = (section.dice_weight if section.kind != "dice" else 1) * float(
            np.mean([1 - overlap for overlap in overlaps])
        )
    return parts


def losses_and_gradient(
    logits: np.ndarray, mask: np.ndarray, section: SegmentationLoss
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    watched = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(watched)
        parts = segmentation_loss(watched, tf.constant(mask), section)
        total = tf.add_n([tf.reduce_sum(part) for part in parts.values()])
    return {name: part.numpy() for name, part in parts.items()}, tape.gradient(
        total, watched
    ).numpy()


@sections
def test_a_loss_equals_its_definition(keys: dict[str, Any]) -> None:
    section = section_of(**keys)
    parts, _ = losses_and_gradient(LOGITS.astype(np.float32), MASK, section)
    assert tuple(parts) == part_names(section)
    expected = [brute_force(logits, mask, section) for logits, mask in zip(LOGITS, MASK)]
    for name, values in parts.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, [losses[name] for losses in expected], rtol=1e-4)


@sections
def test_a_gradient_is_the_slope_of_the_loss_and_0_where_pixels_are_ignored(
    keys: dict[str, Any],
) -> None:
    section = section_of(**keys)
    _, gradient = losses_and_gradient(LOGITS, MASK, section)
    assert gradient.dtype == np.float64 and not gradient[MASK == IGNORED].any()
    for place in [(0, 1, 2, 0), (0, 3, 3, 3), (1, 0, 0, 2), (2, 4, 5, 1), (2, 2, 2, 2)]:
        step = np.zeros_like(LOGITS)
        step[place] = 1e-5
        above, below = (
            sum(brute_force(logits[place[0]], MASK[place[0]], section).values())
            for logits in (LOGITS + step, LOGITS - step)
        )
        assert gradient[place] == pytest.approx((above - below) / 2e-5, rel=1e-4, abs=1e-8)


@sections
def test_an_image_of_ignored_pixels_has_no_loss_and_no_gradient(keys: dict[str, Any]) -> None:
    mask = MASK.copy()
    mask[1] = IGNORED
    parts, gradient = losses_and_gradient(LOGITS.astype(np.float32), mask, section_of(**keys))
    for values in parts.values():
        assert values[1] == 0 and (values[[0, 2]] > 0).all()
    assert not gradient[1].any() and np.isfinite(gradient).all()


@sections
def test_predictions_for_ignored_pixels_dont_matter(keys: dict[str, Any]) -> None:
    other = np.where(
        (MASK == IGNORED)[..., np.newaxis], 50 * RANDOM.normal(size=LOGITS.shape), LOGITS
    )
    for name, values in losses_and_gradient(other, MASK, section_of(**keys))[0].items():
        np.testing.assert_allclose(
            values, losses_and_gradient(LOGITS, MASK, section_of(**keys))[0][name], rtol=1e-12
        )


@sections
def test_huge_scores_stay_finite_with_their_gradients(keys: dict[str, Any]) -> None:
    for factor in (1e4, -1e4):
        logits = factor * (np.arange(CLASSES) == MASK[..., np.newaxis])
        parts, gradient = losses_and_gradient(logits.astype(np.float32), MASK, section_of(**keys))
        assert np.isfinite(gradient).all() and all(
            np.isfinite(values).all() for values in parts.values()
        )
        if not keys.get("label_smoothing"):
            assert all(
                (values < 1e-5).all() if factor > 0 else (values > 0.4).all()
                for values in parts.values()
            )


@sections
def test_a_network_that_diverged_has_a_loss_of_nan(keys: dict[str, Any]) -> None:
    logits = LOGITS.astype(np.float32)
    logits[0] = np.nan
    for values in segmentation_loss(
        tf.constant(logits), tf.constant(MASK), section_of(**keys)
    ).values():
        np.testing.assert_array_equal(np.isnan(values), [True, False, False])


@sections
def test_the_loss_is_the_same_in_graphs_with_determinism_and_with_xla(keys: dict[str, Any]) -> None:
    tf.config.experimental.enable_op_determinism()
    section, logits, mask = section_of(**keys), tf.constant(LOGITS, tf.float32), tf.constant(MASK)

    def step(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            total = tf.add_n(list(segmentation_loss(logits, mask, section).values()))
        return total, tape.gradient(total, logits)

    eager = step(logits)
    for compiled in (False, True):
        for value, expected in zip(
            tf.function(step, jit_compile=compiled, autograph=False)(logits), eager
        ):
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


def test_the_number_of_images_and_their_size_may_be_unknown() -> None:
    unknown = [
        tf.TensorSpec([None, None, None, CLASSES]),
        tf.TensorSpec([None, None, None], tf.uint8),
    ]
    section = section_of(hard_pixels=0.5, dice_weight=1)
    inside = tf.function(
        lambda logits, mask: segmentation_loss(logits, mask, section),
        input_signature=unknown,
        autograph=False,
    )
    expected = segmentation_loss(tf.constant(LOGITS, tf.float32), tf.constant(MASK), section)
    for name, values in inside(LOGITS.astype(np.float32), MASK).items():
        assert values.shape.rank == 1
        np.testing.assert_allclose(values, expected[name], rtol=1e-6)


def test_among_pixels_of_equal_loss_no_more_than_the_share_is_learned() -> None:
    mask = np.zeros((1, 4, 5), np.uint8)
    _, gradient = losses_and_gradient(
        np.zeros((1, 4, 5, CLASSES)), mask, section_of(hard_pixels=0.25)
    )
    assert np.count_nonzero(gradient[..., 0]) == 5


def test_a_right_mask_has_no_dice_loss_and_a_wrong_mask_the_largest() -> None:
    mask = np.array([[[0, 1], [2, IGNORED]]], np.uint8)
    for shift, expected in ((0, 0), (1, 1)):
        logits = 100.0 * (np.arange(CLASSES) == (mask[..., np.newaxis] + shift) % CLASSES)
        np.testing.assert_allclose(
            losses_and_gradient(logits, mask, section_of(kind="dice"))[0]["dice"],
            expected,
            atol=1e-6,
        )


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"label_smoothing": 0.1},
        {"hard_pixels": 0.5},
        {"class_weights": WEIGHTS},
        {"kind": "focal", "focal_gamma": 1.5},
    ],
    ids=str,
)
def test_the_expected_initial_loss_is_that_of_equal_scores(keys: dict[str, Any]) -> None:
    section = section_of(**keys)
    [values] = losses_and_gradient(np.full((*SHAPE, CLASSES), 0.7), MASK, section)[0].values()
    assert values.tolist() == pytest.approx([expected_initial_loss(section, CLASSES)] * 3)


def test_the_initial_loss_of_dice_is_unknown() -> None:
    assert (
        expected_initial_loss(section_of(kind="dice"), 4)
        is expected_initial_loss(section_of(dice_weight=0.1), 4)
        is None
    )
    assert expected_initial_loss(section_of(), 21) == log(21)


def test_class_weights_of_another_number_of_classes_are_an_error() -> None:
    with pytest.raises(
        ConfigError,
        match="loss.class_weights: 2 numbers for 4 classes; give one per class, or omit the key",
    ):
        segmentation_loss(tf.constant(LOGITS), tf.constant(MASK), section_of(class_weights=(1, 2)))
