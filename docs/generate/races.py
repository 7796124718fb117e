"""Generate the tables of comparisons with other libraries, from benchmark results."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lines import table
from results import caption, result

# Measured rows that aren't other libraries: upper bounds, and code written for the comparison.
BOUNDS = {
    "limit",
    "decode alone",
    "plain TensorFlow, by hand",
    "the window decoded",
    "the window decoded and resized",
}


class Race(NamedTuple):
    """A comparison with peers: rows "GROUP: CONTESTANT" of a results file."""

    file: str
    group: str
    title: str
    ours: str = "cvpipe"


STEPS = (
    Race("train_step", "resnet50, 224, batch 16", "training step, ResNet-50, 224×224"),
    Race("train_step", "resnet20, 32, batch 128", "training step, ResNet-20, 32×32"),
)
BFLOAT16 = (
    Race(
        "train_step_bfloat16",
        "resnet50, 224, batch 16",
        "training step in bfloat16, ResNet-50, 224×224",
    ),
    Race(
        "train_step_bfloat16",
        "resnet20, 32, batch 128",
        "training step in bfloat16, ResNet-20, 32×32",
    ),
)
INPUTS = (
    Race("input_pipeline", "348×348", "348×348 JPEG files to augmented batches"),
    Race("input_pipeline", "640×480", "640×480 JPEG files to augmented batches"),
    Race("input_pipeline", "3,000 pixels", "JPEG files with sides of 3,000 and more to batches"),
)
OTHERS = (
    Race("segmentation", "U-Net step", "training step, U-Net, 128×128"),
    Race("segmentation", "ResNet-18 step", "training step, FCN-32s on ResNet-18, 128×128"),
    Race("segmentation", "mean IoU, 512 × 512 × 21", "mean IoU, 512×512, 21 classes"),
    Race("detection", "NMS, score > 0.01", "NMS of 32 × 8,732 boxes, scores > 0.01"),
    Race("detection", "NMS, score > 0.05", "NMS of 32 × 8,732 boxes, scores > 0.05"),
    Race("detection", "NMS, score > 0.3", "NMS of 32 × 8,732 boxes, scores > 0.3"),
    Race("detection", "matching, 20 objects", "matching of anchors, 20 objects per image"),
    Race("detection", "matching, 100 objects", "matching of anchors, 100 objects per image"),
    Race("detection", "COCO scores, 5,000 × 20", "COCO's scores, 5,000 images, 20 objects each"),
    Race("serving_digits", "digits, 32 clients", "digits served to 32 clients", "cvpipe serve"),
    Race("serving_digits", "digits, 1 client", "digits served to one client", "cvpipe serve"),
    Race(
        "serving_mobilenet_v2",
        "mobilenet_v2, 32 clients",
        "MobileNetV2 served to 32 clients",
        "cvpipe serve",
    ),
    Race(
        "serving_mobilenet_v2",
        "mobilenet_v2, 1 client",
        "MobileNetV2 served to one client",
        "cvpipe serve",
    ),
    Race(
        "serving_mobilenet_v2",
        "mobilenet_v2, batch of 8, 1 client",
        "MobileNetV2 served to one client, 8 images per request",
        "cvpipe serve",
    ),
)
EXPLANATIONS = (
    Race("explain", "occlusion, small", "occlusion, 4 convolutions, 32×32"),
    Race("explain", "occlusion, mobilenet_v2", "the same, MobileNetV2, 224×224"),
    Race("explain", "rise, small", "RISE, 4 convolutions, 32×32"),
    Race("explain", "rise, mobilenet_v2", "the same, MobileNetV2, 224×224"),
    Race("explain", "dream, resnet50", "a step of DeepDream, ResNet-50, 224×224"),
)


def race(run: Race) -> tuple[str, str, str, str, str]:
    """Return a row: title, value of cvpipe, value and name of the best peer, and ratio of
    speeds.
    """
    rows = [row for row in result(run.file)["rows"] if row["name"].startswith(f"{run.group}: ")]
    units = {row["name"].partition(": ")[2]: row["unit"] for row in rows}
    values = {row["name"].partition(": ")[2]: row["value"] for row in rows}
    unit = units[run.ours]
    own = {row["name"].partition(": ")[2] for row in rows if row["ours"]}
    peers = {
        name: value
        for name, value in values.items()
        if units[name] == unit and name not in own | BOUNDS and not name.endswith(("p50", "p99"))
    }
    rate = unit.endswith("/s")
    best = max(peers, key=peers.__getitem__) if rate else min(peers, key=peers.__getitem__)
    ratio = values[run.ours] / peers[best] if rate else peers[best] / values[run.ours]
    return (
        run.title,
        f"{_short(values[run.ours])} {unit}",
        f"{_short(peers[best])} {unit}",
        best,
        f"{ratio:.2f}",
    )


def _short(value: float) -> str:
    """Return a number with three significant digits, or rounded to an integer from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def races(runs: tuple[Race, ...]) -> str:
    """Return a table of comparisons."""
    head = ("Work", "cvpipe", "Best peer", "Name of the peer", "Speed, cvpipe / peer")
    return table(head, map(race, runs)) + f"\n{caption(*(run.file for run in runs))}\n"


def speed() -> str:
    """Return the README's table of speed."""
    return races((STEPS[0], BFLOAT16[0], *INPUTS[:2]))


def performance() -> str:
    """Return the table of all comparisons."""
    return races((*STEPS, *BFLOAT16, *INPUTS, *OTHERS, *EXPLANATIONS))


def memory() -> str:
    """Return the table of the memory that training needs."""
    values = result("memory")["values"]
    rows = [(name, f"{value:,.0f} MiB") for name, value in values.items() if "/" not in name]
    return table(("Training", "Resident memory"), rows) + f"\n{caption('memory')}\n"


RACES: dict[str, Callable[[], str]] = {"speed": speed, "performance": performance, "memory": memory}
