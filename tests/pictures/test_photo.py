"""Guards pictures of single photos: their size, their pixels, and that no label is cut off."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cvpipe.pictures.drawing.render import to_png
from cvpipe.pictures.photo import DPI, LEAST, MOST, Entry, color_of, draw_box, show_photo

LONG = "a class with a very long name, such as taxonomists give to beetles of some genus"


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def drawn(figure: Figure) -> np.ndarray:
    """Return the image that a figure is written as: uint8 [H, W, 3]."""
    file = io.BytesIO()
    file.write(to_png(figure, figure.dpi))
    return np.array(Image.open(file).convert("RGB"))


@pytest.mark.parametrize("size", [(300, 400, 3), (400, 300, 1), (257, 611, 3)])
def test_a_photo_keeps_its_pixels(size: tuple[int, int, int]) -> None:
    pixels = noise(*size)
    for legend in ([], [Entry("cat", color_of(0)), Entry("dog", color_of(1))]):
        picture = drawn(show_photo(pixels, legend)[0])
        height, width = size[:2]
        assert picture.shape[1] == width and (picture.shape[0] > height) == bool(legend)
        np.testing.assert_array_equal(picture[:height], np.broadcast_to(pixels, (height, width, 3)))


@pytest.mark.parametrize(
    "size, shown",
    [
        ((MOST // 16, 2 * MOST), (MOST // 32, MOST)),
        ((2 * MOST, 2), (MOST, 1)),
        ((28, 20), (28 * (LEAST // 28), 20 * (LEAST // 28))),
        ((LEAST, 3), (LEAST, 3)),
    ],
)
def test_large_photos_are_reduced_and_small_ones_enlarged(
    size: tuple[int, int], shown: tuple[int, int]
) -> None:
    assert drawn(show_photo(noise(*size), [])[0]).shape[:2] == shown


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 300, 400),
        (0, 380, 40, 400),
        (290, 0, 300, 30),
        (295, 395, 300, 400),
        (100, 100, 150, 180),
    ],
)
@pytest.mark.parametrize("title", ["cat 93%", "$10^$", "_x", "猫\x07", LONG])
def test_a_title_lies_inside_the_photo_wherever_its_box_lies(
    box: tuple[int, int, int, int], title: str
) -> None:
    figure, axes = show_photo(np.full((300, 400, 3), 255, np.uint8), [])
    before = drawn(figure)
    with warnings.catch_warnings():
        # Letters that the font lacks are logged once.
        warnings.simplefilter("error")
        draw_box(axes, box, title, color_of(0))
    (text,) = axes.texts
    canvas = figure.canvas
    extent = text.get_window_extent(canvas.get_renderer())  # type: ignore[attr-defined]
    assert 0 <= extent.x0 < extent.x1 <= 400 and 0 <= extent.y0 < extent.y1 <= 300
    after = drawn(figure)
    assert after.shape == before.shape and (after != before).any()


def test_a_legend_has_every_entry_in_full_however_narrow_the_photo_is() -> None:
    entries = [Entry(name, color_of(n)) for n, name in enumerate(("$", "_y", LONG, "dog"))]
    figure, _ = show_photo(noise(300, 40), [*entries, Entry("and no color")])
    picture = drawn(figure)
    extent = figure.legends[0].get_window_extent(figure.canvas.get_renderer())  # type: ignore[attr-defined]
    assert extent.x0 >= 0 and extent.x1 <= picture.shape[1] and extent.y1 <= picture.shape[0] - 300
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [r" \$", " _y", f" {LONG}", " dog", " and no color"]
    below = picture[300:].reshape(-1, 3) / 255
    for entry in entries:
        assert (np.abs(below - entry.color).max(1) < 0.01).any()


def test_a_wide_photo_has_its_legend_in_columns() -> None:
    entries = [Entry(f"class {n}", color_of(n)) for n in range(30)]
    wide, narrow = (drawn(show_photo(noise(50, width), entries)[0]) for width in (600, 260))
    assert wide.shape[1] == 600 and narrow.shape[1] == 260
    assert wide.shape[0] < narrow.shape[0] < 50 + 30 * DPI / 4


def test_neighboring_classes_have_different_colors() -> None:
    colors = np.array([color_of(n) for n in range(12)])
    apart = np.abs(colors[:, np.newaxis] - colors).max(-1) + np.eye(12)
    assert apart.min() > 0.1 and colors.mean(1).max() < 0.7
