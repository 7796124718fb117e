"""Guards the rounding of attacked images: they stay in the ball, and changes aren't erased."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.prepare import Prepare
from cvpipe.data.prepare import normalize
from cvpipe.explain.attack import make_ball
from cvpipe.explain.robustness import Method, Model, Plan, accuracies, make_attacks
from cvpipe.explain.rounding import to_bytes
from cvpipe.explain.score import Subject

SIDE = 32
VALUES = SIDE * SIDE * 3
PREPARE = Prepare(size=(SIDE, SIDE), mean=(0.5,), std=(0.25,))


def pixels(count: int) -> np.ndarray:
    """Return random images; some of their values are at the ends of the range."""
    drawn = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.float32)
    drawn[:, :4], drawn[:, 4:8] = 0, 255
    return drawn


@pytest.mark.parametrize("spread", ["normal", "few", "equal"])
@pytest.mark.parametrize("epsilon", [0.02, 0.1, 0.3, 3.0])
def test_a_change_in_l2_keeps_its_length_inside_the_ball(spread: str, epsilon: float) -> None:
    random, original = np.random.default_rng(1), pixels(3)
    change = random.choice([-1.0, 1.0], original.shape)
    change *= {
        "normal": np.abs(random.normal(size=change.shape)),
        "few": random.random(change.shape) ** 20,
        "equal": np.ones(change.shape),
    }[spread]
    change *= epsilon * 255 / np.sqrt((change**2).sum((1, 2, 3), keepdims=True))
    ball, attacked = make_ball(epsilon, "l2", PREPARE), np.clip(original + change, 0, 255)
    length = np.sqrt(((attacked - original) ** 2).sum((1, 2, 3)))
    rounded = to_bytes(
        *(normalize(tf.constant(x, tf.float32), PREPARE) for x in (attacked, original)),
        PREPARE,
        ball,
    )
    moved = rounded.numpy().astype(float) - original
    far = np.sqrt((moved**2).sum((1, 2, 3)))
    assert (far <= 255 * epsilon + 1e-6).all() and (far >= 0.9 * length - 1).all(), far / length
    assert (moved * (attacked - original) >= 0).all()


def test_a_change_in_linf_is_rounded_to_the_nearest_values_inside_the_ball() -> None:
    original = np.full((1, SIDE, SIDE, 3), 100, np.float32)
    original[0, 0, 0] = 0
    change = np.linspace(-2.7, 2.7, VALUES).reshape(original.shape)
    attacked = np.maximum(original + change, 0)
    prepared = (normalize(tf.constant(x, tf.float32), PREPARE) for x in (attacked, original))
    rounded = to_bytes(*prepared, PREPARE, make_ball(2.7 / 255, "linf", PREPARE))
    expected = np.clip(np.round(attacked - original), -2, 2)
    np.testing.assert_array_equal(rounded.numpy() - original, expected)


def plane() -> tuple[Subject, dict[str, Any]]:
    """Return a linear network whose weights have equal sizes, and two copies of an image of class 0
    at a distance of 0.1 from its boundary. On the shortest way over the boundary, each value
    changes by less than half a step.
    """
    slope = np.random.default_rng(0).choice([-1.0, 1.0], VALUES) / VALUES**0.5
    image = keras.Input((SIDE, SIDE, 3))
    network = keras.Model(image, {"logits": keras.layers.Dense(2)(keras.layers.Flatten()(image))})
    drawn = np.random.default_rng(1).integers(60, 196, (1, SIDE, SIDE, 3)).astype(np.float32)
    prepared = normalize(tf.tile(drawn, [2, 1, 1, 1]), PREPARE)
    # Prepared values change by 4 if a pixel in 0…1 changes by 1.
    bias = 4 * 0.1 - prepared[0].numpy().ravel() @ slope
    network.layers[-1].set_weights([np.stack([slope, -slope], 1), np.array([bias, -bias])])
    targets = {"label": tf.zeros([2], tf.int32)}
    batch = {"image": prepared, "targets": targets, "weight": np.ones(2)}
    return Subject(network, lambda outputs: outputs["logits"]), batch


@pytest.mark.parametrize("method", ["pgd", "deepfool", "carlini_wagner"])
def test_attacks_whose_change_is_below_half_a_step_of_each_value_succeed(method: Method) -> None:
    subject, batch = plane()
    points = accuracies(
        [Model(subject, PREPARE)],
        [batch],
        lambda targets: targets["label"],
        Plan(method, "l2"),
        [0.0, 0.05, 0.2],
    )
    assert [of_strength[0][0].accuracy for of_strength in points] == [1, 1, 0]


@pytest.mark.parametrize("method", ["deepfool", "carlini_wagner"])
def test_misclassified_images_stay_as_they_are(method: Method) -> None:
    subject, batch = plane()
    attack = make_attacks(Model(subject, PREPARE), Plan(method, "l2"), [1.0])
    [found] = tf.function(attack)(batch["image"], tf.constant([1, 0]))
    np.testing.assert_array_equal(found[0], batch["image"][0])
    assert subject.all_scores(found).numpy().argmax(1).tolist() == [0, 1]
