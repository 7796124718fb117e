"""Random geometric changes of examples; `moves` moves the annotations with the image."""

from __future__ import annotations

import math

import tensorflow as tf

from cvpipe.config.augment.crops import PadCrop, RandomResizedCrop, ShortSideCrop
from cvpipe.config.augment.geometry import Elastic, Flip, Lens, Rotate, Shear, Translate
from cvpipe.data.augment.moves import cropped, mirrored, sampled, warped
from cvpipe.data.example import Example
from cvpipe.data.graph import noinline_branch
from cvpipe.geometry.pixels import resize_and_place
from cvpipe.geometry.warp import rotation, shearing, translation

# Largest number of draws of a crop; the whole image is taken if none fits.
TRIES = 10


def flip(example: Example, seed: tf.Tensor, op: Flip) -> Example:
    """Mirror left and right, or top and bottom, with the given probability. "image" is [H, W, C]
    of any type.
    """
    applied = tf.random.stateless_uniform([], seed) < op.probability
    return mirrored(example, 1 if op.direction == "horizontal" else 0, applied)


def pad_crop(example: Example, seed: tf.Tensor, op: PadCrop) -> Example:
    """Pad, then crop the original size at a uniformly random place (He et al. 2015, section 4.2).

    The padding of a mask is ignored, even if the image is padded by mirroring.
    """
    image = example["image"]
    shape = tf.shape(image)
    around = [[op.padding, op.padding], [op.padding, op.padding], [0, 0]]
    if op.mode == "reflect":
        # Mirrored padding can't be longer than the image.
        around = tf.minimum(around, tf.stack([shape[:1] - 1, shape[1:2] - 1, [0]]))
    padded = tf.pad(image, around, mode=op.mode.upper())
    places = tf.shape(padded)[:2] - shape[:2] + 1
    corner = tf.cast(
        tf.random.stateless_uniform([2], seed, dtype=tf.float64) * tf.cast(places, tf.float64),
        tf.int32,
    )
    window = tf.slice(padded, tf.concat([corner, [0]], 0), shape)
    begin = corner - tf.convert_to_tensor(around)[:2, 0]
    return cropped(example, tf.ensure_shape(window, image.shape), shape[:2], begin, shape[:2])


def random_resized_crop(
    example: Example, seed: tf.Tensor, op: RandomResizedCrop, size: tuple[int, int]
) -> Example:
    """Crop a random area and aspect ratio and resize it to `size` (Szegedy et al. 2014, section 6).
    "image" becomes float32.

    Areas are uniform and aspect ratios log-uniform. If none of TRIES crops fits, the whole image is
    taken.
    """
    image, extent = example["image"], tf.shape(example["image"])[:2]
    window = random_window(extent, seed, op)
    top, left, height, width = tf.unstack(window)
    resized = resize_window(image[top : top + height, left : left + width], size)
    return cropped(example, resized, extent, window[:2], window[2:])


def random_window(extent: tf.Tensor, seed: tf.Tensor, op: RandomResizedCrop) -> tf.Tensor:
    """Draw the window of `random_resized_crop` for an image of size `extent` (int32 [2]: height,
    width). Returns int32 [4]: top, left, height, width.
    """
    # TensorFlow's sample_distorted_bounding_box draws areas that aren't uniform, and returns the
    # whole image for narrow ranges.
    limits = tf.cast(extent, tf.float64)
    draws = tf.random.stateless_uniform([TRIES + 1, 2], seed, dtype=tf.float64)
    area = tf.reduce_prod(limits) * _between(*op.area, draws[1:, 0])
    aspect = tf.exp(_between(math.log(op.aspect[0]), math.log(op.aspect[1]), draws[1:, 1]))
    sizes = tf.maximum(tf.round(tf.sqrt(tf.stack([area / aspect, area * aspect], axis=1))), 1)
    fits = tf.reduce_all(sizes <= limits, axis=1)
    size = tf.where(tf.reduce_any(fits), sizes[tf.argmax(tf.cast(fits, tf.int32))], limits)
    return tf.cast(tf.concat([draws[0] * (limits - size + 1), size], 0), tf.int32)


