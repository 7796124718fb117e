"""Guards attacks and certificates, against closed forms on linear networks, and their limits."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from cvpipe.data.prepare import normalize
from cvpipe.explain.attack import attack_loss, deep_fool, make_ball
from cvpipe.explain.carlini_wagner import carlini_wagner
from cvpipe.explain.one_pixel import few_pixels
from cvpipe.explain.robustness import METHODS, Method, Model, Plan, accuracies, make_attacks
from cvpipe.explain.score import Subject
from cvpipe.explain.smoothing import ABSTAIN, certify, class_counts
from cvpipe.explain.universal import learn_patch, learn_perturbation, put_patch
from test_attack import LABELS, TWO, pixels
from test_maps import SIZE, convolutional, linear

SEED = tf.constant([0, 5], tf.int64)
GRAY = normalize(tf.fill([2, SIZE, SIZE, 2], tf.constant(128, tf.uint8)), TWO)


def kernel_of(subject: Subject) -> np.ndarray:
    """Return the slopes of scores by pixel values / 255, [H, W, C, K]."""
    kernel = subject.network.get_layer("logits").kernel.numpy().reshape(SIZE, SIZE, 2, 3)
    return kernel / np.array([0.2, 0.25])[:, np.newaxis]


def nearest(subject: Subject, images: tf.Tensor) -> np.ndarray:
    """Return the distances of images to the nearest other class of a linear network, [B]."""
    kernel, found = kernel_of(subject).reshape(-1, 3), []
    for scores in subject.all_scores(images).numpy():
        predicted = scores.argmax()
        found.append(
            min(
                (scores[predicted] - scores[other])
                / np.linalg.norm(kernel[:, other] - kernel[:, predicted])
                for other in range(3)
                if other != predicted
            )
        )
    return np.array(found)


def distance(found: tf.Tensor, images: tf.Tensor) -> np.ndarray:
    change = (found - images).numpy() * [0.2, 0.25]
    return np.sqrt((change**2).sum((1, 2, 3)))


def test_carlini_and_wagner_find_the_nearest_boundary_of_a_linear_network() -> None:
    subject, ball = linear(), make_ball(1.0, "l2", TWO)
    images = GRAY + tf.random.stateless_normal(GRAY.shape, SEED, stddev=0.1)
    classes = tf.argmax(subject.all_scores(images), axis=1, output_type=tf.int32)
    found = tf.function(lambda *pair: carlini_wagner(subject, *pair, ball, steps=200))(
        images, classes
    )
    assert (
        (tf.argmax(subject.all_scores(found), axis=1, output_type=tf.int32) != classes)
        .numpy()
        .all()
    )
    np.testing.assert_allclose(distance(found, images), nearest(subject, images), rtol=0.05)


def test_carlini_and_wagner_reach_a_target_or_change_nothing() -> None:
    subject, ball = convolutional(), make_ball(1.0, "l2", TWO)
    images = normalize(pixels(), TWO)
    classes = tf.constant(
        [(label + 1) % 3 for label in subject.all_scores(images).numpy().argmax(1)]
    )
    attack = tf.function(lambda *pair: carlini_wagner(subject, *pair, ball, targeted=True))
    found = attack(images, classes)
    reached = subject.all_scores(found).numpy().argmax(1) == classes.numpy()
    assert reached.any()
    np.testing.assert_array_equal(found[~reached], images[~reached])
    assert (found >= ball.low - 1e-5).numpy().all() and (found <= ball.high + 1e-5).numpy().all()


def test_few_pixels_finds_almost_the_best_pixel_of_a_linear_network() -> None:
    subject, ball = linear(), make_ball(1, "linf", TWO)
    images = normalize(pixels(2), TWO)
    found = few_pixels(subject.score, images, LABELS[:2], ball, pixels=1, seed=SEED)
    kernel = kernel_of(subject)
    before = (images * [0.2, 0.25] + [0.4, 0.5]).numpy()
    for n, label in enumerate(LABELS[:2].numpy()):
        slope = kernel[..., label]
        gains = np.maximum(slope * (1 - before[n]), slope * -before[n]).sum(-1)
        gain = (subject.score(found, LABELS[:2]) - subject.score(images, LABELS[:2]))[n].numpy()
        assert 0.85 * gains.max() < gain < gains.max() + 1e-4
        assert (tf.reduce_any(found[n] != images[n], axis=-1)).numpy().sum() == 1
    alone = few_pixels(subject.score, images[1:], LABELS[1:2], ball, pixels=1, seed=SEED)
    np.testing.assert_array_equal(alone[0], found[1])


def test_an_attack_on_three_pixels_changes_at_most_three_and_beats_one() -> None:
    subject, ball = convolutional(), make_ball(1, "linf", TWO)
    loss, images = attack_loss(subject), normalize(pixels(2), TWO)
    found = [
        tf.function(partial(few_pixels, loss, ball=ball, pixels=n, seed=SEED))(images, LABELS[:2])
        for n in (1, 3)
    ]
    changed = tf.reduce_sum(tf.cast(tf.reduce_any(found[1] != images, -1), tf.int32), [1, 2])
    assert (changed <= 3).numpy().all()
    one, three = (tf.reduce_mean(loss(attacked, LABELS[:2])).numpy() for attacked in found)
    assert three > one > tf.reduce_mean(loss(images, LABELS[:2])).numpy()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_universal_change_of_a_linear_score_is_along_its_weights(norm: Any) -> None:
    subject, ball = linear(), make_ball(0.05, norm, TWO)
    batches = [(GRAY, tf.constant([1, 1]))] * 4
    change = learn_perturbation(subject.score, batches, ball, (SIZE, SIZE, 2))
    slope = kernel_of(subject)[..., 1]
    expected = np.sign(slope) if norm == "linf" else slope / np.linalg.norm(slope)
    np.testing.assert_allclose(change[0] * [0.2, 0.25], 0.05 * expected, atol=1e-6)


def test_a_patch_covers_a_square_anywhere_and_nothing_else() -> None:
    images = tf.random.stateless_normal([200, SIZE, SIZE, 2], SEED)
    patch = 10 + tf.random.stateless_normal([4, 4, 2], SEED)
    found, places = put_patch(images, patch, SEED).numpy(), set()
    for attacked, image in zip(found, images.numpy(), strict=True):
        covered = (attacked != image).any(-1)
        top, left = np.argwhere(covered).min(0)
        assert covered.sum() == 16
        np.testing.assert_array_equal(attacked[top : top + 4, left : left + 4], patch)
        places.add((top, left))
    assert {place[0] for place in places} == set(range(SIZE - 3)) == {p[1] for p in places}


def test_a_patch_learns() -> None:
    subject, ball = convolutional(), make_ball(0.3, "linf", TWO)
    loss, images = attack_loss(subject), normalize(pixels(), TWO)
    patch = learn_patch(loss, [(images, LABELS)], ball, 5, 2, seed=SEED, passes=20)
    gray = tf.ones_like(patch) * (ball.low + ball.high) / 2
    learned, plain = (
        np.mean(
            [
                loss(put_patch(images, square, tf.constant([9, n], tf.int64)), LABELS)
                for n in range(5)
            ]
        )
        for square in (patch, gray)
    )
    assert learned > plain
    assert (patch >= ball.low).numpy().all() and (patch <= ball.high).numpy().all()


def model(subject: Subject) -> Model:
    return Model(subject, TWO.model_copy(update={"size": (SIZE, SIZE)}))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", [None, 1])
def test_no_method_exceeds_its_limits_and_strength_0_is_no_attack(
    method: Method, target: int | None
) -> None:
    images, ball = normalize(pixels(), TWO), make_ball(0.1, "linf", TWO)
    norm: Any = "l2" if method in ("deepfool", "carlini_wagner") else "linf"
    epsilon = {"pixels": 2, "patch": 0.3}.get(method, 0.1)
    attack = make_attacks(
        model(convolutional()), Plan(method, norm, 3, target), [0, epsilon], [(images, LABELS)]
    )
    none, found = tf.function(attack)(images, LABELS)
    np.testing.assert_array_equal(none, images)
    change = (found - images).numpy() * [0.2, 0.25]
    limits = {
        "pixels": ((change != 0).any(-1).sum((1, 2)), 2),
        "patch": ((change != 0).any(-1).sum((1, 2)), 16),
        "l2": (np.sqrt((change**2).sum((1, 2, 3))), 0.1),
        "linf": (np.abs(change).max((1, 2, 3)), 0.1),
    }
    size, most = limits.get(method, limits[norm])
    assert (size <= most + 1e-5).all()
    assert (found >= ball.low - 1e-5).numpy().all() and (found <= ball.high + 1e-5).numpy().all()


def test_iterated_steps_end_where_one_step_does_on_a_linear_network() -> None:
    images, labels = GRAY, tf.constant([0, 2])
    subject = linear()
    one, often = (
        make_attacks(model(subject), Plan(method, steps=4, target=1), [0.02])(images, labels)[0]
        for method in ("fgsm", "bim")
    )
    # In a linear network, the signs of a targeted attack change only where a slope is nearly 0.
    assert np.mean(np.isclose(one, often, atol=1e-5)) > 0.9


def batches_of(subject: Subject, count: int = 12) -> list[dict[str, Any]]:
    images = normalize(pixels(count), TWO)
    labels = tf.argmax(subject.all_scores(images), axis=1, output_type=tf.int32)
    weight = np.ones(count, np.float32)
    return [{"image": images, "targets": {"label": labels}, "weight": weight}]


def test_deep_fool_succeeds_where_the_nearest_image_is_in_the_ball() -> None:
    subject = convolutional()
    [batch] = batches_of(subject)
    found = deep_fool(subject, batch["image"], make_ball(1.0, "l2", TWO))
    far = distance(found, batch["image"])
    # Rounding to 8 bits changes each value by at most 1 / 255.
    epsilons = [0.0, 0.9 * far.min(), float(np.median(far)), far.max() + SIZE * 2**0.5 / 255]
    points = accuracies(
        [model(subject)],
        [batch],
        lambda targets: targets["label"],
        Plan("deepfool", "l2"),
        epsilons,
    )
    right = [of_strength[0][0].right for of_strength in points]
    assert right[:2] == [12, 12] and 12 > right[2] > right[3] and right[3] <= 1, right


def test_transferred_attacks_hit_less_and_hits_are_of_other_classes() -> None:
    subjects = [convolutional(seed) for seed in (0, 3)]
    [batch] = batches_of(subjects[0])
    plan = Plan("pgd", steps=10, target=2)
    models = [model(subject) for subject in subjects]
    [[[attacked, other], _]] = accuracies(
        models, [batch], lambda targets: targets["label"], plan, [0.2]
    )
    [[[alone]]] = accuracies(models[:1], [batch], lambda targets: targets["label"], plan, [0.2])
    assert attacked == alone
    assert attacked.others == int((batch["targets"]["label"] != 2).numpy().sum()) > 0
    assert attacked.hits > other.hits or attacked.hits == attacked.others


def halfspace() -> Subject:
    """Return a linear network of two classes whose boundary passes through gray."""
    image = keras.Input([SIZE, SIZE, 2])
    score = keras.layers.Dense(2, name="logits")(keras.layers.Flatten()(image))
    network = keras.Model(image, {"logits": score})
    kernel = np.random.default_rng(0).normal(size=(SIZE * SIZE * 2, 2))
    network.get_layer("logits").set_weights([kernel, np.zeros(2)])
    return Subject(network, lambda outputs: outputs["logits"])


def test_certified_radii_are_below_the_distance_to_a_plane_and_near_it() -> None:
    subject, noise, samples = halfspace(), 0.3, 1000
    kernel = subject.network.get_layer("logits").kernel.numpy().reshape(SIZE, SIZE, 2, 2)
    slope = kernel[..., 1] - kernel[..., 0]
    direction = slope / np.array([0.2, 0.25])
    unit = direction / np.linalg.norm(direction)
    distances = np.array([0.0, 0.1, 0.3, 5.0])
    images = distances[:, np.newaxis, np.newaxis, np.newaxis] * unit / np.array([0.2, 0.25])
    scale = make_ball(noise, "l2", TWO).scale
    count = class_counts(subject, noise, scale, seed=0)
    found = certify(count, tf.constant(images, tf.float32), noise, samples=samples)
    assert found.classes.tolist() == [ABSTAIN, 1, 1, 1] and found.radii[0] == 0
    assert (found.radii[1:] <= distances[1:]).all()
    # With so many samples, the bound is about z standard deviations below the probability.
    share = stats.norm.cdf(distances[1:3] / noise)
    lowest = share - 2 * stats.norm.ppf(0.999) * np.sqrt(share * (1 - share) / samples)
    assert (found.radii[1:3] >= noise * stats.norm.ppf(lowest)).all()
    np.testing.assert_allclose(found.radii[3], noise * stats.norm.ppf(0.001 ** (1 / samples)))


def test_an_images_counts_dont_depend_on_the_other_images() -> None:
    subject = convolutional()
    images = normalize(pixels(3), TWO)
    count = class_counts(subject, 0.2, make_ball(0.2, "l2", TWO).scale, seed=1)
    together, alone = count(images, 300, 0), count(images[2:], 300, 0)
    assert (together.sum(axis=1) == 300).all()
    np.testing.assert_array_equal(together[2:], alone)
    assert (count(images, 300, 1) != together).any()
    assert certify(count, images[:0], 0.2, samples=300).radii.shape == (0,)
