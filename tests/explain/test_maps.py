"""Guards explanations: axioms, closed forms, planted patterns, and unsuitable networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import get_args

import keras
import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.train import ExportedMethod
from cvpipe.errors import ConfigError
from cvpipe.explain.cam import grad_cam, grad_cam_pp, score_cam
from cvpipe.explain.explain import METHODS, explain, method_of
from cvpipe.explain.gradients import (
    gradient_input,
    integrated_gradients,
    pixel_gradient,
    saliency,
    smooth_grad,
)
from cvpipe.explain.guided import with_rule
from cvpipe.explain.perturbation import occlusion, rise, smooth_masks
from cvpipe.explain.quality import faithfulness, points_at
from cvpipe.explain.score import Subject, chosen, feature_layer

SIZE = 12
SEED = tf.constant([0, 1], tf.int64)


def convolutional(seed: int = 0) -> Subject:
    """Return a smooth network of two convolutions and three classes, with random weights."""
    keras.utils.set_random_seed(seed)
    image = keras.Input([SIZE, SIZE, 2])
    x = keras.layers.Conv2D(8, 3, padding="same", name="first")(image)
    x = keras.layers.Activation("tanh", name="smooth")(x)
    x = keras.layers.Conv2D(6, 3, 2, padding="same", activation="relu", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    logits = keras.layers.Dense(3, name="logits")(x)
    return Subject(keras.Model(image, {"logits": logits}), lambda outputs: outputs["logits"])


def linear() -> Subject:
    """Return a network whose scores are weighted sums of pixels."""
    keras.utils.set_random_seed(1)
    image = keras.Input([SIZE, SIZE, 2])
    logits = keras.layers.Dense(3, name="logits")(keras.layers.Flatten()(image))
    return Subject(keras.Model(image, {"logits": logits}), lambda outputs: outputs["logits"])


def images(count: int = 3) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).normal(size=(count, SIZE, SIZE, 2)), tf.float32)


CLASSES = tf.constant([0, 2, 1])


def test_gradients_are_those_of_finite_differences() -> None:
    subject, x = convolutional(), images()
    gradient = pixel_gradient(subject.score, x, CLASSES).numpy()
    random = np.random.default_rng(2)
    for _ in range(10):
        place = tuple(random.integers(0, n) for n in x.shape)
        step = np.zeros(x.shape, np.float32)
        step[place] = 1e-2
        above, below = subject.score(x + step, CLASSES), subject.score(x - step, CLASSES)
        slope = (above - below)[place[0]].numpy() / 2e-2
        np.testing.assert_allclose(gradient[place], slope, rtol=0.02, atol=2e-4)


def test_saliency_and_gradient_input_of_a_linear_network_are_its_weights() -> None:
    subject, x = linear(), images()
    kernel = subject.network.get_layer("logits").kernel.numpy().reshape(SIZE, SIZE, 2, 3)
    weights = np.moveaxis(kernel[..., CLASSES.numpy()], -1, 0)
    np.testing.assert_allclose(
        saliency(subject.score, x, CLASSES), np.abs(weights).max(-1), rtol=1e-5
    )
    np.testing.assert_allclose(
        gradient_input(subject.score, x, CLASSES),
        (weights * x).numpy().sum(-1),
        rtol=1e-4,
        atol=1e-6,
    )


def test_integrated_gradients_add_up_to_the_difference_of_the_scores() -> None:
    subject, x = convolutional(), images()
    maps = integrated_gradients(subject.score, x, CLASSES, steps=100)
    difference = subject.score(x, CLASSES) - subject.score(tf.zeros_like(x), CLASSES)
    np.testing.assert_allclose(tf.reduce_sum(maps, [1, 2]), difference, rtol=1e-2, atol=1e-3)


def test_smooth_grad_without_noise_is_saliency_and_with_it_depends_on_the_seed() -> None:
    subject, x = convolutional(), images()
    plain = saliency(subject.score, x, CLASSES)
    still = smooth_grad(subject.score, x, CLASSES, seed=SEED, noise=0.0, samples=3)
    np.testing.assert_allclose(still, plain, rtol=1e-5)
    one, same, other = (
        smooth_grad(subject.score, x, CLASSES, seed=seed, samples=3).numpy()
        for seed in (SEED, SEED, SEED + 1)
    )
    assert (one == same).all() and (one != other).any()


@pytest.mark.parametrize("patch, stride", [(3, 3), (4, 2), (5, 4), (20, 3)])
def test_occlusion_of_a_linear_network_has_a_closed_form(patch: int, stride: int) -> None:
    subject, x = linear(), images()
    maps = occlusion(subject.score, x, CLASSES, patch=patch, stride=stride, batch=5).numpy()
    parts = gradient_input(subject.score, x, CLASSES).numpy()
    last = max(SIZE - patch, 0)
    begins = sorted({*range(0, last, stride), last})
    falls, hidden = np.zeros_like(parts), np.zeros([SIZE, SIZE])
    for top in begins:
        for left in begins:
            covered = np.s_[top : top + patch, left : left + patch]
            falls[(slice(None), *covered)] += parts[(slice(None), *covered)].sum((1, 2))[
                :, None, None
            ]
            hidden[covered] += 1
    np.testing.assert_allclose(maps, falls / hidden, rtol=1e-3, atol=1e-5)


def test_rise_finds_the_pixels_that_a_score_is_made_of() -> None:
    weights = np.zeros([SIZE, SIZE, 2], np.float32)
    weights[2:5, 7:10] = 1

    def score(x: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(x * weights, [1, 2, 3]) / 18

    maps = rise(score, tf.ones([1, SIZE, SIZE, 2]), tf.zeros([1], tf.int32), seed=SEED, cells=4)
    top, left = np.unravel_index(maps[0].numpy().argmax(), (SIZE, SIZE))
    assert 1 <= top <= 5 and 6 <= left <= 10
    again = rise(score, tf.ones([1, SIZE, SIZE, 2]), tf.zeros([1], tf.int32), seed=SEED, cells=4)
    assert (maps.numpy() == again.numpy()).all()


def test_random_masks_are_parts_of_enlarged_grids() -> None:
    random = np.random.default_rng(0)
    grids = tf.constant(random.integers(0, 2, (5, 4, 4)), tf.float32)
    shifts = np.stack([random.integers(0, 5, 5), random.integers(0, 6, 5)], 1)
    found = smooth_masks(grids, tf.constant(shifts, tf.float32), (15, 18), (5, 6))
    large = tf.image.resize(grids[..., tf.newaxis], (20, 24))[..., 0]
    for n, (top, left) in enumerate(shifts):
        np.testing.assert_allclose(
            found[n], large[n, top : top + 15, left : left + 18], rtol=1e-5, atol=1e-6
        )


def planted() -> Subject:
    """Return a network that predicts class 1 for images with a bright spot, and else class 0."""
    image = keras.Input([SIZE, SIZE, 2])
    x = keras.layers.Conv2D(2, 3, padding="same", activation="relu", name="spots")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, {"logits": keras.layers.Dense(2, name="logits")(x)})
    kernel = np.zeros([3, 3, 2, 2], np.float32)
    kernel[..., 0] = 1
    model.get_layer("spots").set_weights([kernel, np.zeros(2, np.float32)])
    model.get_layer("logits").set_weights(
        [np.array([[-1.0, 1.0], [0.0, 0.0]], np.float32), np.zeros(2, np.float32)]
    )
    return Subject(model, lambda outputs: outputs["logits"])


@pytest.mark.parametrize("method", [grad_cam, grad_cam_pp, score_cam])
def test_class_activation_maps_point_at_a_planted_pattern(method: Callable[..., tf.Tensor]) -> None:
    subject, x = planted(), np.zeros([2, SIZE, SIZE, 2], np.float32)
    x[0, 2:5, 6:9], x[1, 8:11, 1:4] = 1, 1
    layer = feature_layer(subject.network)
    assert layer.name == "spots"
    maps = method(subject, tf.constant(x), tf.constant([1, 1]), layer)
    boxes = np.array([[[2, 6, 5, 9]], [[8, 1, 11, 4]]]) / SIZE
    assert points_at(maps, tf.constant(boxes, tf.float32)).numpy().all()
    assert (maps.numpy() >= 0).all() and maps.shape == (2, SIZE, SIZE)


def test_score_cam_is_the_sum_of_its_papers_algorithm() -> None:
    subject, x = convolutional(), images(1)
    layer = feature_layer(subject.network)
    found = score_cam(subject, x, tf.constant([1]), layer)[0].numpy()
    # Different channels have activations of different sizes, which their masks don't show.
    features = keras.Model(subject.network.inputs, layer.output)(x)
    features = tf.image.resize(features, [SIZE, SIZE])[0].numpy()
    low, high = features.min((0, 1)), features.max((0, 1))
    masks = (features - low) / np.where(high > low, high - low, 1)
    scores = subject.all_scores(x * masks.transpose(2, 0, 1)[..., np.newaxis])[:, 1].numpy()
    weights = np.exp(scores) / np.exp(scores).sum()
    expected = np.maximum((features * weights).sum(-1), 0)
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_pointing_game_allows_a_small_distance_from_a_box() -> None:
    # With 100 pixels, the tolerance is 3 pixels. The box ends at 10 in both directions.
    boxes = tf.constant([[[0.0, 0.0, 0.1, 0.1], [0.0, 0.0, 0.0, 0.0]]])
    for (y, x), is_near in {
        (0, 0): True,
        (9, 12): True,
        (9, 13): False,
        (11, 11): True,
        (12, 12): False,
        (99, 79): False,
    }.items():
        maps = np.zeros([1, 100, 80], np.float32)
        maps[0, y, x] = 1
        assert points_at(tf.constant(maps), boxes * [1, 1.25, 1, 1.25]).numpy() == [is_near], (y, x)


def test_the_default_feature_map_is_the_last_that_all_outputs_depend_on() -> None:
    image = keras.Input([SIZE, SIZE, 1])
    x = keras.layers.Rescaling(2.0, name="scaled")(image)
    fine = keras.layers.Conv2D(2, 3, padding="same", name="fine")(x)
    coarse = keras.layers.Conv2D(2, 3, 2, padding="same", name="coarse")(fine)
    heads = [
        keras.layers.Conv2D(3, 1, name=f"head{n}_logits")(features)
        for n, features in enumerate((fine, coarse))
    ]
    outputs = {str(n): keras.layers.Flatten()(features) for n, features in enumerate(heads)}
    assert feature_layer(keras.Model(image, outputs)).name == "fine"
    assert feature_layer(keras.Model(image, {"1": outputs["1"]})).name == "coarse"
    with pytest.raises(ConfigError, match="scaled: not a feature map"):
        feature_layer(keras.Model(image, outputs), "scaled")


def test_grad_cam_is_its_equation() -> None:
    subject, x = convolutional(), images()
    layer = subject.network.get_layer("second")
    features = keras.Model(subject.network.inputs, layer.output)(x)
    kernel = subject.network.get_layer("logits").kernel.numpy()
    # The score is a mean over places, so the gradient at each place is weight / number of places.
    weights = kernel.T[CLASSES.numpy()][:, None, None] / (features.shape[1] * features.shape[2])
    expected = np.maximum((weights * features).numpy().sum(-1), 0)
    expected = tf.image.resize(expected[..., None], [SIZE, SIZE])[..., 0]
    found = grad_cam(subject, x, CLASSES, layer)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_answers_batches_as_single_images_and_depends_on_weights(name: str) -> None:
    if name == "superpixels":
        pytest.importorskip("skimage", reason="needs scikit-image")
    subject, x = convolutional(), images(2)
    classes = CLASSES[:2]
    maps = explain(subject, x, classes, [name])[name]
    assert maps.shape == (2, SIZE, SIZE) and maps.dtype == np.float32 and np.isfinite(maps).all()
    alone = explain(subject, x[1:], classes[1:], [name])[name]
    np.testing.assert_allclose(alone[0], maps[1], rtol=1e-3, atol=1e-5)
    # Adebayo et al. 2018: a map that stays the same for other weights doesn't explain a network.
    other = explain(convolutional(seed=5), x, classes, [name])[name]
    assert np.corrcoef(maps.ravel(), other.ravel())[0, 1] < 0.9


@pytest.mark.parametrize("name", get_args(ExportedMethod))
def test_xla_compiles_the_methods_of_artifacts_to_the_same_maps(name: str) -> None:
    method = method_of(name, convolutional())
    plain = tf.function(method, autograph=False)(images(2), CLASSES[:2])
    compiled = tf.function(method, autograph=False, jit_compile=True)(images(2), CLASSES[:2])
    if name in ("smooth_grad", "rise"):  # XLA has another generator of random numbers
        assert np.corrcoef(compiled.numpy().ravel(), plain.numpy().ravel())[0, 1] > 0.9
    else:
        np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=1e-5)


def test_guided_backpropagation_passes_only_positive_gradients() -> None:
    image = keras.Input([2])
    x = keras.layers.Dense(2, activation="relu", name="hidden")(image)
    model = keras.Model(image, {"logits": keras.layers.Dense(1, name="logits")(x)})
    model.get_layer("hidden").set_weights([np.eye(2, dtype=np.float32), np.zeros(2, np.float32)])
    model.get_layer("logits").set_weights(
        [np.array([[1.0], [-1.0]], np.float32), np.zeros(1, np.float32)]
    )
    subject = Subject(model, lambda outputs: outputs["logits"])
    x = tf.constant([[1.0, 1.0], [-1.0, 1.0]])
    for rule, expected in (("guided", [[1, 0], [0, 0]]), ("deconvnet", [[1, 0], [1, 0]])):
        changed = with_rule(subject, rule)
        gradient = pixel_gradient(changed.score, x, tf.zeros([2], tf.int32))
        np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize(
    "relu", [partial(keras.layers.Activation, "relu6"), partial(keras.layers.ReLU, 6.0)]
)
def test_guided_backpropagation_respects_the_limit_of_a_relu(
    relu: Callable[[], keras.layers.Layer],
) -> None:
    image = keras.Input([2])
    hidden = relu()(keras.layers.Dense(2, use_bias=False, name="hidden")(image))
    score = keras.layers.Dense(1, use_bias=False, name="logits")(hidden)
    model = keras.Model(image, {"logits": score})
    model.get_layer("hidden").set_weights([np.eye(2, dtype=np.float32)])
    model.get_layer("logits").set_weights([np.array([[2.0], [-1.0]], np.float32)])
    subject = Subject(model, lambda outputs: outputs["logits"])
    x = tf.constant([[1.0, 1.0], [7.0, 7.0]])
    for rule, expected in (("guided", [[2, 0], [0, 0]]), ("deconvnet", [[2, 0], [2, 0]])):
        changed = with_rule(subject, rule)
        np.testing.assert_array_equal(changed.all_scores(x), [[1], [6]])
        gradient = pixel_gradient(changed.score, x, tf.zeros([2], tf.int32))
        np.testing.assert_array_equal(gradient, expected)


def test_deletion_and_insertion_distinguish_a_good_map_from_its_opposite() -> None:
    subject, x = linear(), tf.abs(images())
    good = gradient_input(subject.score, x, CLASSES)
    best = faithfulness(subject.score, x, CLASSES, good)
    worst = faithfulness(subject.score, x, CLASSES, -good)
    assert (best.insertion.numpy() > worst.insertion.numpy()).all()
    assert (best.deletion.numpy() < worst.deletion.numpy()).all()
    # Deletion by the best map leaves the same pixels as insertion by the worst one.
    np.testing.assert_allclose(best.deletion, worst.insertion, rtol=0.01, atol=0.05)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda s: explain(s, images(1), CLASSES[:1], ["grad_kam"]), "did you mean 'grad_cam'"),
        (lambda s: feature_layer(s.network, "secont"), "did you mean 'second'"),
        (lambda s: feature_layer(linear().network), "no feature map"),
        (lambda s: with_rule(linear(), "guided"), "the network has none"),
    ],
)
def test_unknown_names_and_unsuitable_networks_are_errors(
    call: Callable[[Subject], object], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        call(convolutional())
    assert message in str(error.value)


def test_chosen_selects_the_score_of_the_class() -> None:
    scores = tf.constant([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    np.testing.assert_array_equal(chosen(scores, tf.constant([2, 0])), [3, 4])
