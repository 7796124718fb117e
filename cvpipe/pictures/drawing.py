"""Drawing with matplotlib, without a display.

All text from users passes through `literal`, and all figures are rendered here.

Dimensions: N images, H, W, C their size, K classes.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import logging
import textwrap
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from matplotlib import font_manager, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from cvpipe.geometry.masks import palette

log = logging.getLogger(__name__)

# Colors that people with any kind of color vision can tell apart (Okabe and Ito 2008).
RIGHT, WRONG, MISSED, TRUTH = "#0072b2", "#d55e00", "#cc79a7", "#8c959f"
# Font sizes in points, and the smallest width of a photo in a grid, in inches.
TITLE, LABEL, PANEL = 9, 8, 1.8
# Fonts with Chinese, Japanese or Korean characters, which matplotlib's default font lacks.
EAST_ASIAN = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans CJK KR",
    "Source Han Sans",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "IPAexGothic",
    "TakaoGothic",
    "NanumGothic",
    "Droid Sans Fallback",
    "Unifont",
)
# Longer names are broken into lines along an axis.
NAME_LETTERS = 24
# Approximate width of TensorBoard's image cards in pixels.
CARD = 400
# With more classes than this, an axis shows no names.
NAMED_CLASSES = 50
Drawn = TypeVar("Drawn")


def use_more_fonts() -> None:
    """Let matplotlib use other fonts of this machine for characters that its default font lacks."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    more = [name for name in EAST_ASIAN if name in installed]
    # A font chosen in a matplotlibrc file is kept.
    if rcParams["font.family"] == ["sans-serif"]:
        rcParams["font.family"] = ["sans-serif", *more]


use_more_fonts()


def literal(text: str) -> str:
    """Escape text so that matplotlib draws it unchanged, without formulas. Unprintable characters
    except line breaks become escape sequences.
    """
    visible = "".join(
        letter
        if letter.isprintable() or letter == "\n"
        else letter.encode("unicode_escape").decode()
        for letter in text
    )
    # matplotlib reads text between two dollar signs as a formula, unless they are escaped.
    return visible.replace("$", r"\$")


def try_to_draw(name: str, draw: Callable[[], Drawn]) -> Drawn | None:
    """Return the result of `draw`. If it fails, log a warning and return None, so that training
    continues.
    """
    try:
        return draw()
    except Exception as error:
        log.warning(
            "the picture '%s' is left out, since it can't be drawn (%s: %s)",
            name,
            type(error).__name__,
            str(error).strip()[:300],
        )
        return None


