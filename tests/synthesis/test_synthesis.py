"""Guards images made by gradient ascent, against references and closed forms: a seed gives one
image, alone as in a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from cvpipe.config.prepare import Prepare
from cvpipe.errors import ConfigError
from cvpipe.losses.perceptual import grams_of, random_features
from cvpipe.synthesis.ascent import adam_ascent, normalized_ascent
from cvpipe.synthesis.dream import Dream, dream, octave_sizes
from cvpipe.synthesis.invert import Inversion, invert
from cvpipe.synthesis.regularize import blur, clip_smallest, random_view, total_variation
from cvpipe.synthesis.spectrum import images_of, random_spectra, spectra_of
from cvpipe.synthesis.transfer import Transfer, transfer
from cvpipe.synthesis.unit_images import Pixelwise, Spectral, pixel_images, spectral_images
from cvpipe.synthesis.units import Unit, activation_of, at_size, find_layer, find_units, parse_unit

SIZE = 12
PREPARE = Prepare(size=(SIZE, SIZE), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def network() -> keras.Model:
    """A smooth network of two convolutions and three classes, with random weights."""
    keras.utils.set_random_seed(0)
    image = keras.Input([SIZE, SIZE, 3])
    x = keras.layers.Conv2D(4, 3, padding="same", activation="tanh", name="first")(image)
    x = keras.layers.Conv2D(6, 3, 2, padding="same", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, {"logits": keras.layers.Dense(3, name="logits")(x)})


def photos(count: int = 2, size: tuple[int, int] = (SIZE, SIZE)) -> tf.Tensor:
    drawn = np.random.default_rng(0).uniform(0.05, 0.95, (count, *size, 3))
    return tf.constant(drawn, tf.float32)


def seeds(*numbers: int) -> tf.Tensor:
    return tf.constant([[5, number] for number in numbers], tf.int64)


def in_graph(
    make: Callable[..., tuple[tf.Tensor, tf.Tensor]], *given: tf.Tensor
) -> list[np.ndarray]:
    return [value.numpy() for value in tf.function(make, autograph=False)(*given)]


# -- Spectra


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (6, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_comes_back_from_its_spectrum(size: tuple[int, int], channels: int) -> None:
    images = photos(2, size)[..., :channels]
    spectra = spectra_of(images)
    assert spectra.shape == (2, channels, size[0], size[1] // 2 + 1, 2)
    np.testing.assert_allclose(images_of(spectra, size), images, atol=1e-5)


def test_a_spectrum_without_content_is_gray_and_its_start_depends_on_the_seed_alone() -> None:
    drawn = random_spectra(seeds(1, 2, 1), (6, 8, 3))
    np.testing.assert_allclose(images_of(0 * drawn, (6, 8)), 0.5)
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert abs(drawn[0] - drawn[1]).numpy().max() > 1e-3
    np.testing.assert_array_equal(random_spectra(seeds(2), (6, 8, 3))[0], drawn[1])


# -- Regularization


def test_total_variation_is_its_definition() -> None:
    images = photos().numpy()
    for beta in (2.0, 1.0, 3.0):
        right, down = np.zeros_like(images), np.zeros_like(images)
        right[:, :, :-1], down[:, :-1] = np.diff(images, axis=2), np.diff(images, axis=1)
        expected = ((right**2 + down**2) ** (beta / 2)).mean((1, 2, 3))
        np.testing.assert_allclose(total_variation(tf.constant(images), beta), expected, rtol=1e-4)


def test_blur_is_scipys() -> None:
    images = photos().numpy()
    expected = ndimage.gaussian_filter(
        images, (0, 1.2, 1.2, 0), mode="nearest", radius=(0, 4, 4, 0)
    )
    np.testing.assert_allclose(blur(tf.constant(images), 1.2), expected, atol=1e-6)


def test_the_smallest_pixels_are_clipped() -> None:
    images = photos(1, (4, 5))
    clipped = clip_smallest(images, images[..., 0], 0.25).numpy()
    order = np.argsort(images.numpy()[..., 0].ravel())
    flat, before = clipped.reshape(20, 3), images.numpy().reshape(20, 3)
    assert (flat[order[:5]] == 0).all()
    np.testing.assert_array_equal(flat[order[5:]], before[order[5:]])
    np.testing.assert_array_equal(clip_smallest(images, images[..., 0], 0.0), images)


def test_a_view_without_jitter_and_scale_is_the_image_and_others_move_all_alike() -> None:
    images, seed = photos(), tf.constant([3, 4], tf.int64)
    np.testing.assert_allclose(random_view(images, seed, 0), images, atol=1e-6)
    views = random_view(images, seed, 0.25, (0.8, 1.2)).numpy()
    assert abs(views - images.numpy()).max() > 0.05
    np.testing.assert_allclose(
        views[:1], random_view(images[:1], seed, 0.25, (0.8, 1.2)), atol=1e-6
    )
    # A scaled ramp is a ramp of another slope.
    ramp = tf.reshape(tf.range(40, dtype=tf.float32), [1, 1, 40, 1]) * tf.ones([1, 40, 1, 1])
    slopes = np.diff(random_view(ramp, seed, 0.05, (1.25, 1.25)).numpy()[0, :, :, 0], axis=1)
    np.testing.assert_allclose(slopes[:, 10:30], 1 / 1.25, rtol=1e-4)


# -- Ascent


def test_adam_takes_the_steps_of_its_definition() -> None:
    target = np.array([[1.0, -2.0, 0.5]], np.float32)
    values, scores = adam_ascent(
        lambda x, step: -tf.reduce_sum(tf.square(x - target), 1),
        tf.zeros([1, 3]),
        steps=6,
        rate=0.3,
    )
    x, mean, square = np.zeros((1, 3)), 0.0, 0.0
    for step in range(6):
        np.testing.assert_allclose(scores[step], -np.sum((x - target) ** 2, 1), rtol=1e-4)
        gradient = -2 * (x - target)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        rate = 0.3 * (0.1 + 0.45 * (1 + np.cos(np.pi * step / 6)))
        unbiased = mean / (1 - 0.9 ** (step + 1))
        x = x + rate * unbiased / (np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8)
    np.testing.assert_allclose(values, x, rtol=1e-4)


def test_normalized_steps_have_one_size_and_a_flat_score_moves_nothing() -> None:
    start = photos()
    values, scores = normalized_ascent(
        lambda x, step: tf.reduce_sum(x**2, [1, 2, 3]), start, steps=1, rate=0.01
    )
    np.testing.assert_allclose(np.abs(values - start).mean((1, 2, 3)), 0.01, rtol=1e-4)
    still, _ = normalized_ascent(lambda x, step: tf.zeros([2]), start, steps=3, rate=0.01)
    np.testing.assert_array_equal(still, start)
    assert scores.shape == (1, 2)


@pytest.mark.parametrize("by", ["spectrum", "pixels"])
def test_images_activate_their_units_more_with_every_seed_and_the_same_in_a_batch(by: str) -> None:
    model, units = network(), [Unit("second", 1), Unit("second", 4, (2, 3)), Unit("second")]

    def make(chosen: list[Unit], numbers: tuple[int, ...]) -> list[np.ndarray]:
        activation = activation_of(model, chosen)
        if by == "spectrum":
            few = Spectral(steps=12)
            return in_graph(lambda s: spectral_images(activation, s, PREPARE, few), seeds(*numbers))
        plain = Pixelwise(steps=12, clip_contribution=0.05)
        return in_graph(lambda s: pixel_images(activation, s, PREPARE, plain), seeds(*numbers))

    images, scores = make(units, (1, 2, 3))
    assert images.shape == (3, SIZE, SIZE, 3) and images.min() >= 0 and images.max() <= 1
    assert (scores[-1] > scores[0]).all()
    alone = [make([unit], (number,))[0][0] for number, unit in enumerate(units, 1)]
    np.testing.assert_allclose(np.stack(alone), images, atol=1e-4)
    np.testing.assert_array_equal(make(units, (1, 2, 3))[0], images)
    assert abs(make(units, (1, 2, 4))[0][2] - images[2]).max() > 1e-3


# -- Units


def test_activations_are_the_values_of_the_layer() -> None:
    model, images = network(), photos(3)
    values = keras.Model(model.inputs, model.get_layer("second").output)(images).numpy()
    units = [parse_unit(text) for text in ("second:5", "second:2:1,4", "second")]
    assert [str(unit) for unit in units] == ["second:5", "second:2:1,4", "second"]
    expected = [values[0, ..., 5].mean(), values[1, 1, 4, 2], (values[2] ** 2).mean()]
    np.testing.assert_allclose(activation_of(model, units)(images), expected, rtol=1e-5)
    logits = activation_of(model, [Unit("logits", n) for n in range(3)])(images)
    np.testing.assert_allclose(logits, np.diag(model(images)["logits"]), rtol=1e-5)


@pytest.mark.parametrize(
    "text, said",
    [
        ("secnd:1", "--unit secnd: no such layer; did you mean 'second'?"),
        ("second:6", "has channels 0 to 5"),
        ("second:1:6,0", "has rows 0 to 5 and columns 0 to 5"),
        ("logits:1:0,0", "logits has no positions; leave ':0,0' out"),
        ("second:x", "write LAYER, LAYER:CHANNEL or LAYER:CHANNEL:Y,X"),
        ("second:1:2", "not a unit; write LAYER"),
    ],
)
def test_missing_units_are_an_error(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        find_units(network(), [parse_unit(text)])
    assert said in str(error.value)


def test_a_layer_can_be_computed_at_another_image_size_unless_dense() -> None:
    model, images = network(), photos(1, (SIZE, SIZE))
    layer = find_layer(model, "second")
    expected = keras.Model(model.inputs, layer.output)(images)
    np.testing.assert_array_equal(at_size(model, layer, (SIZE, SIZE))(images), expected)
    assert at_size(model, layer, (20, 33))(photos(1, (20, 33))).shape == (1, 10, 17, 6)
    image = keras.Input([SIZE, SIZE, 3])
    flat = keras.layers.Dense(2, name="end")(keras.layers.Flatten()(image))
    dense = keras.Model(image, flat)
    with pytest.raises(ConfigError, match="--layer end: can't be computed for images of 20×33"):
        at_size(dense, find_layer(dense, "end"), (20, 33))


# -- Dreams, inversions, transfers


def test_octaves_end_with_the_image_and_leave_out_those_that_are_too_small() -> None:
    assert octave_sizes((100, 140), Dream(octaves=3, factor=2.0)) == [(50, 70), (100, 140)]
    assert octave_sizes((8, 9), Dream()) == [(8, 9)]


def test_a_dream_activates_the_layer_more_and_is_the_same_in_a_batch() -> None:
    model, images, settings = network(), photos(2, (16, 20)), Dream(2, 1.25, 8, 0.01, 2)
    sizes = octave_sizes((16, 20), settings, least=8)
    assert len(sizes) == 2
    features = [at_size(model, find_layer(model, "second"), size) for size in sizes]

    def make(own: tf.Tensor, seed: int, channel: int | None = None) -> list[np.ndarray]:
        pair = tf.constant([seed, 0], tf.int64)
        return in_graph(
            lambda x: dream(features, x, sizes, PREPARE, pair, settings, channel=channel), own
        )

    dreamt, scores = make(images, 1)
    assert scores.shape == (16, 2) and (scores[-1] > scores[0]).all()
    assert 0.02 < abs(dreamt - images.numpy()).mean() < 0.3
    np.testing.assert_allclose(make(images[1:], 1)[0][0], dreamt[1], atol=1e-4)
    assert abs(make(images, 2)[0] - dreamt).max() > 1e-3
    channel = make(images, 1, channel=3)[1]
    assert (channel[-1] > channel[0]).all()


def test_an_inversion_comes_near_the_features_and_the_first_layer_gives_the_image_back() -> None:
    model, images = network(), photos(2)
    layer = keras.Model(model.inputs, model.get_layer("first").output)
    settings = Inversion(steps=150, rate=0.5, variation=0.0, length=0.0)
    features = partial(layer, training=False)
    found, losses = in_graph(lambda s: invert(features, images, PREPARE, s, settings), seeds(1, 2))
    assert (losses[-1] < 0.02 * losses[0]).all()
    before = abs(0.5 - images.numpy()).mean()
    assert abs(found - images.numpy()).mean() < 0.3 * before


def test_a_transfer_lowers_its_loss_and_a_texture_needs_no_photo() -> None:
    features, layers = random_features(width=0.125), ("stage1_conv1", "stage2_conv1")
    style, photo = photos(1, (16, 24)), 1 - photos(1, (20, 16))
    grams, content = grams_of(features, style, layers), features.of(photo, ("stage2_conv2",))
    settings = Transfer(steps=25)
    made, losses = in_graph(lambda x: transfer(features, x, content, grams, settings), photo)
    assert made.shape == (1, 20, 16, 3) and losses[-1, 0] < 0.7 * losses[0, 0]
    noise = tf.random.stateless_uniform([1, 16, 16, 3], [1, 2])
    texture = in_graph(lambda x: transfer(features, x, {}, grams, settings), noise)
    assert texture[1][-1, 0] < 0.5 * texture[1][0, 0]
