"""Scenes of scikit-learn's real digits on cluttered backgrounds, with exact boxes and masks;
nothing is downloaded.

A scene is a function of (seed, split, number). Its background is a color gradient with noise,
filled ellipses and bars, and lines that are longer than any digit. Digits are enlarged bilinearly
and painted lighter or darker than their background.

Dimensions: N scenes of H × W pixels and C channels, T digits in all of them, h, w the height and
width of a patch.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.config.digits import DigitSceneMasks, DigitScenes
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.annotations.mask import BACKGROUND_NAME
from cvpipe.data.example import Example
from cvpipe.data.graph import in_memory
from cvpipe.data.sources.constructors import detection_source, segmentation_source
from cvpipe.data.sources.objects import collect
from cvpipe.data.sources.source import Source

CLASSES = tuple("0123456789")
# Part of the shuffled digits that each split draws from: begin and end, as shares of all digits.
HANDWRITING = {"test": (0.0, 0.2), "validation": (0.2, 0.3), "train": (0.3, 1.0)}
# Maximum overlap of two digits, as a share of the smaller one.
OVERLAP = 0.1
PLACES_TRIED = 20
MOST_CLUTTER = 5
# Range of the contrast between a digit and its background, for pixels in 0…255.
CONTRAST = (70, 150)


class Scenes(NamedTuple):
    """The scenes of a split."""

    images: np.ndarray
    """uint8 [N, H, W, C]."""
    masks: np.ndarray
    """uint8 [N, H, W]: 0 for background, else the digit + 1."""
    boxes: Boxes
    """The digits; each box is the smallest around the digit's pixels in the mask."""


@functools.lru_cache(maxsize=1)
def digit_scenes(config: DigitScenes) -> dict[str, Source]:
    """Return the splits "train", "validation" and "test". Images, uint8 [H, W, C], and masks stay
    in memory.
    """
    return {split: _source(split, config) for split in ("train", "validation", "test")}


def compose(config: DigitScenes, split: str) -> Scenes:
    """Draw all scenes of a split. A larger split begins with the scenes of a smaller one."""
    patches, labels = handwriting(split, config.seed)
    count, (height, width) = getattr(config, split), config.size
    images = np.zeros([count, height, width, config.channels], np.uint8)
    masks = np.zeros([count, height, width], np.uint8)
    boxes, digits, record = [], [], []
    for number in range(count):
        random = np.random.default_rng([config.seed, list(HANDWRITING).index(split), number])
        canvas = _background(random, height, width, config.channels)
        instances, chosen = _paint_digits(random, canvas, patches, config)
        images[number] = np.clip(np.rint(canvas), 0, 255).transpose(1, 2, 0)
        masks[number] = np.concatenate([[0], labels[chosen] + 1])[instances]
        boxes.append(_tight_boxes(instances, len(chosen)))
        digits.append(labels[chosen])
        record += [number] * len(chosen)
    flat = np.concatenate(boxes) / np.array([height, width, height, width])
    names = [_name(split, number) for number in range(count)]
    nothing = np.zeros(len(flat), bool)
    collected = collect(
        names, np.array(record), flat, np.concatenate(digits), nothing, nothing - 1.0, str
    )
    return Scenes(images, masks, collected)


def _source(split: str, config: DigitScenes) -> Source:
    scenes, with_masks = compose(config, split), isinstance(config, DigitSceneMasks)
    arrays = {
        "image": scenes.images,
        **({"mask": scenes.masks[..., np.newaxis]} if with_masks else {}),
    }
    held = {key: in_memory(array) for key, array in arrays.items()}

    def read_record(record: tf.Tensor) -> Example:
        return {
            key: tf.ensure_shape(tf.gather(held[key], record), array.shape[1:])
            for key, array in arrays.items()
        }

    def name_record(record: int) -> str:
        return _name(split, record)

    if with_masks:
        class_names = (BACKGROUND_NAME, *CLASSES)
        return segmentation_source(class_names, len(scenes.images), read_record, name_record)
    return detection_source(CLASSES, scenes.boxes, read_record, name_record)


def _name(split: str, number: int) -> str:
    return f"digit_scenes {split}[{number}]"


