"""Guards classification losses, against NumPy, example by example."""

from __future__ import annotations

from math import exp, log

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter

from cvpipe.config.classification import ClassificationLoss, FocalLoss, SoftmaxLoss
from cvpipe.losses.classification import (
    binary_cross_entropy,
    classification_loss,
    expected_initial_loss,
    focal,
    hinge,
    initial_score,
    softmax_cross_entropy,
    squared_hinge,
)
from cvpipe.losses.kernels import l1_of_kernels, l2_of_kernels

KINDS = ["softmax", "hinge", "squared_hinge", "binary", "focal"]
RANDOM = np.random.default_rng(0)
LOGITS, LABELS = RANDOM.normal(size=(16, 5)) * 2, RANDOM.integers(0, 5, 16)


def section_of(kind: str, **keys: float) -> ClassificationLoss:
    return TypeAdapter(ClassificationLoss).validate_python({"kind": kind, **keys})


def brute_force(scores: list[float], label: int, section: ClassificationLoss) -> float:
    """Return the loss of scores example by its definition."""
    total = 0.0
    for j, score in enumerate(scores):
        right = 1 / (1 + exp(-score)) if j == label else 1 / (1 + exp(score))
        match section.kind:
            case "softmax":
                share = section.label_smoothing
                target = (j == label) * (1 - share) + share / len(scores)
                total -= target * log(exp(score) / sum(map(exp, scores)))
            case "hinge":
                total += max(0.0, score - scores[label] + 1) if j != label else 0.0
            case "squared_hinge":
                total += max(0.0, score - scores[label] + 1) ** 2 if j != label else 0.0
            case "binary":
                total -= log(right)
            case "focal":
                balance = section.focal_alpha if j == label else 1 - section.focal_alpha
                total -= balance * (1 - right) ** section.focal_gamma * log(right)
    return total


