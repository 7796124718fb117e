"""Common corruptions: 15 kinds at five severities (Hendrycks and Dietterich 2019, "Benchmarking
neural network robustness to common corruptions and perturbations").

The kinds and most constants are those of the paper, for images of 224 pixels; the functions were
written for cvpipe. Lengths in pixels grow with the shorter side of an image. Frost, snow and fog
are generated, not taken from photos.

Functions in this folder take an image float64 [H, W, C] in 0…1, C = 1 or 3, a severity in 0…4, a
generator and the scale, which is the shorter side / 224; they return the same shape, with values
that may exceed 0…1. Random draws don't depend on the severity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from cvpipe.explain.corruption.blur import defocus_blur, glass_blur, motion_blur, zoom_blur
from cvpipe.explain.corruption.digital import (
    brightness,
    contrast,
    elastic_transform,
    jpeg_compression,
    pixelate,
)
from cvpipe.explain.corruption.noise import gaussian_noise, impulse_noise, shot_noise
from cvpipe.explain.corruption.weather import fog, frost, snow

Corrupt = Callable[[np.ndarray, int, np.random.Generator, float], np.ndarray]
CORRUPTIONS: Mapping[str, Corrupt] = {
    function.__name__: function
    for function in (
        gaussian_noise,
        shot_noise,
        impulse_noise,
        defocus_blur,
        glass_blur,
        motion_blur,
        zoom_blur,
        snow,
        frost,
        fog,
        brightness,
        contrast,
        elastic_transform,
        pixelate,
        jpeg_compression,
    )
}
SEVERITIES = (1, 2, 3, 4, 5)
PAPER_SIDE = 224


def corrupt(image: np.ndarray, kind: str, severity: int, seed: tuple[int, int]) -> np.ndarray:
    """Return a corrupted image, uint8 [H, W, C], the same for the same arguments.

    Args:
        image: uint8 [H, W, C], C = 1 or 3, of any size.
        kind: a key of CORRUPTIONS.
        severity: 1 to 5.
        seed: two numbers of at least 0, such as a seed and the image's number.
    """
    random = np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([*seed, list(CORRUPTIONS).index(kind)]))
    )
    scale = min(image.shape[:2]) / PAPER_SIDE
    changed = CORRUPTIONS[kind](image / 255.0, severity - 1, random, scale)
    return np.round(255 * np.clip(changed, 0, 1)).astype(np.uint8)