def image_grid(
    images: np.ndarray, titles: Sequence[str], right: Sequence[bool] | None = None, columns: int = 6
) -> Figure:
    """Draw images uint8 [N, H, W, C] with a title each: blue if `right`, else orange."""
    columns = max(min(columns, len(images)), 1)
    rows = max(-(-len(images) // columns), 1)
    aspect = images.shape[1] / images.shape[2] if len(images) else 1.0
    wrapped = [wrap_title(title, PANEL) for title in titles]
    lines = max((title.count("\n") + 1 for title in wrapped), default=1)
    figure = Figure(
        figsize=(PANEL * columns, (PANEL * min(max(aspect, 0.2), 5) + 0.19 * lines + 0.2) * rows),
        layout="constrained",
    )
    for n, axes in enumerate(_panels(figure, rows, columns).flat):
        if n < len(images):
            _show(axes, images[n])
            color = "black" if right is None else RIGHT if right[n] else WRONG
            axes.set_title(literal(wrapped[n]), fontsize=TITLE, color=color)
    return figure


def wrap_title(title: str, width: float) -> str:
    """Break a title into lines that fit into `width` inches, without shortening it."""
    # The average width of a letter is about 0.6 of the font size; of a Chinese or Japanese
    # character, 1.
    wide = any(ord(letter) > 0x2E80 for letter in title)
    letters = max(int(72 * width / (TITLE * (1.0 if wide else 0.62))), 1)
    lines = [textwrap.wrap(line, letters) or [""] for line in title.split("\n")]
    return "\n".join(line for own in lines for line in own)


class Marks(NamedTuple):
    """Boxes to draw on an image."""

    boxes: np.ndarray
    """float [n, 4]: ymin, xmin, ymax, xmax, pixels."""
    titles: Sequence[str]
    color: str


def boxes_grid(
    images: np.ndarray,
    marks: Sequence[Sequence[Marks]],
    columns: int = 4,
    legend: Mapping[str, str] | None = None,
) -> Figure:
    """Draw images uint8 [N, H, W, C], each with its boxes and their titles. Later marks are drawn
    over earlier ones.

    Args:
        legend: colors by their meaning; None for no legend.
    """
    columns = max(min(columns, len(images)), 1)
    rows = max(-(-len(images) // columns), 1)
    aspect = images.shape[1] / images.shape[2] if len(images) else 1.0
    figure = Figure(
        figsize=(3 * columns, 3 * min(max(aspect, 0.2), 5) * rows), layout="constrained"
    )
    for n, axes in enumerate(_panels(figure, rows, columns).flat):
        if n >= len(images):
            continue
        _show(axes, images[n])
        for boxes, titles, color in marks[n]:
            for (top, left, bottom, right), title in zip(boxes, titles, strict=True):
                # Pixel i covers i − 0.5 … i + 0.5 here.
                corner = (left - 0.5, top - 0.5)
                axes.add_patch(
                    Rectangle(
                        corner,
                        right - left,
                        bottom - top,
                        fill=False,
                        edgecolor=color,
                        linewidth=1.2,
                    )
                )
                axes.text(
                    *corner,
                    literal(title),
                    color="white",
                    fontsize=LABEL,
                    va="bottom",
                    clip_on=True,
                    bbox={"facecolor": color, "edgecolor": "none", "pad": 0.6},
                )
    if legend:
        handles = [
            Rectangle((0, 0), 1, 1, fill=False, edgecolor=color, linewidth=1.5, label=meaning)
            for meaning, color in legend.items()
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=len(legend), fontsize=TITLE)
    return figure


def masks_table(
    images: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str],
    classes: Sequence[str],
    most: int = 8,
) -> Figure:
    """Draw rows of images, uint8 [H, W, C] each, under the titles in `columns`, with a legend of
    the first 20 classes. At most `most` rows are drawn.
    """
    shown = images[:most]
    figure = Figure(
        figsize=(2.2 * len(columns) + 1.6, 2.2 * max(len(shown), 1) + 0.3), layout="constrained"
    )
    grid = _panels(figure, max(len(shown), 1), len(columns))
    for row, own in zip(grid, shown, strict=False):
        for axes, image in zip(row, own, strict=True):
            _show(axes, image)
    for axes, title in zip(grid[0], columns, strict=True):
        axes.set_title(title, fontsize=TITLE)
    patches = [
        Rectangle((0, 0), 1, 1, color=color / 255, label=legend_name(name))
        for name, color in zip(classes[:20], palette(), strict=False)
    ]
    figure.legend(handles=patches, loc="outside right upper", fontsize=TITLE)
    return figure


def bars(counts: Mapping[str, float], what: str) -> Figure:
    """Draw named numbers as bars. Names and numbers are written for up to NAMED_CLASSES bars."""
    # Beyond some 60 letters, names side by side would overlap.
    rotation = 90 if sum(map(len, counts)) > 60 else 0
    width, below = min(max(5.5, 0.4 * len(counts) + 2), 14), room_for(counts) if rotation else 0
    figure = Figure(figsize=(width, 3 + below), layout="constrained")
    axes = figure.subplots()
    bars = axes.bar(range(len(counts)), list(counts.values()))
    axes.set(ylabel=what, xticks=[])
    if len(counts) <= NAMED_CLASSES:
        axes.bar_label(bars, fmt="{:.3g}", fontsize=8)
        _name_ticks(axes, "x", counts, rotation)
    return figure


def histograms(values: Mapping[str, Sequence[float]], what: str, counted: str) -> Figure:
    """Draw histograms by name over each other, with the same bins."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    everything = np.concatenate([np.zeros(0), *map(np.asarray, values.values())])
    bins = np.histogram_bin_edges(everything, 30)
    for name, own in values.items():
        axes.hist(own, bins.tolist(), alpha=0.6, label=legend_name(name))
    axes.set(xlabel=what, ylabel=counted)
    figure.legend(loc="outside right upper", fontsize=TITLE)
    return figure


def precision_recall(recall: Sequence[float], precision: Mapping[str, Sequence[float]]) -> Figure:
    """Draw precision over recall by class, n numbers each. The first line is thick, and the legend
    names the first 20 lines.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for n, (name, line) in enumerate(precision.items()):
        label = legend_name(name) if n < 20 else None
        axes.plot(recall, line, label=label, linewidth=1 if n else 2.5)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.03), ylim=(0, 1.03))
    figure.legend(loc="outside right upper", fontsize=TITLE)
    return figure


def image_table(
    images: Sequence[np.ndarray], rows: Sequence[str], columns: Sequence[str]
) -> Figure:
    """Draw a table of images: a row, uint8 [n, H, W, C], for each of `rows`, with n columns named
    by `columns`.
    """
    aspect = images[0].shape[1] / images[0].shape[2]
    height = min(max(aspect, 0.2), 5)
    figure = Figure(
        figsize=(PANEL * len(columns) + 0.5, (PANEL * height + 0.1) * len(rows) + 0.3),
        layout="constrained",
    )
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, own in enumerate(images):
        for column, axes in enumerate(grid[row]):
            axes.set(xticks=[], yticks=[])
            _show(axes, own[column])
        grid[row, 0].set_ylabel(literal(rows[row]), fontsize=TITLE)
    for axes, title in zip(grid[0], columns, strict=True):
        axes.set_title(title, fontsize=TITLE)
    return figure


def class_counts(counts: Mapping[str, np.ndarray], classes: Sequence[str]) -> Figure:
    """Draw the number of images per class as bars, int [K] for each split, stacked. Names are
    written for up to NAMED_CLASSES classes.
    """
    rotation = _rotation(classes)
    width, room = min(max(5.0, 0.4 * len(classes) + 2), 14), room_for(classes) if rotation else 0
    figure = Figure(figsize=(width, 3.5 + room), layout="constrained")
    axes = figure.subplots()
    below = np.zeros(len(classes), int)
    for split, own in counts.items():
        axes.bar(range(len(classes)), own, bottom=below, label=split)
        below = below + own
    axes.set(xlabel="class", ylabel="images")
    if len(classes) <= NAMED_CLASSES:
        _name_ticks(axes, "x", classes, rotation)
    figure.legend(loc="outside right upper")
    return figure


def confusion_matrix(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix from counts, int [K, K], with a row per true class. A cell's shade is
    its share of the row. Numbers are written for up to 20 classes.
    """
    size = min(max(4.0, 0.5 * len(classes) + 1), 14)
    room, rotation = room_for(classes), _rotation(classes)
    figure = Figure(figsize=(size + room, size + (room if rotation else 0)), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true")
    if len(classes) <= NAMED_CLASSES:
        _name_ticks(axes, "x", classes, rotation)
        _name_ticks(axes, "y", classes)
    if len(classes) <= 20:
        for row, column in np.argwhere(counts):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(
                column, row, counts[row, column], ha="center", va="center", fontsize=8, color=color
            )
    return figure


def reliability(bins: np.ndarray) -> Figure:
    """Draw a reliability diagram: accuracy over confidence. `bins` [bins, 3] holds (examples, sum
    of confidences, correct predictions) per bin.
    """
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.subplots()
    filled = bins[bins[:, 0] > 0]
    images, confidence, accuracy = (
        filled[:, 0],
        filled[:, 1] / filled[:, 0],
        filled[:, 2] / filled[:, 0],
    )
    axes.plot([0, 1], [0, 1], color="gray", linestyle="--", label="calibrated")
    # Areas show the number of images, because the accuracy of a bin with few images is uncertain.
    axes.plot(confidence, accuracy, linewidth=0.8)
    axes.scatter(
        confidence, accuracy, s=10 + 300 * images / images.sum(), label="model (area: images)"
    )
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.03), ylim=(0, 1.03))
    axes.legend()
    return figure


def curves(rows: Sequence[dict[str, Any]], score: str) -> Figure:
    """Draw the training and validation losses, and the validation score, over epochs. `rows` are
    the rows of metrics.jsonl.
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for split in ("train", "validation"):
        own = [row for row in rows if row["split"] == split and "loss" in row]
        if own:
            # A single evaluation is a point, which a line without markers doesn't show.
            marker = "." if split == "validation" else None
            epochs, losses = [row["epoch"] for row in own], [row["loss"] for row in own]
            left.plot(epochs, losses, marker=marker, label=split)
    scored = [row for row in rows if score in row]
    right.plot(
        [row["epoch"] for row in scored], [row[score] for row in scored], marker=".", color=RIGHT
    )
    left.set(xlabel="epoch", ylabel="loss (training: with augmentation)")
    right.set(xlabel="epoch", ylabel=f"validation {score}")
    # Evaluations are at whole epochs.
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    if left.lines:
        left.legend()
    return figure


def curves_together(rows: Mapping[str, Sequence[dict[str, Any]]], score: str) -> Figure:
    """Draw training loss and validation score over epochs, with a line for each run. `rows` are the
    rows of metrics.jsonl by run.
    """
    figure = Figure(figsize=(9, 3.5 + 0.2 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2)
    for n, (name, own) in enumerate(rows.items()):
        trained = [row for row in own if row["split"] == "train" and "loss" in row]
        scored = [row for row in own if score in row]
        color = f"C{n % 10}"
        left.plot(
            [row["epoch"] for row in trained],
            [row["loss"] for row in trained],
            color=color,
            label=legend_name(name),
        )
        right.plot(
            [row["epoch"] for row in scored],
            [row[score] for row in scored],
            color=color,
            marker=".",
        )
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel=f"validation {score}")
    figure.legend(loc="outside lower left", fontsize=TITLE)
    return figure


def _panels(figure: Figure, rows: int, columns: int) -> np.ndarray:
    """Return empty axes without frames, an object array [rows, columns]."""
    # Create axes without ticks, because matplotlib reserves room for ticks even if axes are off.
    panels = figure.subplots(rows, columns, squeeze=False, subplot_kw={"xticks": (), "yticks": ()})
    for axes in panels.flat:
        axes.axis("off")
    return panels


def _show(axes: Axes, image: np.ndarray) -> None:
    """Show an image uint8 [H, W, C], gray or RGB."""
    axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)


def _rotation(classes: Sequence[str]) -> int:
    """Return the rotation of names along an axis, in degrees.

    Short names stay upright, because a rotated 6 could be read as a 9.
    """
    return 90 if max(map(len, classes)) > 3 else 0


def _name_ticks(
    axes: Axes, axis: Literal["x", "y"], names: Collection[str], rotation: int = 0
) -> None:
    """Write names at 0, 1, 2 … along the "x" or "y" axis."""
    set_ticks = axes.set_xticks if axis == "x" else axes.set_yticks
    wrapped = ["\n".join(textwrap.wrap(name, NAME_LETTERS)) or name for name in names]
    size = "medium" if all(name == own for name, own in zip(names, wrapped, strict=True)) else LABEL
    set_ticks(
        range(len(names)), [literal(name) for name in wrapped], rotation=rotation, fontsize=size
    )


def room_for(names: Collection[str]) -> float:
    """Return the room in inches for the longest of some names, drawn perpendicular to an axis; 0 if
    there are too many names to draw.
    """
    if len(names) > NAMED_CLASSES:
        return 0.0
    return 0.09 * min(max(map(len, names), default=0), NAME_LETTERS)


def legend_name(name: str) -> str:
    """Return the label of an entry of a legend."""
    # matplotlib leaves names that begin with _ out of the legend.
    return f" {literal(name)}"


def to_png(figure: Figure, dpi: float = 100) -> bytes:
    """Render a figure as the content of a PNG file."""
    content = io.BytesIO()
    with one_warning_of_fonts():
        figure.savefig(content, format="png", dpi=dpi)
    return content.getvalue()


def to_jpeg(figure: Figure, dpi: float = 100) -> bytes:
    """Render a figure as the content of a JPEG file, for documents with many photos."""
    content = io.BytesIO()
    with one_warning_of_fonts():
        figure.savefig(content, format="jpeg", dpi=dpi, pil_kwargs={"quality": 85})
    return content.getvalue()


def to_pixels(figure: Figure) -> np.ndarray:
    """Render a figure as an RGB image, uint8 [H, W, 3]."""
    # matplotlib's canvases have no types.
    canvas: Any = FigureCanvasAgg(figure)
    with one_warning_of_fonts():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def to_cards(figure: Figure) -> np.ndarray:
    """Render a figure for TensorBoard, as RGB images uint8 [N, H, W, 3].

    A grid of images is cut into strips of whole columns that are about as wide as TensorBoard's
    cards, so its titles can be read there. Other figures are one image.
    """
    pixels = to_pixels(figure)
    columns = _columns_of_images(figure)
    edges = np.linspace(0, pixels.shape[1], columns + 1).round().astype(int)
    edges = np.append(edges[:-1][:: max(CARD * columns // pixels.shape[1], 1)], edges[-1])
    widest = int(np.diff(edges).max())
    strips = [pixels[:, begin:end] for begin, end in itertools.pairwise(edges)]
    return np.stack(
        [
            np.pad(strip, ((0, 0), (0, widest - strip.shape[1]), (0, 0)), constant_values=255)
            for strip in strips
        ]
    )


def _columns_of_images(figure: Figure) -> int:
    """Return the number of columns of a grid of images; 1 for other figures."""
    if figure.legends or any(axes.axison for axes in figure.axes):
        return 1
    grid = figure.axes[0].get_subplotspec() if figure.axes else None
    return grid.get_gridspec().ncols if grid else 1


@contextlib.contextmanager
def one_warning_of_fonts() -> Iterator[None]:
    """Context that warns only once of missing characters. matplotlib would warn of every character
    each time.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if "missing from font" in str(warning.message):
            _warn_of_fonts()
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


@functools.cache
def _warn_of_fonts() -> None:
    log.warning(
        "some letters in pictures are drawn as boxes, since matplotlib's font lacks them; set"
        " font.family in a matplotlibrc file to a font that has them"
    )
