"""Deterministic resizing and normalization, shared by training, evaluation and the artifact.

Dimensions: V views of an image; H, W, C of the network's input; h, w, K of a feature map.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.prepare import Prepare, TestTime
from cvpipe.geometry.masks import IGNORED
from cvpipe.geometry.pixels import resize_and_place


def prepare(image: tf.Tensor, config: Prepare) -> tf.Tensor:
    """Resize and normalize an image for the network. Graph code.

    Args:
        image: uint8 or float32 [any height, any width, C] in 0…255.
        config: size, channels, resizing, mean and std.

    Returns:
        float32 [H, W, C], (pixels / 255 − mean) / std; pixels / 255 if the network's first layer
        normalizes.
    """
    if tuple(image.shape[:2]) != config.size:
        assert not config.keeps_size, "images of their own size are cropped in training"
        image = _crop_to_aspect(image, config.size) if config.resize == "crop" else image
        image = (
            _letterbox(image, config)
            if config.resize == "letterbox"
            else tf.image.resize(image, config.size, antialias=True)
        )
    return normalize(image, config)


def prepare_mask(
    mask: tf.Tensor, config: Prepare, size: tuple[int, int] | None = None
) -> tf.Tensor:
    """Resize a mask as `prepare` resizes its image. Graph code.

    Args:
        mask: uint8 [any height, any width, 1].
        config: size and resizing, which is not "crop".
        size: height and width of the result; None for the size of the network's input.

    Returns:
        uint8 [*size, 1], by nearest neighbor; IGNORED in the bars of a letterbox.
    """
    if config.resize == "letterbox" and tuple(mask.shape[:2]) != config.size:
        resized, around = _bars(mask, config.size)
        mask = tf.pad(tf.image.resize(mask, resized, "nearest"), around, constant_values=IGNORED)
    return tf.ensure_shape(
        tf.image.resize(mask, size or config.size, "nearest"), [*(size or config.size), 1]
    )


def prepare_tile(image: tf.Tensor, corner: tf.Tensor, config: Prepare) -> tf.Tensor:
    """Crop a tile of the network's input size at `corner`, and normalize it. Graph code.

    Args:
        image: uint8 [any height, any width, C].
        corner: int32 [2], inside the image.

    Returns:
        float32 [H, W, C]; zero outside the image.
    """
    part = tf.cast(
        image[corner[0] : corner[0] + config.size[0], corner[1] : corner[1] + config.size[1]],
        tf.float32,
    )
    mean = 255 * tf.constant(config.scaling[0])
    beyond = tf.pad(config.size - tf.shape(part)[:2], [[0, 1]])
    # tf.pad pads with zeros, so subtract the mean first. After normalization, the padding is 0.
    padded = tf.pad(part - mean, tf.stack([tf.zeros_like(beyond), beyond], 1)) + mean
    return normalize(tf.ensure_shape(padded, [*config.size, image.shape[-1]]), config)


def place_boxes(boxes: tf.Tensor, extent: tf.Tensor, config: Prepare) -> tf.Tensor:
    """Map boxes from the image to the network's input, as `prepare` moves its pixels. Graph code.

    Args:
        boxes: float32 [..., n, 4], ymin, xmin, ymax, xmax as fractions of the image.
        extent: int [..., 2], the image's height and width in pixels.
        config: size and resizing.

    Returns:
        float32 [..., n, 4], fractions of the network's input. Boxes are not clipped: parts that
        "crop" cuts off lie outside [0, 1].
    """
    scale, offset = _placement(extent, config)
    return boxes * scale + offset


def restore_boxes(boxes: tf.Tensor, extent: tf.Tensor, config: Prepare) -> tf.Tensor:
    """Map boxes from fractions of the network's input to fractions of the image: the inverse of
    `place_boxes`, with the same shapes. Graph code.
    """
    scale, offset = _placement(extent, config)
    return (boxes - offset) / scale


def restore_rows(
    values: tf.Tensor, extent: tf.Tensor, begin: tf.Tensor, rows: int, config: Prepare
) -> tf.Tensor:
    """Resample some rows of a feature map to the original image, bilinearly. Graph code.

    Args:
        values: float32 [h, w, K], a map that covers the network's input.
        extent: int32 [2], the image's height and width.
        begin: int32 scalar, the first row of the image.
        rows: number of rows; rows beyond the image are undefined.
        config: size and resizing, "stretch" or "letterbox".

    Returns:
        float32 [rows, image width, K].
    """
    scale, offset = (tf.squeeze(part, 0)[:2] for part in _placement(extent, config))
    cells, pixels = tf.cast(tf.shape(values)[:2], tf.float32), tf.cast(extent, tf.float32)
    # A value's position is (index / cells − offset) / scale, in fractions of the image.
    shift = -offset / scale * pixels - tf.stack([tf.cast(begin, tf.float32), 0.0])
    size = tf.stack([rows, extent[1]])
    resized = resize_and_place(values, size, pixels / (cells * scale), shift, antialias=False)
    return tf.ensure_shape(resized, [rows, None, values.shape[-1]])


def prepare_views(image: tf.Tensor, config: Config) -> tf.Tensor:
    """Return all views of an image that the network sees in evaluation and serving. Graph code.

    "mirrored" adds the mirror image of the result of `prepare`. "center" takes the center crop of
    the image resized to each of `test_time.sides`; "ten" adds the corners, and mirrors all five
    (Krizhevsky et al. 2012, section 4.1), at several sizes as in He et al. 2015, section 3.4.

    Args:
        image: uint8 [any height, any width, C].

    Returns:
        An element of `input_spec(config)`: float32 [H, W, C], or [V, H, W, C] for several views;
        the image itself if answers have its size.
    """
    if config.prepare.keeps_size:
        return image
    test_time, shape = config.viewing, input_spec(config).shape[1:]
    if test_time.views == "one":
        return prepare(image, config.prepare)
    if test_time.views == "mirrored":
        view = prepare(image, config.prepare)
        return tf.stack([view, tf.reverse(view, [1])])
    crops = [
        crop
        for side in test_time.sides
        for crop in _crops(resize_short_side(image, side), config.prepare.size, test_time)
    ]
    return tf.reshape(normalize(tf.stack(crops), config.prepare), shape)


def whole_images(config: Prepare) -> Prepare:
    """Return the section. If it keeps the size of images, return a copy that stretches images to
    the network's input instead.
    """
    return config.model_copy(update={"resize": "stretch"}) if config.keeps_size else config


def input_spec(config: Config) -> tf.TensorSpec:
    """Return the spec of a batch from `prepare_views`: float32 [B, H, W, C], or [B, V, H, W, C] if
    V > 1; uint8 [B, any, any, C] for images that keep their size.
    """
    if config.prepare.keeps_size:
        return tf.TensorSpec([None, None, None, config.prepare.channels], tf.uint8, "image")
    sides = len(config.viewing.sides)
    views = {"one": 1, "mirrored": 2, "center": sides, "ten": 10 * sides}[config.viewing.views]
    shape = (*config.prepare.size, config.prepare.channels)
    return tf.TensorSpec([None, *(shape if views == 1 else (views, *shape))], name="image")


def resize_short_side(image: tf.Tensor, side: int | tf.Tensor) -> tf.Tensor:
    """Resize an image [any height, any width, C] to a shorter side of `side` pixels; float32."""
    extent = tf.cast(tf.shape(image)[:2], tf.float64)
    # Round, and never return less than `side` because of a rounding error in the quotient.
    scaled = tf.maximum(
        tf.cast(tf.round(extent * (tf.cast(side, tf.float64) / tf.reduce_min(extent))), tf.int32),
        side,
    )
    return tf.image.resize(image, scaled, antialias=True)


def restore_pixels(prepared: tf.Tensor, config: Prepare) -> tf.Tensor:
    """Convert prepared images to displayable pixels: float32 [..., C] to uint8 [..., C]; uint8 is
    returned unchanged.
    """
    if prepared.dtype == tf.uint8:
        return prepared
    pixels = restore_colors(prepared, config) * 255
    return tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.uint8)


def normalize_colors(images: tf.Tensor, config: Prepare) -> tf.Tensor:
    """Scale the colors of images of any size as `prepare` does: float32 [..., C] in 0…1."""
    mean, std = (tf.constant(values, tf.float32) for values in config.scaling)
    return (images - mean) / std


def restore_colors(prepared: tf.Tensor, config: Prepare) -> tf.Tensor:
    """Return the inverse of `normalize_colors`, float32 [..., C] in 0…1."""
    mean, std = (tf.constant(values, tf.float32) for values in config.scaling)
    return prepared * std + mean


def normalize(image: tf.Tensor, config: Prepare) -> tf.Tensor:
    """Normalize pixels, [..., H, W, C] in 0…255, to float32 of known shape."""
    mean, std = (
        np.broadcast_to(np.array(values, np.float32), [config.channels])
        for values in config.scaling
    )
    shape = [*image.shape[:-3], *config.size, config.channels]
    # Compute on whole rows: TensorFlow is several times slower if the last dimension is a single
    # pixel.
    rows = tf.reshape(tf.cast(image, tf.float32), [*shape[:-2], config.size[1] * config.channels])
    normalized = rows * np.tile(1 / (255 * std), config.size[1]) - np.tile(
        mean / std, config.size[1]
    )
    return tf.reshape(normalized, shape)


def _crops(image: tf.Tensor, size: tuple[int, int], config: TestTime) -> list[tf.Tensor]:
    room = tf.shape(image)[:2] - size
    corners = [room // 2]
    if config.views == "ten":
        corners += [room * corner for corner in ([0, 0], [0, 1], [1, 0], [1, 1])]
    places = map(tf.unstack, corners)
    crops = [
        tf.ensure_shape(image[top : top + size[0], left : left + size[1]], [*size, image.shape[-1]])
        for top, left in places
    ]
    return crops + [tf.reverse(crop, [1]) for crop in crops] if config.views == "ten" else crops


def _placement(extent: tf.Tensor, config: Prepare) -> tuple[tf.Tensor, tf.Tensor]:
    """Return scale and offset from fractions of the image to fractions of the network's input:
    float32 [..., 1, 4] each.
    """
    # An unreadable image has an extent of 0, which must not give NaN.
    extent = tf.maximum(extent, 1)
    scale, offset = tf.ones_like(extent, tf.float32), tf.zeros_like(extent, tf.float32)
    if config.resize == "crop":
        corner, cropped = (tf.cast(pixels, tf.float32) for pixels in _middle(extent, config.size))
        scale, offset = tf.cast(extent, tf.float32) / cropped, -corner / cropped
    if config.resize == "letterbox":
        corner, resized = (tf.cast(pixels, tf.float32) for pixels in _shown(extent, config.size))
        scale, offset = resized / config.size, corner / config.size
    return (
        tf.concat([scale, scale], -1)[..., tf.newaxis, :],
        tf.concat([offset, offset], -1)[..., tf.newaxis, :],
    )


def _letterbox(image: tf.Tensor, config: Prepare) -> tf.Tensor:
    """Center the whole image in the network's input; float32 [H, W, C]."""
    resized, around = _bars(image, config.size)
    color = 255 * tf.constant(config.bars, tf.float32)
    # tf.pad pads with zeros, so subtract the color first.
    padded = tf.pad(tf.image.resize(image, resized, antialias=True) - color, around) + color
    return tf.ensure_shape(padded, [*config.size, image.shape[-1]])


