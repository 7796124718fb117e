"""Maps computed from the scores of partly hidden images: float32 [B, H, W]."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from cvpipe.explain.score import Score


def occlusion(
    score: Score,
    images: tf.Tensor,
    classes: tf.Tensor,
    *,
    patch: int,
    stride: int,
    fill: float = 0.0,
    batch: int = 64,
) -> tf.Tensor:
    """Return the mean decrease of the score over all patches that hide a pixel (Zeiler and Fergus
    2014, section 4.2).

    Args:
        score: score of a class.
        images: prepared images of known size.
        classes: one class for each image.
        patch: side of the patch.
        stride: distance between patches.
        fill: value of hidden pixels; 0 is the color `prepare.mean`, or black if the network's first
            layer normalizes.
        batch: largest number of masked images per call.
    """
    height, width = images.shape[1:3]
    masks = _patches(height, width, patch, stride)
    whole = score(images, classes)
    falls = whole[:, tf.newaxis] - scores_of_masked(score, images, classes, 1 - masks, fill, batch)
    hidden = tf.reduce_sum(masks, axis=0)
    return tf.math.divide_no_nan(tf.einsum("bn,nhw->bhw", falls, masks), hidden)


def rise(
    score: Score,
    images: tf.Tensor,
    classes: tf.Tensor,
    *,
    seed: tf.Tensor,
    masks: int = 1000,
    cells: int = 7,
    share: float = 0.5,
    fill: float = 0.0,
    batch: int = 64,
) -> tf.Tensor:
    """Return, for each pixel, the mean score under the random masks that show it (Petsiuk et al.
    2018, equation 6).

    Args:
        score: score of a class.
        images: prepared images of known size.
        classes: one class for each image.
        seed: int64 [2].
        masks: number of masks; they are the same for all images.
        cells: rows and columns of the coarse mask.
        share: share of the cells that are shown.
        fill: value of hidden pixels.
        batch: largest number of masked images per call.
    """
    height, width = images.shape[1:3]
    parts = -(-masks // batch)
    each = -(-masks // parts)
    sides = (-(-height // cells), -(-width // cells))
    grids, shifts = _random_grids(seed, masks, cells, share, sides)
    # Additional masks hide everything and add nothing.
    more = parts * each - masks
    grids = tf.reshape(tf.pad(grids, [[0, more], [0, 0], [0, 0]]), [parts, each, *grids.shape[1:]])
    shifts = tf.reshape(tf.pad(shifts, [[0, more], [0, 0]]), [parts, each, 2])

    def add(part: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        visible = smooth_masks(grids[part], shifts[part], (height, width), sides)
        scores = _each(lambda pair: _hidden(score, *pair, visible, fill), images, classes, [each])
        return part + 1, total + tf.einsum("bn,nhw->bhw", scores, visible)

    nothing = tf.zeros_like(images[..., 0])
    total = tf.while_loop(lambda part, _: part < parts, add, (0, nothing), parallel_iterations=1)[1]
    return total / (masks * share)


def scores_of_masked(
    score: Score, images: tf.Tensor, classes: tf.Tensor, masks: tf.Tensor, fill: float, batch: int
) -> tf.Tensor:
    """Return the scores of all images under all masks, [B, N].

    Args:
        score: score of a class.
        images: prepared images of known size.
        classes: one class for each image.
        masks: float32 [N, H, W], 1 for visible pixels; N is known.
        fill: value of hidden pixels.
        batch: largest number of masked images per call.
    """
    count, *size = masks.shape
    parts = -(-count // batch)
    each = -(-count // parts)
    padded = tf.pad(masks, [[0, parts * each - count], [0, 0], [0, 0]])
    batches = tf.reshape(padded, [parts, each, *size])

    def of_image(pair: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        scores = tf.map_fn(
            lambda masks: _hidden(score, *pair, masks, fill),
            batches,
            fn_output_signature=tf.TensorSpec([each]),
            parallel_iterations=1,
        )
        return tf.reshape(scores, [-1])[:count]

    return _each(of_image, images, classes, [count])


def _each(
    of_image: Callable[[tuple[tf.Tensor, tf.Tensor]], tf.Tensor],
    images: tf.Tensor,
    classes: tf.Tensor,
    shape: Sequence[int],
) -> tf.Tensor:
    """Return results float32 [B, *shape]; one image at a time, which bounds memory."""
    spec = tf.TensorSpec(shape, tf.float32)
    return tf.map_fn(of_image, (images, classes), fn_output_signature=spec, parallel_iterations=1)


def _hidden(
    score: Score, image: tf.Tensor, label: tf.Tensor, masks: tf.Tensor, fill: float
) -> tf.Tensor:
    """Return the scores of an image [H, W, C] under masks [n, H, W]: [n]."""
    hidden = masks[..., tf.newaxis] * (image - fill) + fill
    return score(hidden, tf.repeat(label, masks.shape[0]))


def _patches(height: int, width: int, patch: int, stride: int) -> tf.Tensor:
    """Return masks [N, H, W] that are 1 in a patch. The last patch of a row or column ends at the
    border.
    """

    def begins(length: int) -> list[int]:
        last = max(length - patch, 0)
        return sorted({*range(0, last, stride), last})

    def within(length: int) -> tf.Tensor:
        begin = tf.constant(begins(length))[:, tf.newaxis]
        place = tf.range(length)[tf.newaxis]
        return tf.cast((place >= begin) & (place < begin + patch), tf.float32)

    rows, columns = within(height), within(width)
    masks = rows[:, tf.newaxis, :, tf.newaxis] * columns[tf.newaxis, :, tf.newaxis, :]
    return tf.reshape(masks, [-1, height, width])


def _random_grids(
    seed: tf.Tensor, masks: int, cells: int, share: float, sides: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return coarse masks of 0 and 1, float32 [N, cells + 1, cells + 1], and the shift of each mask
    in pixels, less than the sides of a cell: float32 [N, 2].
    """
    grid_seed, shift_seed = tf.unstack(
        tf.random.stateless_uniform([2, 2], seed, None, None, tf.int64)
    )
    coarse = [masks, cells + 1, cells + 1]
    grids = tf.random.stateless_uniform(coarse, grid_seed) < share
    shift = tf.random.stateless_uniform([masks, 2], shift_seed)
    return tf.cast(grids, tf.float32), tf.floor(shift * tf.constant(sides, tf.float32))


def smooth_masks(
    grids: tf.Tensor, shifts: tf.Tensor, size: tuple[int, int], sides: tuple[int, int]
) -> tf.Tensor:
    """Enlarge coarse masks bilinearly, and cut a part out of each.

    Args:
        grids: float32 [n, c, c].
        shifts: float32 [n, 2], first row and column of the parts; integers.
        size: (H, W) of the parts.
        sides: height and width of an enlarged cell.

    Returns:
        float32 [n, H, W].
    """
    cells = grids.shape[-1]

    def weights(axis: int) -> tf.Tensor:
        pixels = tf.range(size[axis], dtype=tf.float32) + shifts[:, axis, tf.newaxis] + 0.5
        places = tf.clip_by_value(pixels / sides[axis] - 0.5, 0.0, cells - 1.0)
        distance = places[..., tf.newaxis] - tf.range(cells, dtype=tf.float32)
        return tf.maximum(1 - tf.abs(distance), 0.0)

    return tf.einsum("nyg,ngk,nxk->nyx", weights(0), grids, weights(1))
