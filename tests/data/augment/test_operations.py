"""Guards single operations, against PIL, Model Garden and SciPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage

from cvpipe.data.augment import operations

Operation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (23, 19, 3), dtype=np.uint8)
# Low contrast, with different extremes in each channel.
PALE = (RNG.integers(0, 80, (40, 31, 3)) + [20, 90, 170]).astype(np.uint8)
FLAT = np.full((4, 5, 3), 77, np.uint8)
IMAGES = {
    "noise": NOISE,
    "pale": PALE,
    "flat": FLAT,
    "gray": NOISE[..., :1],
    "tiny": NOISE[:2, :2],
    "dot": NOISE[:1, :1],
}
# Amounts that change a lot.
STRONG: dict[Operation, float] = {
    operations.identity: 0,
    operations.auto_contrast: 0,
    operations.equalize: 0,
    operations.invert: 0,
    operations.solarize: 100,
    operations.posterize: 2,
    operations.color: 1.72,
    operations.contrast: 0.3,
    operations.brightness: 1.72,
    operations.sharpness: 1.72,
    operations.rotate: 27,
    operations.shear_x: 0.3,
    operations.shear_y: -0.3,
    operations.translate_x: 0.3,
    operations.translate_y: -0.4,
}
named = pytest.mark.parametrize("operation", STRONG, ids=lambda operation: operation.__name__)


def result(operation: Operation, image: np.ndarray, amount: float = 0) -> np.ndarray:
    return operation(tf.constant(image), tf.constant(amount, tf.float32)).numpy()


def by_pil(function: Callable[[Image.Image], Image.Image], image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return np.asarray(function(picture)).reshape(image.shape)


@pytest.fixture(scope="module")
def model_garden() -> ModuleType:
    from official.vision.ops import augment

    return augment


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_operations_on_histograms_and_bits_equal_pils_to_the_bit(image: np.ndarray) -> None:
    np.testing.assert_array_equal(
        result(operations.auto_contrast, image), by_pil(ImageOps.autocontrast, image)
    )
    np.testing.assert_array_equal(
        result(operations.equalize, image), by_pil(ImageOps.equalize, image)
    )
    np.testing.assert_array_equal(result(operations.invert, image), by_pil(ImageOps.invert, image))
    for threshold in (0, 1, 100, 255, 256):
        expected = by_pil(lambda picture: ImageOps.solarize(picture, threshold), image)
        np.testing.assert_array_equal(result(operations.solarize, image, threshold + 0.9), expected)
    for bits in range(1, 9):
        expected = by_pil(lambda picture: ImageOps.posterize(picture, bits), image)
        np.testing.assert_array_equal(result(operations.posterize, image, bits + 0.9), expected)


@pytest.mark.parametrize(
    "name, operation",
    [
        ("Color", operations.color),
        ("Contrast", operations.contrast),
        ("Brightness", operations.brightness),
        ("Sharpness", operations.sharpness),
    ],
)
@pytest.mark.parametrize(
    "image", [image for name, image in IMAGES.items() if name not in ("tiny", "dot")]
)
def test_enhancements_are_those_of_pil_to_the_bit(
    name: str, operation: Operation, image: np.ndarray
) -> None:
    for factor in (0.1, 0.46, 1, 1.36, 1.9, 5.5):
        expected = by_pil(
            lambda picture: getattr(ImageEnhance, name)(picture).enhance(factor), image
        )
        np.testing.assert_array_equal(result(operation, image, factor), expected)


def test_operations_that_model_garden_defines_like_pil_are_equal(model_garden: ModuleType) -> None:
    for image in (NOISE, PALE, FLAT):
        tensor = tf.constant(image)
        exact: list[tuple[Any, Any]] = [
            (result(operations.equalize, image), model_garden.equalize(tensor)),
            (result(operations.invert, image), model_garden.invert(tensor)),
            (result(operations.solarize, image, 100), model_garden.solarize(tensor, 100)),
            (result(operations.posterize, image, 3), model_garden.posterize(tensor, 3)),
            (result(operations.brightness, image, 1.4), model_garden.brightness(tensor, 1.4)),
        ]
        for ours, theirs in exact:
            np.testing.assert_array_equal(ours, theirs)
        # Model Garden uses float32 and truncates gray and blur instead of rounding, so it differs
        # from PIL by 1, or by 2 after a factor.
        close = [
            (result(operations.auto_contrast, image), model_garden.autocontrast(tensor)),
            (result(operations.color, image, 1.4), model_garden.color(tensor, 1.4)),
            (result(operations.sharpness, image, 1.4), model_garden.sharpness(tensor, 1.4)),
        ]
        for ours, theirs in close:
            np.testing.assert_allclose(ours.astype(int), theirs.numpy().astype(int), atol=2)


def test_translations_are_whole_pixels_with_gray_outside() -> None:
    for share, pixels in ((0.3, 6), (-0.3, -6), (0.01, 0), (0.9, 17)):
        expected = np.roll(NOISE, pixels, 1)
        expected[:, slice(pixels) if pixels >= 0 else slice(pixels, None)] = 128
        np.testing.assert_array_equal(result(operations.translate_x, NOISE, share), expected)
    down = np.concatenate([np.full((7, 19, 3), 128, np.uint8), NOISE[:-7]])
    np.testing.assert_array_equal(result(operations.translate_y, NOISE, 0.3), down)
    for operation in (operations.translate_x, operations.translate_y):
        assert (result(operation, NOISE, 1.0) == 128).all() and (
            result(operation, NOISE, -1.7) == 128
        ).all()


@pytest.mark.parametrize("amount", [0.3, -0.12])
def test_rotations_and_shears_are_those_of_scipy(amount: float) -> None:
    def moved(image: np.ndarray, matrix: Any, offset: Any = 0.0) -> np.ndarray:
        """Transform each channel by SciPy; the matrix maps (row, column) of the output to the
        input.
        """
        channels = [
            ndimage.affine_transform(
                channel.astype(float), matrix, offset, order=1, mode="grid-constant", cval=128
            )
            for channel in np.moveaxis(image, -1, 0)
        ]
        return np.stack(channels, -1)

    angle = math.radians(amount * 100)
    # The content turns counterclockwise: a point right of the center moves above it.
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    for image in (NOISE, NOISE[..., :1], PALE):
        center = (np.array(image.shape[:2]) - 1) / 2
        for ours, scipys in (
            (
                result(operations.shear_x, image, amount),
                moved(image, np.array([[1, 0], [amount, 1]])),
            ),
            (
                result(operations.shear_y, image, amount),
                moved(image, np.array([[1, amount], [0, 1]])),
            ),
            (
                result(operations.rotate, image, amount * 100),
                moved(image, turn, center - turn @ center),
            ),
        ):
            # Rounding changes a value by up to 0.5. Positions have float32 errors, and adjacent
            # pixels differ by up to 255.
            np.testing.assert_allclose(ours, scipys, atol=0.52)


@pytest.mark.soak
@named
@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_every_operation_gives_the_same_bits_eagerly_and_in_a_map_at_any_size(
    operation: Operation, image: np.ndarray
) -> None:
    amount = STRONG[operation]

    @tf.autograph.experimental.do_not_convert
    def one(pixels: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
        return operation(tf.ensure_shape(pixels, [None, None, image.shape[-1]]), strength)

    data = tf.data.Dataset.from_generator(
        lambda: [(image, amount)],
        output_signature=(tf.TensorSpec(None, tf.uint8), tf.TensorSpec([], tf.float32)),
    )
    [changed] = data.map(one).as_numpy_iterator()
    assert changed.dtype == np.uint8 and changed.shape == image.shape
    np.testing.assert_array_equal(changed, result(operation, image, amount))
    if (
        image is NOISE
        and operation is not operations.identity
        and operation is not operations.auto_contrast
    ):
        assert (changed != image).any()


@named
def test_a_gray_image_is_treated_as_the_same_gray_in_three_channels(operation: Operation) -> None:
    gray = NOISE[..., :1]
    expected = result(operation, np.repeat(gray, 3, -1), STRONG[operation])
    np.testing.assert_array_equal(
        np.repeat(result(operation, gray, STRONG[operation]), 3, -1), expected
    )


@pytest.mark.parametrize(
    "operation, amount",
    [
        (operations.rotate, 0),
        (operations.shear_x, 0),
        (operations.shear_y, 0),
        (operations.translate_x, 0),
        (operations.translate_y, 0),
        (operations.solarize, 256),
        (operations.solarize, 700),
        (operations.posterize, 8),
        (operations.posterize, 16),
        (operations.color, 1),
        (operations.contrast, 1),
        (operations.brightness, 1),
        (operations.sharpness, 1),
        (operations.identity, 3),
    ],
)
def test_each_operation_has_an_amount_that_changes_nothing(
    operation: Operation, amount: float
) -> None:
    for image in IMAGES.values():
        np.testing.assert_array_equal(result(operation, image, amount), image)