@pytest.mark.parametrize(
    "section",
    [
        *map(section_of, KINDS),
        SoftmaxLoss(kind="softmax", label_smoothing=0.1),
        SoftmaxLoss(kind="softmax", label_smoothing=0.9),
        FocalLoss(kind="focal", focal_gamma=0.5, focal_alpha=0.9),
        FocalLoss(kind="focal", focal_gamma=0.0),
    ],
    ids=repr,
)
def test_a_loss_equals_its_definition_and_so_does_its_gradient(section: ClassificationLoss) -> None:
    logits = tf.constant(LOGITS, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        found = classification_loss(logits, tf.constant(LABELS, tf.int32), section)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(
        found,
        [brute_force(list(scores), y, section) for scores, y in zip(LOGITS, LABELS)],
        rtol=1e-4,
    )
    gradient = tape.gradient(found, logits).numpy()
    for n, j in np.ndindex(*LOGITS.shape):
        above, below = (
            [*LOGITS[n][:j], LOGITS[n][j] + step, *LOGITS[n][j + 1 :]] for step in (1e-5, -1e-5)
        )
        numeric = (
            brute_force(above, LABELS[n], section) - brute_force(below, LABELS[n], section)
        ) / 2e-5
        assert gradient[n, j] == pytest.approx(numeric, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("classes", [2, 10])
def test_the_loss_of_equal_scores_is_that_of_the_lectures(classes: int) -> None:
    logits, labels = tf.zeros([3, classes]), tf.constant([0, 1, classes - 1])
    np.testing.assert_allclose(softmax_cross_entropy(logits, labels), log(classes), rtol=1e-6)
    np.testing.assert_allclose(hinge(logits, labels), classes - 1, rtol=1e-6)
    np.testing.assert_allclose(squared_hinge(logits, labels), classes - 1, rtol=1e-6)
    np.testing.assert_allclose(binary_cross_entropy(logits, labels), classes * log(2), rtol=1e-6)


def test_the_lectures_example_of_a_hinge_loss() -> None:
    # CS231n, Linear classification: with scores 13, −7 and 11, the first class right, and a margin
    # of 10, the loss is 0 + 8. Scores here are divided by the margin.
    np.testing.assert_allclose(
        hinge(tf.constant([[1.3, -0.7, 1.1]]), tf.constant([0])), 0.8, rtol=1e-5
    )


def test_focal_is_a_weighted_binary_cross_entropy_without_gamma() -> None:
    logits, labels = tf.constant(LOGITS, tf.float32), tf.constant(LABELS, tf.int32)
    np.testing.assert_allclose(
        2 * focal(logits, labels, gamma=0, alpha=0.5),
        binary_cross_entropy(logits, labels),
        rtol=1e-5,
    )


def test_focal_weighs_an_easy_example_by_the_papers_factors() -> None:
    # Section 3.2: with γ = 2, the focal loss is 100 times below cross-entropy at p_t = 0.9, and
    # 1000 times at p_t ≈ 0.968.
    for probability, factor in ((0.9, 100), (0.9684, 1000)):
        score = tf.constant([[log(probability / (1 - probability))]])
        ratio = binary_cross_entropy(score, tf.constant([0])) / focal(
            score, tf.constant([0]), gamma=2, alpha=1
        )
        np.testing.assert_allclose(ratio, factor, rtol=0.01)


@pytest.mark.parametrize(
    "kind, keys",
    [
        *((kind, {}) for kind in KINDS),
        ("focal", {"focal_gamma": 0}),
        ("focal", {"focal_gamma": 0.5}),
    ],
)
def test_huge_scores_stay_finite_with_their_gradients(kind: str, keys: dict[str, float]) -> None:
    logits = tf.constant(
        [[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [0.0, 0.0, 0.0], [100.0, -100.0, -100.0]]
    )
    with tf.GradientTape() as tape:
        tape.watch(logits)
        found = classification_loss(logits, tf.constant([0, 0, 2, 0]), section_of(kind, **keys))
    assert np.isfinite(found).all() and np.isfinite(tape.gradient(found, logits)).all()
    assert found[1] > 1e3
    np.testing.assert_allclose(found[3], 0, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize(
    "kind, keys",
    [*((kind, {}) for kind in KINDS), ("focal", {"focal_gamma": 1.5, "focal_alpha": 0.4})],
)
def test_the_expected_initial_loss_is_that_of_initial_scores(
    kind: str, keys: dict[str, float], classes: int
) -> None:
    section = section_of(kind, **keys)
    logits = tf.fill([1, classes], initial_score(section))
    found = classification_loss(logits, tf.constant([classes - 1]), section)
    assert expected_initial_loss(section, classes) == pytest.approx(float(found[0]), rel=1e-5)


def test_label_smoothing_doesnt_change_the_expected_initial_loss() -> None:
    smoothed = SoftmaxLoss(kind="softmax", label_smoothing=0.1)
    assert expected_initial_loss(smoothed, 10) == expected_initial_loss(
        SoftmaxLoss(kind="softmax"), 10
    )


def test_focal_starts_at_the_papers_prior() -> None:
    assert 1 / (1 + exp(-initial_score(section_of("focal")))) == pytest.approx(0.01)
    assert initial_score(section_of("binary")) == 0


def test_penalties_apply_only_to_kernels() -> None:
    layer, norm = keras.layers.Dense(3, bias_initializer="ones"), keras.layers.BatchNormalization()
    layer.build((None, 4))
    norm.build((None, 3))
    layer.kernel.assign(np.arange(12).reshape(4, 3) - 6)
    variables = [*layer.trainable_variables, *norm.trainable_variables]
    assert float(l1_of_kernels(variables)) == sum(abs(n - 6) for n in range(12))
    assert float(l2_of_kernels(variables)) == sum((n - 6) ** 2 for n in range(12))


def test_the_gradient_of_l1_is_the_sign() -> None:
    layer = keras.layers.Dense(3)
    layer.build((None, 1))
    layer.kernel.assign([[-2.0, 0.0, 0.5]])
    with tf.GradientTape() as tape:
        penalty = l1_of_kernels(layer.trainable_variables)
    np.testing.assert_array_equal(tape.gradient(penalty, layer.kernel.value), [[-1, 0, 1]])
