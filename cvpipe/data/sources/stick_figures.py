"""Stick figures on clutter, with exact joint positions; nothing is downloaded.

An image is a function of (seed, split, number). Its background is a color gradient with noise and
bars. The figure is drawn over it with smooth edges, and sometimes a bar over the figure. All
figures face the viewer: their left elbow and knee are to the right of the spine in the image. A
mirror image with left and right swapped is a valid figure.

Dimensions: N images of H × W pixels and C channels, P joints.
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from cvpipe.config.keypoint_sources import StickFigures
from cvpipe.data.annotations.flip_pairs import flip_pairs_of
from cvpipe.data.annotations.keypoints import HIDDEN, VISIBLE
from cvpipe.data.example import Example
from cvpipe.data.facts import Facts
from cvpipe.data.graph import in_memory
from cvpipe.data.sources.keypoints import keypoint_source
from cvpipe.data.sources.objects import collect
from cvpipe.data.sources.source import Source

JOINTS = (
    "head",
    "neck",
    "left_elbow",
    "right_elbow",
    "left_hand",
    "right_hand",
    "hip",
    "left_knee",
    "right_knee",
    "left_foot",
    "right_foot",
)
# Joint, parent joint, their distance, and the range of the bone's angle in radians from straight
# down, positive toward the image's right (the figure's left). Angles of hands and feet are relative
# to the parent bone.
BONES = (
    ("neck", "hip", 0.9, (np.pi - 0.35, np.pi + 0.35)),
    ("head", "neck", 0.45, (np.pi - 0.3, np.pi + 0.3)),
    ("left_elbow", "neck", 0.55, (0.2, 2.4)),
    ("left_hand", "left_elbow", 0.5, (-0.3, 1.4)),
    ("right_elbow", "neck", 0.55, (-2.4, -0.2)),
    ("right_hand", "right_elbow", 0.5, (-1.4, 0.3)),
    ("left_knee", "hip", 0.65, (0.1, 1.2)),
    ("left_foot", "left_knee", 0.65, (-0.9, 0.3)),
    ("right_knee", "hip", 0.65, (-1.2, -0.1)),
    ("right_foot", "right_knee", 0.65, (-0.3, 0.9)),
)
SKELETON = tuple((JOINTS.index(parent), JOINTS.index(child)) for child, parent, _, _ in BONES)
SPLITS = ("train", "validation", "test")
HEAD = 0.22
"""Radius of the head, in the unit of the bones' lengths."""
THICKNESS = (0.1, 0.16)
MOST_BARS = 6
OCCLUDED = 0.3
"""Share of figures with a bar in front of them."""
SHADES = 35
"""Largest difference of a bone's color from the figure's, for pixels in 0…255."""


@functools.lru_cache(maxsize=1)
def stick_figures(config: StickFigures) -> dict[str, Source]:
    """Return the splits "train", "validation" and "test"; images, uint8 [H, W, C], stay in
    memory.
    """
    return {split: _source(split, config) for split in SPLITS}


