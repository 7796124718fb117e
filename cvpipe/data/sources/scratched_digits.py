"""Drawn labels with ten printed digits, some with a scratch or a blot, and exact masks of the
defects; nothing is downloaded.

An image depends only on (seed, split, number). As in a factory, all images show the same part: ten
of scikit-learn's handwritten digits, one of each class, in two rows on paper. They are slightly
displaced and lit from a random side. In the test split every second image has a defect: a thin
curve or a round spot, lighter or darker than its background.

Dimensions: N images of H × W pixels and C channels, h, w the height and width of a digit.
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from cvpipe.config.defect_sources import ScratchedDigits
from cvpipe.data.example import Example
from cvpipe.data.graph import in_memory
from cvpipe.data.sources.defects import GOOD, defect_source
from cvpipe.data.sources.digit_scenes import choose_ink, enlarge, handwriting
from cvpipe.data.sources.source import Source

CLASSES = (GOOD, "scratch", "blot")
SPLITS = ("train", "validation", "test")
ROWS = 2
LIGHT, TINT, SLOPE, NOISE = (200, 212), 3, 8, (2.0, 4.0)
"""For pixels in 0…255. LIGHT: range of the paper's brightness. TINT: largest difference of a color
channel from this brightness. SLOPE: largest difference between the brightness at an edge of the
image and this brightness. NOISE: range of the noise's standard deviation.
"""
INK = (90, 100)
"""Range of the difference between ink and paper, for pixels in 0…255."""
ASIDE = 0.01
"""Largest displacement of the print, as a share of the shorter side."""
LENGTH = (0.25, 0.6)
"""Range of the distance between the ends of a scratch, as a share of the shorter side."""
BREADTH = (1.0, 2.5)
"""Range of the width of a scratch, pixels."""
RADIUS = (0.025, 0.06)
"""Range of the radius of a blot, as a share of the shorter side."""
SHOWN = 0.3
"""Share of a pixel that a defect must cover to be part of the mask."""


@functools.lru_cache(maxsize=1)
def scratched_digits(config: ScratchedDigits) -> dict[str, Source]:
    """Return the splits "train", "validation" and "test"; images, uint8 [H, W, C], and masks are
    kept in memory.
    """
    return {split: _source(split, config) for split in SPLITS}


def draw_labels(config: ScratchedDigits, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the images of a split: uint8 [N, H, W, C]; masks uint8 [N, H, W], 0 where there is no
    defect, else the class; and classes int32 [N], positions in CLASSES.
    """
    digits = _digits(config)
    count, (height, width) = getattr(config, split), config.size
    images = np.zeros([count, height, width, config.channels], np.uint8)
    masks, classes = np.zeros([count, height, width], np.uint8), np.zeros(count, np.int32)
    for number in range(count):
        random = np.random.default_rng([config.seed, SPLITS.index(split), number])
        canvas = _paper(random, config)
        canvas -= _print(random, digits, config) * np.float32(random.uniform(*INK))
        if split == "test" and number % 2:
            classes[number] = 1 + number // 2 % 2
            cover = [_scratch, _blot][classes[number] - 1](random, config.size)
            canvas += cover * (choose_ink(random, canvas, cover) - canvas)
            masks[number][cover >= SHOWN] = classes[number]
        images[number] = np.clip(np.rint(canvas), 0, 255).transpose(1, 2, 0)
    return images, masks, classes


def _source(split: str, config: ScratchedDigits) -> Source:
    images, masks, classes = draw_labels(config, split)
    held = {"image": in_memory(images), "mask": in_memory(masks[..., np.newaxis])}

    def read_record(record: tf.Tensor) -> Example:
        return {
            key: tf.ensure_shape(tf.gather(values, record), values.shape[1:])
            for key, values in held.items()
        }

    return defect_source(
        CLASSES, classes, read_record, lambda record: f"scratched_digits {split}[{record}]"
    )


def _digits(config: ScratchedDigits) -> list[np.ndarray]:
    """Return one handwritten example of each digit, as the ink's coverage of each pixel: ten arrays
    float32 [h, w] in 0…1.
    """
    patches, digits = handwriting("train", config.seed)
    height = int(0.7 * config.size[0] / ROWS)
    width = int(0.9 * config.size[1] * ROWS / 10)
    first = [patches[np.argmax(digits == digit)] for digit in range(10)]
    return [enlarge(patch, height, width) for patch in first]


def _paper(random: np.random.Generator, config: ScratchedDigits) -> np.ndarray:
    """Draw light paper with a gradient of brightness and noise, float32 [C, H, W] in 0…255."""
    y, x = (np.linspace(-1, 1, length, dtype=np.float32) for length in config.size)
    angle, light = random.uniform(0, 2 * np.pi), random.uniform(*LIGHT)
    slope = np.float32(np.cos(angle)) * y[:, np.newaxis] + np.float32(np.sin(angle)) * x
    tint = random.uniform(-TINT, TINT, (config.channels, 1, 1))
    noise = random.standard_normal(config.size, np.float32) * random.uniform(*NOISE)
    paper: np.ndarray = (light + tint + SLOPE * slope + noise).astype(np.float32)
    return paper


def _print(
    random: np.random.Generator, digits: list[np.ndarray], config: ScratchedDigits
) -> np.ndarray:
    """Print the digits in rows. Return the ink's coverage of each pixel, float32 [H, W] in 0…1."""
    cover, per_row = np.zeros(config.size, np.float32), len(digits) // ROWS
    most = round(ASIDE * min(config.size))
    aside = random.integers(-most, most + 1, 2)
    for number, digit in enumerate(digits):
        cell = np.array(config.size) / (ROWS, per_row)
        center = (np.array(divmod(number, per_row)) + 0.5) * cell
        top, left = np.maximum(np.round(center - np.array(digit.shape) / 2).astype(int) + aside, 0)
        here = cover[top : top + digit.shape[0], left : left + digit.shape[1]]
        here[:] = np.maximum(here, digit[: here.shape[0], : here.shape[1]])
    return cover


def _scratch(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Draw a Bézier curve with three control points: the coverage of each pixel, float32 [H, W] in
    0…1.
    """
    side, angle = min(size), random.uniform(0, np.pi)
    along = random.uniform(*LENGTH) * side / 2 * np.array([np.sin(angle), np.cos(angle)])
    center = random.uniform(np.abs(along), np.array(size) - np.abs(along))
    bend = center + random.uniform(-0.5, 0.5) * along[::-1] * [1, -1]
    share = np.linspace(0, 1, 2 * side)[:, np.newaxis]
    curve = (
        (1 - share) ** 2 * (center - along)
        + 2 * share * (1 - share) * bend
        + share**2 * (center + along)
    )
    nearest = np.full(size, np.inf)
    for place in curve:
        nearest = np.minimum(nearest, _distances(size, place))
    return np.clip(random.uniform(*BREADTH) / 2 + 0.5 - nearest, 0, 1).astype(np.float32)


def _blot(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Draw a round spot: the coverage of each pixel, float32 [H, W] in 0…1."""
    radius = max(random.uniform(*RADIUS) * min(size), 1.5)
    place = random.uniform(radius, np.array(size) - radius)
    return np.clip(radius + 0.5 - _distances(size, place), 0, 1).astype(np.float32)


def _distances(size: tuple[int, int], place: np.ndarray) -> np.ndarray:
    """Return the distance of each pixel's center from a point, float [H, W]."""
    y, x = (np.arange(length) + 0.5 - at for length, at in zip(size, place, strict=True))
    return np.hypot(y[:, np.newaxis], x)
