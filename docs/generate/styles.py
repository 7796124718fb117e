"""Draw the style images of pipelines/style. Drawn images are free to use.

python -m docs.generate.styles pipelines/style
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

SIDE = 384
NIGHT = np.array(
    [[13, 27, 62], [24, 56, 120], [52, 104, 170], [120, 168, 200], [236, 196, 72], [250, 236, 160]]
)
GLASS = np.array(
    [[196, 40, 36], [28, 84, 160], [240, 180, 40], [32, 128, 84], [244, 232, 200], [120, 48, 120]]
)
CIRCLES = np.array(
    [[230, 60, 50], [250, 190, 60], [40, 90, 150], [90, 170, 150], [245, 235, 215], [40, 35, 50]]
)


def swirls(seed: int = 0) -> np.ndarray:
    """Draw brush strokes that follow swirls, yellow on blue: uint8 [SIDE, SIDE, 3]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    flow = np.ones((SIDE, SIDE)) + 0.35j
    light = ndimage.gaussian_filter(random.normal(size=(SIDE, SIDE)), 26)
    light = 0.22 + 0.13 * light / light.std()
    for row, column in random.uniform(0.05, 0.95, (9, 2)) * SIDE:
        reach = random.uniform(22, 52)
        distance = np.hypot(y - row, x - column)
        near = np.exp(-((distance / reach) ** 2))
        flow += 5 * near * ((x - column) + 1j * (y - row)) / (distance + 1) * 1j
        light += 0.75 * np.exp(-((distance / (0.55 * reach)) ** 2))
    flow /= np.abs(flow)
    # Noise averaged along the flow looks like strokes (Cabral and Leedom 1993).
    noise = ndimage.gaussian_filter(random.normal(size=(SIDE, SIDE)), 1.3)
    colors = ndimage.gaussian_filter(random.normal(size=(SIDE, SIDE)), 2.2)
    strokes, tones = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    for direction in (1, -1):
        row, column = y.copy(), x.copy()
        for _ in range(13):
            places = [row, column]
            strokes += ndimage.map_coordinates(noise, places, order=1, mode="reflect")
            tones += ndimage.map_coordinates(colors, places, order=1, mode="reflect")
            turn = [
                ndimage.map_coordinates(own, places, order=0, mode="reflect")
                for own in (flow.real, flow.imag)
            ]
            row, column = row + direction * turn[1], column + direction * turn[0]
    tone = np.clip(light + 0.16 * tones / tones.std(), 0, 0.999) * (len(NIGHT) - 1)
    below = tone.astype(int)
    share = (tone - below)[..., np.newaxis]
    picture = (1 - share) * NIGHT[below] + share * NIGHT[below + 1]
    return _to_bytes(picture * (1 + 0.14 * strokes / strokes.std())[..., np.newaxis])


def glass(seed: int = 1) -> np.ndarray:
    """Draw stained glass between dark lead: uint8 [SIDE, SIDE, 3]."""
    random = np.random.default_rng(seed)
    points = random.uniform(0, SIDE, (150, 2))
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    bend = ndimage.gaussian_filter(random.normal(size=(2, SIDE, SIDE)), (0, 10, 10)) * 90
    distances = np.hypot(
        (y + bend[0])[..., np.newaxis] - points[:, 0], (x + bend[1])[..., np.newaxis] - points[:, 1]
    )
    nearest = np.sort(distances, axis=-1)
    pane = distances.argmin(-1)
    picture = GLASS[random.integers(0, len(GLASS), len(points))][pane].astype(float)
    shade = ndimage.gaussian_filter(random.normal(size=(SIDE, SIDE)), 7)
    picture *= (1 + 0.18 * shade / shade.std())[..., np.newaxis]
    lead = np.clip((nearest[..., 1] - nearest[..., 0] - 2.0) / 2, 0, 1)[..., np.newaxis]
    return _to_bytes(picture * lead + 18 * (1 - lead))


def circles(seed: int = 2) -> np.ndarray:
    """Draw concentric rings of color, one set per square: uint8 [SIDE, SIDE, 3]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    bend = ndimage.gaussian_filter(random.normal(size=(2, SIDE, SIDE)), (0, 9, 9)) * 60
    cell = SIDE // 6
    row, column = (y + bend[0]) / cell, (x + bend[1]) / cell
    distance = np.hypot(row % 1 - 0.5, column % 1 - 0.5) * 2
    ring = np.clip((distance * 4.2).astype(int), 0, 4)
    number = np.clip(row, 0, 5.99).astype(int) * 6 + np.clip(column, 0, 5.99).astype(int)
    chosen = np.stack([random.permutation(len(CIRCLES))[:5] for _ in range(36)])
    picture = CIRCLES[chosen[number, ring]].astype(float)
    paint = ndimage.gaussian_filter(random.normal(size=(SIDE, SIDE)), (1, 4))
    return _to_bytes(picture * (1 + 0.10 * paint / paint.std())[..., np.newaxis])


def _to_bytes(picture: np.ndarray) -> np.ndarray:
    smooth = ndimage.gaussian_filter(picture, (0.6, 0.6, 0))
    return np.clip(np.round(smooth), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    for draw in (swirls, glass, circles):
        file = Path(sys.argv[1]) / f"{draw.__name__}.jpg"
        Image.fromarray(draw()).save(file, quality=90)