def resize_window(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Resize a crop, uint8 or float32 [H, W, C], without strong aliasing. Return float32 [*size,
    C].

    Interpolation is bilinear if neither side is more than halved. Otherwise pixels are averaged by
    area or, if the other side is enlarged, resized by the slower antialiased method of `prepare`.
    """
    extent = tf.shape(image)[:2]
    is_much_larger = tf.reduce_any(extent > [2 * length for length in size])

    def reduced() -> tf.Tensor:
        is_smaller = tf.reduce_any(extent < size)
        return tf.cond(
            is_smaller,
            lambda: tf.image.resize(image, size, antialias=True),
            lambda: tf.image.resize(image, size, "area"),
        )

    resized = tf.cond(
        is_much_larger, noinline_branch(reduced), lambda: tf.image.resize(image, size)
    )
    return tf.ensure_shape(resized, [*size, image.shape[-1]])


def short_side_crop(
    example: Example, seed: tf.Tensor, op: ShortSideCrop, size: tuple[int, int]
) -> Example:
    """Resize the short side to a random length and crop `size` at a random place (He et al. 2015,
    section 3.4).

    Lengths are uniform in `op.sides`, which is not below `size`; places are uniform, too. "image"
    becomes float32 [*size, C].
    """
    image = example["image"]
    extent = tf.cast(tf.shape(image)[:2], tf.float64)
    draws = tf.random.stateless_uniform([3], seed, dtype=tf.float64)
    side = tf.floor(_between(op.sides[0], op.sides[1] + 1, draws[0]))
    resized = tf.round(extent * side / tf.reduce_min(extent))
    corner = tf.floor(draws[1:] * (resized - size + 1))
    # Like tf.image.resize with antialias=True, but only the crop is computed.
    crop = resize_and_place(image, size, resized / extent, -corner)
    return cropped(
        example, tf.ensure_shape(crop, [*size, image.shape[-1]]), resized, corner, tf.constant(size)
    )


def rotate(example: Example, seed: tf.Tensor, op: Rotate) -> Example:
    """Rotate around the center by an angle uniform in ±`op.degrees`. "image" becomes float32."""
    image = example["image"]
    height, width = tf.unstack(tf.shape(image)[:2])
    angle = tf.random.stateless_uniform([], seed, -1.0, 1.0) * math.radians(op.degrees)
    return warped(example, rotation(angle, height, width), op.fill)


def translate(example: Example, seed: tf.Tensor, op: Translate) -> Example:
    """Move by distances uniform in ±`op.share` of height and width. Distances may be fractions of a
    pixel. "image" becomes float32.
    """
    image = example["image"]
    reach = op.share * tf.cast(tf.shape(image)[:2], tf.float32)
    down, right = tf.unstack(tf.random.stateless_uniform([2], seed, -1.0, 1.0) * reach)
    return warped(example, translation(down, right), op.fill)


def shear(example: Example, seed: tf.Tensor, op: Shear) -> Example:
    """Shear horizontally around the center by an angle uniform in ±`op.degrees`. "image" becomes
    float32.
    """
    image = example["image"]
    height, width = tf.unstack(tf.shape(image)[:2])
    angle = tf.random.stateless_uniform([], seed, -1.0, 1.0) * math.radians(op.degrees)
    return warped(example, shearing(angle, height, width), op.fill)


def lens(example: Example, seed: tf.Tensor, op: Lens) -> Example:
    """Distort like a lens (Brown 1966, first radial term). "image" becomes float32.

    A pixel at distance r from the center shows the input at r (1 + k r²), with r = 1 at the corners
    and k uniform in ±`op.strength`. k > 0 gives barrel distortion, k < 0 pincushion distortion.
    """
    image = example["image"]
    extent = tf.cast(tf.shape(image)[:2], tf.float32)
    strength = op.strength * tf.random.stateless_uniform([], seed, -1.0, 1.0)
    middle = (extent - 1) / 2
    y = (tf.range(extent[0]) - middle[0])[:, tf.newaxis]
    x = (tf.range(extent[1]) - middle[1])[tf.newaxis]
    # tf.square, because `y**2` gives different bits eagerly and in a graph. The lower limit 1e-6
    # avoids a division by 0 for an image of one pixel.
    scale = 1 + strength / tf.maximum(tf.reduce_sum(tf.square(middle)), 1e-6) * (
        tf.square(y) + tf.square(x)
    )
    return sampled(example, middle[0] + y * scale, middle[1] + x * scale, op.fill)


def elastic(example: Example, seed: tf.Tensor, op: Elastic) -> Example:
    """Deform smoothly at random (Simard et al. 2003), as U-Net does (Ronneberger et al. 2015,
    section 3.1). "image" becomes float32.

    Vertical and horizontal displacements are drawn on a grid of `op.points`² from a normal
    distribution whose standard deviation is `op.share` of the image's shorter side, and
    interpolated bicubically for every pixel.
    """
    extent = tf.shape(example["image"])[:2]
    drawn = tf.random.stateless_normal([1, op.points, op.points, 2], seed, stddev=op.share)
    displaced = tf.image.resize(drawn, extent, "bicubic")[0] * tf.cast(
        tf.reduce_min(extent), tf.float32
    )
    y, x = (tf.range(tf.cast(length, tf.float32)) for length in tf.unstack(extent))
    return sampled(example, y[:, tf.newaxis] + displaced[..., 0], x + displaced[..., 1], op.fill)


def _between(low: float, high: float, share: tf.Tensor) -> tf.Tensor:
    return low + (high - low) * share
