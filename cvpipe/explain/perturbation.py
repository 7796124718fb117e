"""Maps computed from the scores of partly hidden images: float32 [B, H, W]."""

from __future__ import annotations

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
        classes: one for each image.
        patch: side of the patch.
        stride: distance between patches.
        fill: value of hidden pixels; 0 is the mean color of normalized images.
        batch: number of hidden images per call.
    """
    height, width = images.shape[1:3]
    masks = _patches(height, width, patch, stride)
    whole = score(images, classes)
    falls = whole[:, tf.newaxis] - _scores_of_masked(score, images, classes, 1 - masks, fill, batch)
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
    """Return the mean score of the random masks that show a pixel (Petsiuk et al. 2018, equation
    6).

    Args:
        score: score of a class.
        images: prepared images of known size.
        classes: one for each image.
        seed: int64 [2].
        masks: number of masks; they are the same for all images.
        cells: rows and columns of the coarse mask.
        share: share of the cells that are shown.
        fill: value of hidden pixels.
        batch: number of hidden images per call.
    """
    shown = _random_masks(images.shape[1], images.shape[2], seed, masks, cells, share)
    scores = _scores_of_masked(score, images, classes, shown, fill, batch)
    return tf.einsum("bn,nhw->bhw", scores, shown) / (masks * share)


def _scores_of_masked(
    score: Score, images: tf.Tensor, classes: tf.Tensor, shown: tf.Tensor, fill: float, batch: int
) -> tf.Tensor:
    """Return the scores of all images under all masks, [B, N], for masks [N, H, W] that are 1 for
    visible pixels.
    """
    number, (height, width, channels) = tf.shape(images)[0], images.shape[1:]
    count = shown.shape[0]
    parts = -(-count // batch)
    padded = tf.pad(shown, [[0, parts * batch - count], [0, 0], [0, 0]])
    batches = tf.reshape(padded, [parts, batch, height, width, 1])
    repeated = tf.reshape(tf.tile(classes[:, tf.newaxis], [1, batch]), [-1])

    def scores(own: tf.Tensor) -> tf.Tensor:
        hidden = images[:, tf.newaxis] * own + fill * (1 - own)
        flat = tf.reshape(hidden, [-1, height, width, channels])
        return tf.reshape(score(flat, repeated), [number, batch])

    each = tf.map_fn(scores, batches, fn_output_signature=tf.float32, parallel_iterations=1)
    return tf.reshape(tf.transpose(each, [1, 0, 2]), [number, parts * batch])[:, :count]


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


def _random_masks(
    height: int, width: int, seed: tf.Tensor, masks: int, cells: int, share: float
) -> tf.Tensor:
    """Return smooth random masks [N, H, W] in 0…1, each shifted within a cell."""
    sides = (-(-height // cells), -(-width // cells))
    size = ((cells + 1) * sides[0], (cells + 1) * sides[1])
    grid_seed, shift_seed = tf.unstack(
        tf.random.stateless_uniform([2, 2], seed, None, None, tf.int64)
    )
    coarse = [masks, cells + 1, cells + 1, 1]
    grid = tf.random.stateless_uniform(coarse, grid_seed) < share
    shift = tf.random.stateless_uniform([masks, 2], shift_seed)
    shift = tf.cast(shift * tf.constant(sides, tf.float32), tf.int32)

    def cut(drawn: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        coarse, corner = drawn
        return tf.slice(tf.image.resize(coarse, size)[..., 0], corner, [height, width])

    cuts = tf.map_fn(cut, (tf.cast(grid, tf.float32), shift), fn_output_signature=tf.float32)
    return tf.ensure_shape(cuts, [masks, height, width])