def _bars(image: tf.Tensor, size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the height and width, int32 [2], of an image [.., .., C] inside a letterbox, and its
    padding, int32 [3, 2].
    """
    corner, resized = _shown(tf.shape(image)[:2], size)
    return resized, tf.concat([tf.stack([corner, size - corner - resized], 1), [[0, 0]]], 0)


def _shown(extent: tf.Tensor, size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the corner and the size of the image within a letterbox, in pixels: int32 [..., 2]
    each.

    Lengths are rounded half up to whole pixels and are at least 1. The arithmetic is in integers
    throughout, so no platform rounds differently.
    """
    height, width = tf.unstack(tf.cast(extent, tf.int64), axis=-1)
    # The side that is longer, relative to the same side of the input, fills the input.
    by_height = height * size[1] >= width * size[0]
    high = tf.where(
        by_height, tf.constant(size[0], tf.int64), (2 * height * size[1] + width) // (2 * width)
    )
    wide = tf.where(
        by_height, (2 * width * size[0] + height) // (2 * height), tf.constant(size[1], tf.int64)
    )
    resized = tf.cast(tf.maximum(tf.stack([high, wide], -1), 1), tf.int32)
    return (size - resized) // 2, resized


def _crop_to_aspect(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Crop the largest centered part with the aspect ratio of `size`."""
    corner, cropped = _middle(tf.shape(image)[:2], size)
    (top, left), (height, width) = tf.unstack(corner), tf.unstack(cropped)
    return image[top : top + height, left : left + width]


def _middle(extent: tf.Tensor, size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Return corner and size of the part that `_crop_to_aspect` crops, int64 [..., 2] each.

    The arithmetic is in integers, so no platform rounds differently.
    """
    # 64 bits: width × size[0] may exceed 2³¹ for a very long image.
    height, width = tf.unstack(tf.cast(extent, tf.int64), axis=-1)
    high = tf.maximum(tf.minimum(height, width * size[0] // size[1]), 1)
    wide = tf.maximum(tf.minimum(width, height * size[1] // size[0]), 1)
    cropped = tf.stack([high, wide], -1)
    return (tf.stack([height, width], -1) - cropped) // 2, cropped
