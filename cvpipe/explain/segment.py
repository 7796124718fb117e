"""Superpixels by scikit-image, and segmentation from a map by OpenCV."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.errors import ConfigError
from cvpipe.explain.perturbation import scores_of_masked
from cvpipe.explain.score import Score

FOREGROUND, BACKGROUND = 0.95, 0.3
"""Quantiles of importance: pixels above FOREGROUND are certainly object, and pixels below
BACKGROUND certainly background (Simonyan et al. 2014, section 3.2).
"""


def superpixel_occlusion(
    score: Score,
    images: tf.Tensor,
    classes: tf.Tensor,
    *,
    regions: int = 48,
    fill: float = 0.0,
    batch: int = 64,
) -> tf.Tensor:
    """Return the decrease of the score when the superpixel of a pixel is hidden, float32 [B, H, W].
    SLIC computes the superpixels (Achanta et al. 2012).

    Args:
        score: score of a class.
        images: prepared images of known size.
        classes: one class for each image.
        regions: approximate number of superpixels.
        fill: value of hidden pixels; 0 is the mean color of normalized images.
        batch: number of masked images per call.
    """
    # SLIC can make a few more superpixels than requested; the last ones are joined.
    most = regions + regions // 4

    def fall(pair: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, label = pair
        found = tf.numpy_function(lambda array: superpixels(array, regions), [image], tf.int32)
        masks = tf.one_hot(tf.minimum(found, most - 1), most, axis=0)
        visible = 1 - tf.ensure_shape(masks, [most, *image.shape[:2]])
        scores = scores_of_masked(score, image[tf.newaxis], label[tf.newaxis], visible, fill, batch)
        falls = score(image[tf.newaxis], label[tf.newaxis]) - scores[0]
        return tf.einsum("n,nhw->hw", falls, 1 - visible)

    spec = tf.TensorSpec(images.shape[1:3], tf.float32)
    return tf.map_fn(fall, (images, classes), fn_output_signature=spec, parallel_iterations=1)


def superpixels(image: np.ndarray, regions: int) -> np.ndarray:
    """Return the number of each pixel's superpixel from 0, int32 [H, W].

    Args:
        image: float [H, W, C], in any range.
        regions: approximate number of superpixels.
    """
    low, spread = image.min(), np.ptp(image) or 1.0
    scaled = (image - low) / spread
    gray = image.shape[-1] != 3
    found = find_slic()(
        scaled.mean(-1) if gray else scaled,
        n_segments=regions,
        compactness=0.1 if gray else 10,
        start_label=0,
        channel_axis=None if gray else -1,
    )
    return np.asarray(found, np.int32)


def find_slic() -> Any:
    """Return scikit-image's SLIC.

    Raises:
        ConfigError: scikit-image isn't installed.
    """
    try:
        return importlib.import_module("skimage.segmentation").slic
    except ImportError:
        raise ConfigError(
            "--method superpixels: scikit-image is not installed; run pip install"
            " 'cvpipe[explain]', or choose occlusion"
        ) from None


def cut_out(pixels: np.ndarray, importance: np.ndarray, steps: int = 5) -> np.ndarray:
    """Return the pixels of the object that a map points at, bool [H, W], by GrabCut (Rother et al.
    2004), which extends the most important pixels to pixels with similar colors, and avoids the
    colors of the least important pixels.

    Args:
        pixels: uint8 [H, W, C].
        importance: float [H, W].
        steps: number of GrabCut's iterations.

    Raises:
        ConfigError: OpenCV isn't installed.
    """
    try:
        cv2: Any = importlib.import_module("cv2")
    except ImportError:
        raise ConfigError(
            "--cut: OpenCV is not installed; run pip install 'cvpipe[explain]'"
        ) from None
    low, high = np.quantile(importance, [BACKGROUND, FOREGROUND])
    mask = np.full(importance.shape, cv2.GC_PR_BGD, np.uint8)
    mask[importance < low] = cv2.GC_BGD
    # If many pixels of a map are equal, both thresholds are equal, too.
    mask[(importance >= high) & (importance > low)] = cv2.GC_FGD
    if not (mask == cv2.GC_FGD).any():
        return np.zeros(mask.shape, bool)
    image = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    # GrabCut begins with k-means from random colors.
    cv2.setRNGSeed(0)
    models = [np.zeros((1, 65)), np.zeros((1, 65))]
    cv2.grabCut(image, mask, None, *models, steps, cv2.GC_INIT_WITH_MASK)
    return np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD))
