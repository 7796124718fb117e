"""Guards text in pictures: it is drawn as users wrote it, and a text that can't be drawn doesn't
stop the training.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from cvpipe.pictures.drawing import RIGHT, charts, fonts, grids
from cvpipe.pictures.drawing.grids import Marks
from cvpipe.pictures.drawing.render import CARD, to_cards, to_pixels, to_png, try_to_draw
from cvpipe.pictures.drawing.text import literal

PRINTABLE = (
    "$a_{b}$",
    "$",
    "a$b$c$d$",
    "cost in $ and $",
    "\\$x$",
    "$\\frac{1",
    "_hidden",
    "x^2_i",
    "{",
    "\\alpha",
    "%d",
    "two\nlines",
    "漢字",
)
UNPRINTABLE = ("a\x00b", "a\tb", "a\rb", "\udcff")
NAMES = (*PRINTABLE, *UNPRINTABLE)
IMAGES = np.zeros((len(NAMES), 4, 4, 3), np.uint8)
NUMBERS = np.ones(len(NAMES), int)
BOXES = np.array([[0, 0, 2, 2]])


def drawn(text: str, parse_math: bool = True) -> np.ndarray:
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, text, parse_math=parse_math)
    return to_pixels(figure)


@pytest.mark.parametrize("text", PRINTABLE)
def test_text_is_drawn_as_it_stands(text: str) -> None:
    np.testing.assert_array_equal(drawn(literal(text)), drawn(text, parse_math=False))


def test_unescaped_text_would_be_drawn_as_a_formula() -> None:
    assert (drawn("$a_{b}$") != drawn(literal("$a_{b}$"))).any()


@pytest.mark.parametrize(
    "text, shown",
    [("a\x00b", "a\\x00b"), ("a\tb", "a\\tb"), ("\udcff", "\\udcff"), ("two\nlines", "two\nlines")],
)
def test_unprintable_characters_are_drawn_as_their_code(text: str, shown: str) -> None:
    assert literal(text) == shown


@pytest.mark.parametrize(
    "draw",
    [
        lambda: grids.image_grid(IMAGES, NAMES),
        lambda: grids.boxes_grid(IMAGES, [[Marks(BOXES, [name], RIGHT)] for name in NAMES]),
        lambda: grids.masks_table([[IMAGES[0]]], ["image"], NAMES),
        lambda: charts.bars(dict.fromkeys(NAMES, 1.0), "images"),
        lambda: charts.precision_recall([0, 1], {name: [1, 0] for name in NAMES}),
        lambda: grids.image_table([IMAGES[:2]] * len(NAMES), NAMES, ["one", "two"]),
        lambda: charts.class_counts({"train": NUMBERS}, NAMES),
        lambda: charts.confusion_matrix(np.diag(NUMBERS), NAMES),
    ],
    ids=["grid", "boxes", "masks", "bars", "precision", "table", "counts", "confusion"],
)
def test_every_picture_takes_any_text(draw: Callable[[], Figure]) -> None:
    assert to_png(draw()).startswith(b"\x89PNG")


def test_a_legend_names_classes_that_begin_with_an_underscore() -> None:
    figure = grids.masks_table([[IMAGES[0]]], ["image"], ["_a", "$b$"])
    names = [text.get_text().strip() for text in figure.legends[0].get_texts()]
    assert names == [literal("_a"), literal("$b$")]


def test_names_of_bars_dont_overlap() -> None:
    for names in (["a", "b"], [f"a longer name {n}" for n in range(12)]):
        figure = charts.bars(dict.fromkeys(names, 1.0), "images")
        to_pixels(figure)
        [axes] = figure.axes
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert [label.get_text() for label in axes.get_xticklabels()] == names
        assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))


def test_letters_that_the_font_lacks_give_one_warning(
    caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    fonts._warn_of_fonts.cache_clear()
    for text in ("漢字", "字漢"):
        drawn(text)
    said = "some letters in pictures are drawn as boxes"
    assert [record.getMessage()[: len(said)] for record in caplog.records] == [said]
    assert not recwarn.list


def test_a_picture_that_fails_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    figure = Figure()
    figure.text(0, 0, r"$\frac{1$")
    assert try_to_draw("scores", lambda: to_png(figure)) is None
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "the picture 'scores' is left out, since it can't be drawn (Va" in record.getMessage()


@pytest.mark.parametrize("columns", [1, 2, 5, 6])
def test_a_grid_is_cut_into_cards_of_whole_images_and_none_is_lost(columns: int) -> None:
    values = 20 * np.arange(1, 2 * columns + 1)
    colors = np.stack([values, 0 * values, 255 - values], 1).astype(np.uint8)
    images = np.broadcast_to(colors[:, None, None], (len(values), 8, 8, 3))
    # A second rendering of the same figure may lay it out a pixel differently.
    one, other = (
        grids.image_grid(images, [f"image {n}" for n in values], columns=columns) for _ in range(2)
    )
    cards, whole = to_cards(one), to_pixels(other)
    assert cards.shape[2] <= CARD
    for color in colors:
        counts = [int((card == color).all(-1).sum()) for card in cards]
        assert sum(map(bool, counts)) == 1
        assert sum(counts) == int((whole == color).all(-1).sum())


def test_a_figure_with_axes_or_a_legend_is_one_card() -> None:
    curve = charts.precision_recall([0.0, 1.0], {"cat": [1.0, 0.5]})
    boxes = grids.boxes_grid(
        np.zeros((4, 8, 8, 3), np.uint8), [[] for _ in range(4)], legend={"truth": RIGHT}
    )
    for figure in (curve, boxes):
        assert len(to_cards(figure)) == 1
