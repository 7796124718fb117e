"""Guards attacks: they lower accuracy, and attacked images stay in the ball and in the range of
pixels, also in PNG files.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.prepare import Prepare
from cvpipe.data.prepare import normalize
from cvpipe.explain.attack import Norm, attack_loss, deep_fool, fgsm, make_ball, pgd
from cvpipe.explain.robustness import Model, Plan, Point, accuracies
from cvpipe.explain.rounding import to_bytes
from test_maps import SIZE, convolutional, linear

PREPARE = Prepare(size=(SIZE, SIZE), channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
TWO = PREPARE.model_copy(update={"channels": 2, "mean": (0.4, 0.5), "std": (0.2, 0.25)})
LABELS = tf.constant([0, 2, 1, 1])


def pixels(count: int = 4) -> tf.Tensor:
    random = np.random.default_rng(0)
    drawn = random.integers(0, 256, (count, SIZE, SIZE, 2))
    # Some pixels are at the ends of their range, which cuts the ball off.
    drawn[0, :3], drawn[1, :3] = 0, 255
    return tf.constant(drawn, tf.uint8)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("epsilon", [0.01, 8 / 255, 0.3])
def test_attacks_stay_in_the_ball_also_as_a_png_file(norm: Norm, epsilon: float) -> None:
    ball, original, loss = make_ball(epsilon, norm, TWO), pixels(), attack_loss(convolutional())
    images = normalize(original, TWO)
    seed = tf.constant([0, 3], tf.int64)
    for found in (
        fgsm(loss, images, LABELS, ball),
        pgd(loss, images, LABELS, ball, steps=5, seed=seed),
    ):
        rounded = to_bytes(found, images, TWO, ball)
        decoded = np.stack(
            [tf.io.decode_png(tf.io.encode_png(image)).numpy() for image in rounded]
        ).astype(int)
        change = (decoded - original.numpy().astype(int)) / 255
        size = (
            np.abs(change).max((1, 2, 3)) if norm == "linf" else np.sqrt((change**2).sum((1, 2, 3)))
        )
        assert (size <= epsilon + 1e-6).all()
        assert (tf.reduce_max(tf.abs(found - images)) > 0).numpy()


def test_one_step_moves_every_pixel_by_epsilon_along_the_sign_of_the_gradient() -> None:
    subject, ball = linear(), make_ball(0.05, "linf", TWO)
    images = normalize(tf.fill([1, SIZE, SIZE, 2], tf.constant(128, tf.uint8)), TWO)
    found = fgsm(lambda x, c: subject.score(x, c), images, tf.constant([1]), ball)
    kernel = subject.network.get_layer("logits").kernel.numpy().reshape(SIZE, SIZE, 2, 3)[..., 1]
    expected = images[0] + 0.05 * np.sign(kernel) / np.array([0.2, 0.25])
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)


def test_more_steps_raise_the_loss_further_and_the_seed_fixes_the_result() -> None:
    subject = convolutional()
    loss, images, ball = attack_loss(subject), normalize(pixels(), TWO), make_ball(0.1, "linf", TWO)
    before = loss(images, LABELS).numpy()
    once = loss(fgsm(loss, images, LABELS, ball), LABELS).numpy()
    often = loss(pgd(loss, images, LABELS, ball, steps=20), LABELS).numpy()
    assert (once > before).all() and (often > before).all() and often.mean() >= once.mean() - 1e-3
    drawn = [
        pgd(loss, images, LABELS, ball, steps=2, seed=tf.constant([0, n], tf.int64)).numpy()
        for n in (1, 1, 2)
    ]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()


def test_a_targeted_attack_raises_the_probability_of_the_target() -> None:
    subject = convolutional()
    images, ball = normalize(pixels(), TWO), make_ball(0.2, "linf", TWO)
    found = pgd(attack_loss(subject, targeted=True), images, LABELS, ball, steps=20)
    before, after = (tf.nn.softmax(subject.all_scores(x)) for x in (images, found))
    index = tf.stack([tf.range(4), LABELS], 1)
    assert (tf.gather_nd(after, index) > tf.gather_nd(before, index)).numpy().all()


def test_deep_fool_finds_the_nearest_boundary_of_a_linear_network() -> None:
    subject, ball = linear(), make_ball(1.0, "l2", TWO)
    images = normalize(tf.fill([1, SIZE, SIZE, 2], tf.constant(128, tf.uint8)), TWO)
    scores = subject.all_scores(images)[0].numpy()
    original = scores.argmax()
    kernel = subject.network.get_layer("logits").kernel.numpy() * np.tile([5, 4], SIZE**2)[:, None]
    distances = [
        (scores[original] - scores[other]) / np.linalg.norm(kernel[:, other] - kernel[:, original])
        for other in range(3)
        if other != original
    ]
    found = deep_fool(subject, images, ball)
    assert subject.all_scores(found)[0].numpy().argmax() != original
    length = tf.norm((found - images) / ball.scale).numpy()
    np.testing.assert_allclose(length, 1.02 * min(distances), rtol=0.02)


def test_accuracy_falls_with_the_strength_and_strength_0_is_no_attack() -> None:
    subject, original = convolutional(), pixels(8)
    images = normalize(original, TWO)
    labels = tf.argmax(subject.all_scores(images), axis=1, output_type=tf.int32)
    weight = np.float32([1] * 7 + [0])
    batches = [{"image": images, "targets": {"label": labels}, "weight": weight}]
    points = accuracies(
        [Model(subject, TWO)],
        batches,
        lambda targets: targets["label"],
        Plan("pgd", steps=10),
        [0.0, 0.5],
    )
    [[clean]], [[attacked]] = points
    assert clean.images == attacked.images == 7
    assert clean.accuracy == 1 and attacked.accuracy < 1


def test_the_confidence_interval_is_wilsons() -> None:
    # https://www.statsmodels.org: proportion_confint(45, 50, method="wilson")
    low, high = Point(0.1, 45, 50).interval
    np.testing.assert_allclose([low, high], [0.78640, 0.95652], atol=1e-4)
    assert Point(0.1, 0, 20).interval[0] == 0 and Point(0.1, 20, 20).interval[1] == 1
