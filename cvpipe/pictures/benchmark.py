"""Pictures of benchmarks: latency, throughput and memory over batch sizes, score over latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from cvpipe.errors import counted
from cvpipe.pictures.drawing import LABEL, MISSED, RIGHT, TITLE, TRUTH, WRONG
from cvpipe.pictures.drawing.text import legend_name

# Colors and markers of artifacts. The colors are those of Okabe and Ito (2008) that are visible on
# white.
COLORS = (RIGHT, WRONG, "#009e73", MISSED, "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P")
# Line style and legend of each signature.
STYLES: dict[str, tuple[Any, str]] = {
    "serving_default": ("-", "encoded images (serving_default)"),
    "tensor": (":", "prepared images (tensor)"),
}
# Panels for each number of threads: key of the rows, label and scale of the vertical axis.
PANELS = (
    ("p50_ms", "ms per batch", "log"),
    ("images_per_second", "images/s", "log"),
    ("memory", "memory, MiB", "linear"),
)
MIB = 2**20
Rows = Sequence[Mapping[str, Any]]


def draw_benchmark(artifacts: Rows, rows: Rows) -> Figure:
    """Draw artifacts side by side.

    Args:
        artifacts: with "artifact", "score" (its name), "value" and "size" in bytes.
        rows: with "artifact", "signature", "threads", "batch", "p50_ms", "p99_ms",
            "images_per_second" and "memory" in bytes.
    """
    names = [own["artifact"] for own in artifacts]
    threads = sorted({row["threads"] for row in rows})
    scored = len({own["score"] for own in artifacts if own["value"] is not None}) == 1
    lines = len(names) + 3
    heights = [2.2] * len(PANELS) + [2.4] * scored
    figure = Figure(
        figsize=(max(3.4 * len(threads), 5.2), sum(heights) + 0.4 + 0.2 * lines),
        layout="constrained",
    )
    grid = figure.add_gridspec(len(heights), len(threads), height_ratios=heights)
    for place, (key, label, scale) in enumerate(PANELS):
        first: Axes | None = None
        for column, count in enumerate(threads):
            axes = figure.add_subplot(grid[place, column], sharey=first)
            own = [row for row in rows if row["threads"] == count]
            _draw_panel(axes, own, names, key, scale)
            if first is None:
                axes.set_ylabel(label, fontsize=TITLE)
            if not place:
                axes.set_title(counted(count, "thread"), fontsize=TITLE)
            if place == len(PANELS) - 1:
                axes.set_xlabel("batch", fontsize=TITLE)
            first = first or axes
    if scored:
        _draw_scores(figure.add_subplot(grid[-1, :]), artifacts, rows)
    _add_legend(figure, names, {row["signature"] for row in rows})
    return figure


def _draw_panel(axes: Axes, rows: Rows, names: Sequence[str], key: str, scale: str) -> None:
    """Draw a line for each artifact and signature over the batch sizes."""
    for signature, (style, _) in STYLES.items():
        for number, name in enumerate(names):
            own = [row for row in rows if (row["artifact"], row["signature"]) == (name, signature)]
            # Shift the points, so that artifacts with nearly equal values don't hide each other.
            shift = 1.06 ** (number - (len(names) - 1) / 2)
            places = [row["batch"] * shift for row in own]
            values = [row[key] / (MIB if key == "memory" else 1) for row in own]
            color = COLORS[number % len(COLORS)]
            marker = MARKERS[number % len(MARKERS)]
            axes.plot(places, values, style, color=color, marker=marker, markersize=4)
            if key == "p50_ms":
                slowest = [row["p99_ms"] for row in own]
                axes.vlines(places, values, slowest, color=color, alpha=0.5, linewidth=1)
                axes.plot(places, slowest, "_", color=color, markersize=5)
    batches = sorted({row["batch"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(batches[0] / 1.5, batches[-1] * 1.5)
    axes.set_yscale(scale)
    if scale == "linear":
        axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=LABEL)
    axes.grid(color=TRUTH, alpha=0.3, linewidth=0.5)


def _draw_scores(axes: Axes, artifacts: Rows, rows: Rows) -> None:
    """Draw each artifact's score over its latency with the smallest batch and most threads."""
    batch, threads = min(row["batch"] for row in rows), max(row["threads"] for row in rows)
    largest = max(own["size"] for own in artifacts)
    for number, own in enumerate(artifacts):
        times = {
            row["signature"]: row["p50_ms"]
            for row in rows
            if (row["artifact"], row["batch"], row["threads"]) == (own["artifact"], batch, threads)
        }
        if own["value"] is None or not times:
            continue
        axes.scatter(
            times.get("serving_default", min(times.values())),
            own["value"],
            s=30 + 370 * own["size"] / largest,
            color=COLORS[number % len(COLORS)],
            marker=MARKERS[number % len(MARKERS)],
            alpha=0.8,
        )
    score = next(own["score"] for own in artifacts if own["value"] is not None)
    axes.set_title("areas: size on disk", fontsize=TITLE)
    axes.set_xlabel(f"ms per batch of {batch}, {counted(threads, 'thread')}", fontsize=TITLE)
    axes.set_ylabel(score.replace("_", " "), fontsize=TITLE)
    axes.margins(0.15)
    axes.tick_params(labelsize=LABEL)
    axes.grid(color=TRUTH, alpha=0.3, linewidth=0.5)


def _add_legend(figure: Figure, names: Sequence[str], signatures: set[str]) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=COLORS[n % len(COLORS)],
            marker=MARKERS[n % len(MARKERS)],
            label=legend_name(name),
        )
        for n, name in enumerate(names)
    ]
    handles += [
        Line2D([], [], color="black", linestyle=style, label=meaning)
        for signature, (style, meaning) in STYLES.items()
        if signature in signatures
    ]
    handles.append(
        Line2D([], [], color="black", marker="_", linestyle="", label="99th percentile of ms")
    )
    figure.legend(handles=handles, loc="outside lower left", fontsize=TITLE)
