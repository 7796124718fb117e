"""Guards distillation losses: they equal their definitions, and their gradient is 0 if the outputs
of student and teacher are equal.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.losses.imitation import mean_squares, soft_cross_entropy


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def random_pair(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=shape).astype(np.float32), random.normal(size=shape).astype(
        np.float32
    )


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_cross_entropy_is_its_definition(temperature: float) -> None:
    logits, teacher = random_pair(5, 7)
    target, probabilities = softmax(teacher / temperature), softmax(logits / temperature)
    np.testing.assert_allclose(
        soft_cross_entropy(tf.constant(logits), tf.constant(teacher), temperature),
        temperature**2 * -(target * np.log(probabilities)).sum(-1),
        rtol=1e-5,
    )


def test_pixels_are_averaged() -> None:
    logits, teacher = random_pair(2, 3, 4, 5)
    each = soft_cross_entropy(
        tf.reshape(logits, [-1, 5]), tf.reshape(teacher, [-1, 5]), temperature=2.0
    )
    np.testing.assert_allclose(
        soft_cross_entropy(tf.constant(logits), tf.constant(teacher), 2.0),
        np.reshape(each, [2, -1]).mean(1),
        rtol=1e-5,
    )


def test_classes_that_dont_exclude_each_other_have_a_sigmoid_each() -> None:
    logits, teacher = random_pair(4, 3)
    target, probabilities = 1 / (1 + np.exp(-teacher / 2)), 1 / (1 + np.exp(-logits / 2))
    expected = -(target * np.log(probabilities) + (1 - target) * np.log(1 - probabilities)).sum(-1)
    np.testing.assert_allclose(
        soft_cross_entropy(tf.constant(logits), tf.constant(teacher), 2.0, exclusive=False),
        4 * expected,
        rtol=1e-5,
    )


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_gradient_vanishes_if_student_and_teacher_agree(exclusive: bool) -> None:
    logits = tf.Variable(random_pair(4, 3)[0])
    with tf.GradientTape() as tape:
        loss = soft_cross_entropy(logits, tf.identity(logits), 3.0, exclusive)
    np.testing.assert_allclose(tape.gradient(loss, logits), np.zeros([4, 3]), atol=1e-6)


def test_mean_squares_add_up_all_outputs() -> None:
    (boxes, true), (logits, others) = random_pair(2, 6, 4), random_pair(2, 3)
    found = mean_squares(
        {"boxes": tf.constant(boxes), "logits": tf.constant(logits)},
        {"boxes": tf.constant(true), "logits": tf.constant(others)},
        1.0,
    )
    expected = ((boxes - true) ** 2).mean((1, 2)) + ((logits - others) ** 2).mean(1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
