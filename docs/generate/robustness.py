"""The pictures of docs/robustness.md: accuracy over ε, and a photo in all corruptions. The photo is
scikit-learn's (CC BY 2.0).
"""

from __future__ import annotations

from pathlib import Path

from results import ATTACKED, STRENGTHS, result

FOLDER = Path(__file__).parents[1] / "robustness"
COLORS = {"plain": "#d55e00", "robust": "#0072b2"}
STYLES = {"FGSM": "--", "PGD": "-"}
IMAGES = {"Fashion-MNIST": 2000, "digits": 359}


def draw_curves() -> None:
    """Write the curves, from benchmarks/results/robustness.json."""
    from matplotlib.figure import Figure

    from cvpipe.explain.robustness import wilson

    values, strengths = result("robustness")["values"], [float(own) for own in STRENGTHS]
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    both = figure.subplots(1, 2, sharey=True)
    for axes, data in zip(both, ATTACKED, strict=True):
        for network, color in COLORS.items():
            for method, style in STYLES.items():
                names = [f"{data}, {network}, {method}, ε = {own}: accuracy" for own in STRENGTHS]
                shares = [values[name] for name in names]
                count = IMAGES[data]
                bounds = [wilson(round(own * count), count) for own in shares]
                axes.fill_between(strengths, *zip(*bounds, strict=True), color=color, alpha=0.15)
                label = f"{network}, {method}"
                axes.plot(strengths, shares, color=color, linestyle=style, marker=".", label=label)
        axes.set(title=data, xlabel="ε (share of a pixel's range)", ylim=(0, 1.03))
        axes.set_ylabel("accuracy")
        axes.grid(alpha=0.3)
        axes.label_outer()
    both[0].legend()
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / "curves.png", dpi=90)


def draw_corruptions() -> None:
    """Write the photo in all corruptions at all severities."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_image

    from cvpipe.explain.corruption import CORRUPTIONS, SEVERITIES, corrupt
    from cvpipe.pictures.corruption import draw_corruptions as draw
    from cvpipe.pictures.drawing import to_jpeg

    photo = Image.fromarray(load_sample_image("flower.jpg")).resize((168, 112))
    pixels = np.asarray(photo)
    drawn = {
        kind: [corrupt(pixels, kind, severity, (0, 0)) for severity in SEVERITIES]
        for kind in CORRUPTIONS
    }
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "corruptions.jpg").write_bytes(to_jpeg(draw(pixels, drawn, SEVERITIES), dpi=70))
