"""Changes of brightness and contrast, elastic distortion, pixelation and JPEG compression."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from cvpipe.explain.corruption.blur import gaussian, move

BRIGHTER = (0.1, 0.2, 0.3, 0.4, 0.5)
CONTRASTS = (0.4, 0.3, 0.2, 0.1, 0.05)
BENDS = (1.0, 1.5, 2.0, 3.0, 4.0)
"""Standard deviation of a pixel's displacement."""
PIXELS = (0.6, 0.5, 0.4, 0.3, 0.25)
QUALITIES = (25, 18, 15, 10, 7)
_SMOOTH = 5


def brightness(
    image: np.ndarray, severity: int, random: np.random.Generator, scale: float
) -> np.ndarray:
    """Add BRIGHTER to each pixel's value in HSV, which is its largest channel, and keep hue and
    saturation.
    """
    value = image.max(axis=-1, keepdims=True)
    brighter = np.minimum(value + BRIGHTER[severity], 1)
    return np.where(value > 0, image * brighter / np.where(value > 0, value, 1), brighter)


def contrast(
    image: np.ndarray, severity: int, random: np.random.Generator, scale: float
) -> np.ndarray:
    """Scale the differences from each channel's mean by CONTRASTS."""
    mean = image.mean(axis=(0, 1), keepdims=True)
    return mean + CONTRASTS[severity] * (image - mean)


def elastic_transform(
    image: np.ndarray, severity: int, random: np.random.Generator, scale: float
) -> np.ndarray:
    """Displace pixels by BENDS along smooth random fields (Simard et al. 2003).

    The paper also applies a random affine map, and only some of the paper's constants grow with the
    severity. This function applies no affine map, so that objects stay in place.
    """
    drawn = random.standard_normal((*image.shape[:2], 2))
    fields = np.moveaxis(gaussian(drawn, _SMOOTH * scale), -1, 0)
    spread = fields.std() or 1.0
    return move(image, BENDS[severity] * scale * fields / spread)


def pixelate(
    image: np.ndarray, severity: int, random: np.random.Generator, scale: float
) -> np.ndarray:
    """Shrink each side to the share PIXELS by averaging, and enlarge by repeating pixels."""
    height, width = image.shape[:2]
    share = PIXELS[severity]
    small = (max(int(width * share), 1), max(int(height * share), 1))
    return _array(
        _picture(image)
        .resize(small, Image.Resampling.BOX)
        .resize((width, height), Image.Resampling.NEAREST)
    )


def jpeg_compression(
    image: np.ndarray, severity: int, random: np.random.Generator, scale: float
) -> np.ndarray:
    """Encode as JPEG with the quality QUALITIES, and decode."""
    encoded = io.BytesIO()
    _picture(image).save(encoded, "JPEG", quality=QUALITIES[severity])
    return _array(Image.open(encoded))


def _picture(image: np.ndarray) -> Image.Image:
    pixels = np.round(255 * image).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _array(picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture) / 255.0
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
