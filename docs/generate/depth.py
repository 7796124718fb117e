"""Draw the pictures of docs/canon.md: training losses of plain and residual networks, and
activations at initialization.
"""

from __future__ import annotations

from pathlib import Path

from canon_results import DEPTHS, losses

FOLDER = Path(__file__).parents[1] / "canon"
COLORS = {"plain": "#d55e00", "resnet": "#0072b2"}


def draw_degradation() -> None:
    """Write the picture of the losses in benchmarks/results/canon.json."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    both = figure.subplots(1, 2, sharey=True)
    for axes, (kind, color) in zip(both, COLORS.items(), strict=True):
        for name in (own for own in DEPTHS if own.startswith(kind)):
            steps = losses(name)
            deep = name.endswith("56")
            label = f"{name.removeprefix(kind)} layers"
            axes.plot(*zip(*steps.items(), strict=True), color=color, lw=2.2 if deep else 1)
            axes.lines[-1].set(label=label, linestyle="-" if deep else "--")
        title = "plain" if kind == "plain" else "residual"
        axes.set(title=title, xlabel="step", ylabel="training loss", yscale="log")
        axes.grid(alpha=0.3, which="both")
        axes.label_outer()
        axes.legend()
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / "degradation.png", dpi=90)


def draw_starts() -> None:
    """Compute activations before training, which takes some seconds, and write their picture."""
    from cvpipe.models.initial_activations import initial_activations
    from cvpipe.pictures.activations import draw_activations

    FOLDER.mkdir(exist_ok=True)
    draw_activations(initial_activations()).savefig(FOLDER / "activations.png", dpi=70)
