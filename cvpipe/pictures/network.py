"""Pictures of networks: a box for each stage, from the image at the top to the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cvpipe.pictures.drawing import LABEL, RIGHT, TITLE, TRUTH
from cvpipe.pictures.drawing.text import literal

WIDTH, STEP = 5.6, 0.62
"""Width of a network's column, and distance between the tops of two boxes, in inches."""
BOX = 0.68
"""Height of a box as a share of the step."""
NARROWEST, WIDEST = 0.52, 0.82
"""Widths of the boxes with the fewest and the most channels, as shares of the column."""
LARGE = ("Conv2D", "DepthwiseConv2D", "Conv2DTranspose", "Dense", "GroupedConv2D")
"""Kinds of layers whose number is written into a box."""


class Stage(NamedTuple):
    """A group of layers whose names are equal up to the first underscore."""

    name: str
    shape: tuple[int, ...]
    """Shape of the last layer's output."""
    layers: int
    """Number of convolutions and fully connected layers."""
    parameters: int
    macs: int
    inputs: tuple[int, ...]
    """Numbers of the earlier stages whose outputs this stage reads."""


def stages_of(layers: Sequence[Mapping[str, Any]]) -> list[Stage]:
    """Group the rows of a layer table, which `cvpipe models NAME --json` prints, by stage."""
    numbers: dict[str, int] = {}
    for layer in layers:
        numbers.setdefault(_stage(layer["name"]), len(numbers))
    stages = []
    for name, number in numbers.items():
        own = [layer for layer in layers if _stage(layer["name"]) == name]
        read = {numbers[_stage(other)] for layer in own for other in layer["inputs"]}
        stages.append(
            Stage(
                name,
                tuple(own[-1]["shape"]),
                sum(layer["kind"] in LARGE for layer in own),
                sum(layer["parameters"] for layer in own),
                sum(layer["macs"] for layer in own),
                tuple(sorted(other for other in read if other < number)),
            )
        )
    return stages


def draw_networks(networks: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Draw networks side by side.

    Each box shows the name of a stage, its output shape (height × width × channels), its number of
    convolutions and fully connected layers, its parameters and its multiply-adds. Boxes with more
    channels are wider.

    Args:
        networks: by title, the rows of a layer table.
    """
    grouped = {title: stages_of(layers) for title, layers in networks.items()}
    rows = max(map(len, grouped.values()))
    size = (WIDTH * len(grouped), STEP * rows + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    for axes, (title, stages) in zip(
        figure.subplots(1, len(grouped), squeeze=False)[0], grouped.items(), strict=True
    ):
        axes.set_title(literal(title), x=WIDEST / 2, fontsize=TITLE + 2)
        axes.set(xlim=(0, 1), ylim=(rows - 0.5, -0.5))
        axes.axis("off")
        _draw_stages(axes, stages)
    return figure


def _draw_stages(axes: Axes, stages: Sequence[Stage]) -> None:
    middle = WIDEST / 2
    widths = _widths([stage.shape[-1] for stage in stages])
    for number, (stage, width) in enumerate(zip(stages, widths, strict=True)):
        corner = (middle - width / 2, number - BOX / 2)
        axes.add_patch(Rectangle(corner, width, BOX, fc="#e8f1f8", ec=RIGHT, lw=1))
        top, below = number - 0.13, number + 0.16
        axes.text(middle, top, literal(stage.name), va="center", ha="right", weight="bold")
        axes.text(middle, top, f"  {_sides(stage.shape)}", va="center", ha="left")
        said = _size(stage)
        axes.text(middle, below, said, va="center", ha="center", fontsize=LABEL, color="#444444")
    arrows = [(other, end) for end, stage in enumerate(stages) for other in stage.inputs]
    around = [(start, end) for start, end in arrows if end > start + 1]
    for start, end in arrows:
        if end == start + 1:
            points = [(middle, start + BOX / 2), (middle, end - BOX / 2)]
        else:
            # Each long connection has its own lane, to the right of the boxes.
            lane = WIDEST + (1 - WIDEST) * (around.index((start, end)) + 1) / (len(around) + 1)
            begin, arrive = middle + widths[start] / 2, middle + widths[end] / 2
            points = [(begin, start), (lane, start), (lane, end), (arrive, end)]
        axes.plot(*zip(*points[:-1], strict=True), color=TRUTH, lw=1)
        style = {"arrowstyle": "-|>", "color": TRUTH, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", points[-1], points[-2], arrowprops=style)


def _widths(channels: Sequence[int]) -> list[float]:
    """Return the widths of boxes. They grow with the logarithm of the number of channels."""
    logs = [log2(count) for count in channels]
    spread = (max(logs) - min(logs)) or 1
    return [NARROWEST + (own - min(logs)) / spread * (WIDEST - NARROWEST) for own in logs]


def _size(stage: Stage) -> str:
    if not stage.layers:
        return "no weights" if stage.inputs else "input"
    plural = "s" if stage.layers > 1 else ""
    return (
        f"{stage.layers} layer{plural}, {_short(stage.parameters)} parameters,"
        f" {_short(stage.macs)} multiply-adds"
    )


def _short(count: float) -> str:
    """Format a count with three digits and a unit, such as 1.23 M."""
    for unit in ("", " k", " M"):
        if count < 1000:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:,.3g} G"


def _sides(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _stage(name: str) -> str:
    return name.split("_")[0]