def draw_figure(
    config: StickFigures, split: str, number: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one image: uint8 [H, W, C], the joints' positions float64 [P, 2] (y, x in pixels from
    the top left corner) and their visibility int32 [P].
    """
    random = np.random.default_rng([config.seed, SPLITS.index(split), number])
    canvas = _background(random, config.size)
    unit, joints = _pose(random, config)
    _paint_figure(random, canvas, joints, unit)
    visibility = np.full(len(JOINTS), VISIBLE, np.int32)
    if random.uniform() < OCCLUDED:
        cover = _bar(random, config.size, joints[random.integers(len(JOINTS))])
        canvas += cover[..., np.newaxis] * (random.uniform(0, 255, 3) - canvas)
        rows, columns = joints.astype(int).T
        visibility[cover[rows, columns] > 0.5] = HIDDEN
    pixels = np.clip(np.rint(canvas), 0, 255)
    if config.channels == 1:
        pixels = np.rint(pixels @ [0.299, 0.587, 0.114])[..., np.newaxis]
    return pixels.astype(np.uint8), joints, visibility


def _source(split: str, config: StickFigures) -> Source:
    count, extent = getattr(config, split), np.array(config.size)
    drawn = [draw_figure(config, split, number) for number in range(count)]
    images, joints, visibility = (np.stack(part) for part in zip(*drawn, strict=True))
    places = joints / extent
    boxes = np.concatenate([places.min(1), places.max(1)], axis=1)
    nothing = np.zeros(count, bool)
    figures = collect(
        [_name(split, number) for number in range(count)],
        np.arange(count),
        boxes,
        np.zeros(count, np.int32),
        nothing,
        nothing - 1.0,
        str,
        more={"keypoints": places.astype(np.float32), "visibility": visibility},
    )
    held = in_memory(images)

    def read_record(record: tf.Tensor) -> Example:
        return {"image": tf.ensure_shape(tf.gather(held, record), images.shape[1:])}

    facts = Facts(("figure",), JOINTS, flip_pairs_of(JOINTS), SKELETON)
    return keypoint_source(facts, figures, read_record, functools.partial(_name, split))


def _name(split: str, number: int) -> str:
    return f"stick_figures {split}[{number}]"


def _pose(random: np.random.Generator, config: StickFigures) -> tuple[float, np.ndarray]:
    """Return the scale in pixels per unit length and the joints' positions, float64 [P, 2] in
    pixels. The whole figure is inside the image.
    """
    places, angles = {"hip": np.zeros(2)}, {"hip": 0.0}
    for child, parent, length, (low, high) in BONES:
        follows = parent.endswith(("elbow", "knee"))
        angle = (angles[parent] if follows else 0.0) + random.uniform(low, high)
        angles[child] = angle
        places[child] = places[parent] + length * np.array([np.cos(angle), np.sin(angle)])
    joints = np.stack([places[name] for name in JOINTS])
    low, high = joints.min(0) - HEAD, joints.max(0) + HEAD
    longest = random.uniform(*config.heights) * min(config.size)
    unit = longest / (high - low).max()
    room = np.array(config.size) - (high - low) * unit
    return float(unit), (joints - low) * unit + random.uniform(0, room)


def _paint_figure(
    random: np.random.Generator, canvas: np.ndarray, joints: np.ndarray, unit: float
) -> None:
    # Of three random colors, take the color farthest from the mean color of the background.
    drawn = random.uniform(0, 255, (3, 3))
    color = drawn[np.argmax(np.linalg.norm(drawn - canvas.mean((0, 1)), axis=1))]
    shades = random.uniform(-SHADES, SHADES, (len(BONES) + 1, 1))
    colors = np.clip(color + shades, 0, 255).astype(np.float32)
    breadth = max(random.uniform(*THICKNESS) * unit, 1.5)
    for color, (parent, child) in zip(colors, SKELETON, strict=False):
        _paint(canvas, joints[parent], joints[child], breadth / 2, color)
    head = joints[JOINTS.index("head")]
    _paint(canvas, head, head, HEAD * unit, colors[-1])


def _background(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Draw a background, float32 [H, W, 3] in about 0…255."""
    y, x = (np.linspace(-1, 1, length, dtype=np.float32) for length in size)
    angle = random.uniform(0, 2 * np.pi)
    slope = np.float32(np.cos(angle)) * y[:, np.newaxis] + np.float32(np.sin(angle)) * x
    colors = random.uniform([[-30], [20]], [[30], [235]], (2, 3)).astype(np.float32)
    canvas = slope[..., np.newaxis] * colors[0] + colors[1]
    for _ in range(random.integers(MOST_BARS + 1)):
        first, last = random.uniform(0, size, (2, 2))
        color = random.uniform(0, 255, 3).astype(np.float32)
        _paint(canvas, first, last, random.uniform(0.5, 0.05 * min(size)), color)
    noise = random.standard_normal(size, np.float32)[..., np.newaxis]
    return canvas + noise * np.float32(random.uniform(2, 10))


def _bar(random: np.random.Generator, size: tuple[int, int], center: np.ndarray) -> np.ndarray:
    """Return the coverage of each pixel by a bar around a point, float32 [H, W] in 0…1."""
    angle, reach = random.uniform(0, np.pi), random.uniform(0.05, 0.2) * min(size)
    along = reach * np.array([np.sin(angle), np.cos(angle)])
    breadth = random.uniform(0.03, 0.06) * min(size)
    whole = np.zeros([*size, 1], np.float32)
    _paint(whole, center - along, center + along, breadth, np.ones(1, np.float32))
    return whole[..., 0]


def _paint(
    canvas: np.ndarray, first: np.ndarray, last: np.ndarray, radius: float, color: np.ndarray
) -> None:
    """Paint a line with round ends between two points onto a canvas [H, W, C]."""
    low = np.maximum(np.floor(np.minimum(first, last) - radius - 1), 0).astype(int)
    high = np.ceil(np.maximum(first, last) + radius + 1).astype(int)
    here = canvas[low[0] : high[0], low[1] : high[1]]
    y = (np.arange(here.shape[0]) + low[0] + 0.5 - first[0])[:, np.newaxis]
    x = np.arange(here.shape[1]) + low[1] + 0.5 - first[1]
    along = last - first
    share = np.clip((y * along[0] + x * along[1]) / max(along @ along, 1e-9), 0, 1)
    distance = np.hypot(y - share * along[0], x - share * along[1])
    cover = np.clip(radius + 0.5 - distance, 0, 1).astype(np.float32)
    here += cover[..., np.newaxis] * (color - here)
