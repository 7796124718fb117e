"""Guards that pictures can be read: no text is cut off, overlaps another, or is too small."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from cvpipe.pictures import benchmark
from cvpipe.pictures.drawing import RIGHT, TRUTH, WRONG, charts, grids
from cvpipe.pictures.drawing.grids import Marks
from cvpipe.pictures.drawing.text import wrap_title

LONG = "a red-breasted merganser of the northern lakes"
NAMES = ["cat", LONG, "dog", LONG.replace(" ", "_"), "7"]
IMAGES = np.zeros((9, 48, 64, 3), np.uint8)
TITLES = [f"{name} 97%\nis {other}" for name in NAMES for other in (NAMES[1], "cat")][:9]
BOXES = np.array([[4, 4, 30, 40]])
ARTIFACTS = [
    {"artifact": name, "score": "accuracy", "value": 0.9 + 0.01 * n, "size": 2**20 * (n + 1)}
    for n, name in enumerate(["digits/1", LONG, "digits/12"])
]
MEASURED = [
    {
        "artifact": own["artifact"],
        "signature": signature,
        "threads": threads,
        "batch": batch,
        "p50_ms": batch / threads,
        "p99_ms": 2.0 * batch,
        "memory": 2**26,
        "images_per_second": 1000.0 * threads,
    }
    for own in ARTIFACTS
    for signature in ("tensor", "serving_default")
    for threads in (1, 16)
    for batch in (1, 2, 8, 32)
]
FIGURES: dict[str, Callable[[], Figure]] = {
    "grid": lambda: grids.image_grid(IMAGES, TITLES),
    "one image": lambda: grids.image_grid(IMAGES[:1], TITLES[:1]),
    "boxes": lambda: grids.boxes_grid(
        IMAGES, [[Marks(BOXES, ["cat"], RIGHT)]] * 9, legend={"truth": TRUTH, "answer": RIGHT}
    ),
    "masks": lambda: grids.masks_table([[IMAGES[0]] * 3] * 4, ["image", "truth", "answer"], NAMES),
    "bars": lambda: charts.bars(dict.fromkeys(NAMES, 0.123), "images"),
    "many bars": lambda: charts.bars({f"class {n}": n for n in range(30)}, "images"),
    "precision": lambda: charts.precision_recall([0, 1], {name: [1, 0] for name in NAMES}),
    "table": lambda: grids.image_table([IMAGES[:2]] * 3, ["one", "two", "three"], ["a", "b"]),
    "counts": lambda: charts.class_counts({"train": np.ones(5, int)}, NAMES),
    "confusion": lambda: charts.confusion_matrix(np.diag(np.full(5, 1234)), NAMES),
    "curves": lambda: charts.curves(
        [
            {"split": split, "loss": 1.0 / (n + 1), "accuracy": 0.1 * n, "epoch": n}
            for split in ("train", "validation")
            for n in range(5)
        ],
        "accuracy",
    ),
    "benchmark": lambda: benchmark.draw_benchmark(ARTIFACTS, MEASURED),
    "benchmark of one": lambda: benchmark.draw_benchmark(
        [{**ARTIFACTS[0], "value": None}],
        [row for row in MEASURED if (row["artifact"], row["threads"]) == ("digits/1", 1)],
    ),
}


def texts_of(axes: Axes) -> Iterator[Text]:
    """Yield the texts of axes that are drawn; matplotlib also keeps ticks beyond their ends."""
    yield axes.title
    yield from axes.texts
    if not axes.axison:
        return
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        yield axis.label
        for tick in axis.get_major_ticks():
            if min(limits) <= tick.get_loc() <= max(limits):
                yield tick.label1


def shown_texts(figure: Figure) -> list[tuple[Text, Any]]:
    """Return the texts that are drawn, with their extents in pixels."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    legends = [*figure.legends, *(axes.legend_ for axes in figure.axes if axes.legend_)]
    texts = [
        *(text for axes in figure.axes for text in texts_of(axes)),
        *(text for legend in legends for text in legend.get_texts()),
    ]
    return [
        (text, text.get_window_extent(canvas.get_renderer()))
        for text in texts
        if text.get_visible() and text.get_text().strip()
    ]


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_cut_off_or_lies_over_another(name: str) -> None:
    figure = FIGURES[name]()
    texts, page = shown_texts(figure), figure.bbox
    assert texts
    for text, own in texts:
        said = text.get_text()
        assert own.x0 >= -1 and own.y0 >= -1, said
        assert own.x1 <= page.width + 1 and own.y1 <= page.height + 1, said
    for (one, first), (other, second) in itertools.combinations(texts, 2):
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        down = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert across <= 1 or down <= 1, f"{one.get_text()!r} over {other.get_text()!r}"


@pytest.mark.parametrize("name", FIGURES)
def test_text_is_large_enough(name: str) -> None:
    for text, _ in shown_texts(FIGURES[name]()):
        assert text.get_fontsize() >= 8, text.get_text()


def test_photos_have_160_pixels_and_titles_nine_points() -> None:
    figure = grids.image_grid(IMAGES, TITLES)
    texts = shown_texts(figure)
    assert all(text.get_fontsize() >= 9 for text, _ in texts)
    for axes in figure.axes[: len(IMAGES)]:
        assert axes.get_window_extent().width >= 160


@pytest.mark.parametrize("title", ["cat", LONG, LONG.replace(" ", "_"), "漢字" * 20, "a\n\nb"])
def test_a_wrapped_title_keeps_every_letter(title: str) -> None:
    wrapped = wrap_title(title, 1.8)
    assert wrapped.replace("\n", "").replace(" ", "") == title.replace("\n", "").replace(" ", "")


def luminance(color: str) -> float:
    """Return the relative luminance of a color (WCAG 2)."""
    channels = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_right_and_wrong_differ_in_brightness_too() -> None:
    bright, dark = sorted((luminance(RIGHT), luminance(WRONG)), reverse=True)
    assert (bright + 0.05) / (dark + 0.05) > 1.2