def handwriting(split: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the digits of a split: float32 [n, 8, 8], ink in 0…1, and uint8 [n]."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    first, last = (round(share * len(order)) for share in HANDWRITING[split])
    return (data.images[order[first:last]] / 16).astype(np.float32), data.target[
        order[first:last]
    ].astype(np.uint8)


def _background(random: np.random.Generator, height: int, width: int, channels: int) -> np.ndarray:
    """Draw a background, float32 [channels, height, width] in about 0…255. Channels come first,
    because NumPy is slow if the last dimension is short.
    """
    y, x = (
        np.linspace(-1, 1, height, dtype=np.float32)[:, None],
        np.linspace(-1, 1, width, dtype=np.float32),
    )

    def color(low: float, high: float) -> np.ndarray:
        return random.uniform(low, high, [channels, 1, 1]).astype(np.float32)

    angle = random.uniform(0, 2 * np.pi)
    slope = np.float32(np.cos(angle)) * y + np.float32(np.sin(angle)) * x
    canvas = slope * color(-40, 40) + color(-30, 30) + np.float32(random.uniform(40, 215))
    for _ in range(random.integers(MOST_CLUTTER + 1)):
        canvas += _clutter(random, height, width) * color(-60, 60)
    return canvas + random.standard_normal([height, width], np.float32) * np.float32(
        random.uniform(2, 10)
    )


def _clutter(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw a random shape's coverage of each pixel: float32 [height, width] in [0, 1]."""
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    angle = random.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dy, dx = y - np.float32(random.uniform(0, height)), x - np.float32(random.uniform(0, width))
    along, across = cos * dx + sin * dy, cos * dy - sin * dx
    kind, side = random.integers(3), min(height, width)
    if kind == 0:
        # A line as thick as ink, from edge to edge: a short line would look like the digit 1.
        return np.clip(np.float32(random.uniform(1, 3)) - abs(across), 0, 1)
    length, breadth = (random.uniform(0.05, 0.25, 2) * side).astype(np.float32)
    if kind == 1:
        return np.clip(
            (1 - np.hypot(along / length, across / breadth)) * min(length, breadth), 0, 1
        )
    return np.clip(np.minimum(length - abs(along), breadth - abs(across)), 0, 1)


def _paint_digits(
    random: np.random.Generator, canvas: np.ndarray, patches: np.ndarray, config: DigitScenes
) -> tuple[np.ndarray, np.ndarray]:
    """Paint digits onto the canvas. Return the number, from 1, of the digit at each pixel, uint8
    [H, W], and the patches of the digits.
    """
    instances = np.zeros(config.size, np.uint8)
    places: list[tuple[int, int, int, int]] = []
    chosen: list[int] = []
    for _ in range(random.integers(1, config.most_digits + 1)):
        height = int(random.integers(config.digit_sizes[0], config.digit_sizes[1] + 1))
        width = max(int(height * random.uniform(0.75, 1)), 8)
        place = _free_place(random, config.size, (height, width), places)
        if place is None:
            continue
        places.append(place)
        chosen.append(int(random.integers(len(patches))))
        cover = enlarge(patches[chosen[-1]], height, width)
        here = np.s_[place[0] : place[2], place[1] : place[3]]
        behind = canvas[:, *here]
        behind += cover * (choose_ink(random, behind, cover) - behind)
        instances[here][cover >= 0.5] = len(chosen)
    return instances, np.array(chosen)


def _free_place(
    random: np.random.Generator,
    extent: tuple[int, ...],
    size: tuple[int, int],
    taken: list[tuple[int, int, int, int]],
) -> tuple[int, int, int, int] | None:
    """Return top, left, bottom, right of a place with little overlap; None if none was found."""
    for top, left in random.integers(
        0, [extent[0] - size[0] + 1, extent[1] - size[1] + 1], (PLACES_TRIED, 2)
    ).tolist():
        bottom, right = top + size[0], left + size[1]
        shared = [
            max(min(bottom, b) - max(top, t), 0)
            * max(min(right, r) - max(left, q), 0)
            / min(size[0] * size[1], (b - t) * (r - q))
            for t, q, b, r in taken
        ]
        if max(shared, default=0) <= OVERLAP:
            return top, left, bottom, right
    return None


def choose_ink(random: np.random.Generator, behind: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Draw a color that differs from the background, float32 [C, 1, 1]. It is lighter or darker, at
    random if both are possible.
    """
    mean = (behind * cover).sum((1, 2), keepdims=True) / cover.sum()
    contrast = random.uniform(*CONTRAST)
    lighter = mean.mean() + contrast <= 255 and (
        mean.mean() - contrast < 0 or random.uniform() < 0.5
    )
    change = contrast * random.uniform(0.7, 1.3, mean.shape) * (1 if lighter else -1)
    return np.clip(mean + change, 0, 255).astype(np.float32)


def enlarge(patch: np.ndarray, height: int, width: int) -> np.ndarray:
    """Enlarge a digit; return its coverage of each pixel: float32 [height, width] in [0, 1]."""
    ink = _weights(height) @ patch @ _weights(width).T
    # Sharpen edges, with the same amount of ink for every size.
    return np.clip((ink - 0.2) / 0.4, 0, 1)


@functools.cache
def _weights(length: int) -> np.ndarray:
    """Return weights for bilinear interpolation of 8 pixels to `length` pixels, with half-pixel
    centers: float32 [length, 8].
    """
    centers = np.clip((np.arange(length) + 0.5) * 8 / length - 0.5, 0, 7)
    return np.maximum(0, 1 - abs(centers[:, None] - np.arange(8))).astype(np.float32)


def _tight_boxes(instances: np.ndarray, count: int) -> np.ndarray:
    """Return the smallest boxes around pixels of the values 1 … count, float64 [count, 4]."""
    boxes = np.zeros([count, 4])
    for number in range(count):
        ink = instances == number + 1
        (rows,), (columns,) = np.nonzero(ink.any(1)), np.nonzero(ink.any(0))
        boxes[number] = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    return boxes
