"""Generate the tables of benchmark results from benchmarks/results/*.json."""

from __future__ import annotations

import functools
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from lines import table

FOLDER = Path(__file__).parents[2] / "benchmarks/results"
LONGEST_LINE = 100
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


@functools.cache
def result(name: str) -> dict[str, Any]:
    """Return the contents of a results file. The additional key "values" maps each row's name to
    its value.
    """
    read = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return {**read, "values": {row["name"]: row["value"] for row in read["rows"]}}


def values_after(name: str, begin: str) -> dict[str, float]:
    """Return the values of a results file's rows whose names begin with `begin`, by the rest of the
    name.
    """
    values = result(name)["values"].items()
    return {key.removeprefix(begin): value for key, value in values if key.startswith(begin)}


def caption(*names: str) -> str:
    """Return the machines and dates of results files, in lines of at most 100 columns."""
    dates: dict[str, set[str]] = {}
    for name in names:
        dates.setdefault(result(name)["machine"], set()).add(result(name)["date"])
    spans = (f"{at}, {' to '.join(sorted({min(days), max(days)}))}" for at, days in dates.items())
    return textwrap.fill("; ".join(spans) + ".", LONGEST_LINE, break_on_hyphens=False)


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


def scores() -> str:
    """Return the README's table of classifiers."""
    about = {
        "digits": ("1,797 digits, in scikit-learn", "ResNet-20"),
        "fashion_mnist": ("Fashion-MNIST, 70,000 images", "ResNet-20"),
        "fashion_mnist_long": (
            "Fashion-MNIST, 70,000 images",
            "ResNet-20; predictions averaged over image and mirror image",
        ),
    }
    values = {**result("classification")["values"], **result("classification_long")["values"]}
    rows = [
        (
            f"[{name}](pipelines/classification/{name}.yaml)",
            *words,
            f"{values[f'{name}: test accuracy']:.2%}",
            _time(values, name),
        )
        for name, words in about.items()
    ]
    head = ("Pipeline", "Data", "Network", "Test accuracy", "Training time")
    captions = f"fashion_mnist_long: {caption('classification_long')}", caption("classification")
    return table(head, rows) + "\n" + "\nThe others: ".join(captions) + "\n"


def detectors() -> str:
    """Return the table of detectors."""
    about = {
        "digit_scenes_ssd": "SSD on a thin ResNet-18",
        "digit_scenes_yolo": "YOLOv3 head on a thin ResNet-18, CIoU box loss",
        "bccd_ssd": "SSD on a half-width ResNet-18, 205 photos of blood cells",
        "bccd_yolo": "YOLOv3 head on a half-width ResNet-18, CIoU box loss",
    }
    return _scored("detection", about, ("AP50", "AP"), ("digit_scenes", "bccd"))


def segmenters() -> str:
    """Return the table of segmenters."""
    about = {
        "digit_scenes_fcn": "FCN with a stride of 4 on a thin ResNet-18",
        "aerial_fcn8s": "FCN-8s on a half-width ResNet-18, 45 aerial images",
        "aerial_fcn32s": "FCN-32s on a half-width ResNet-18, 45 aerial images",
    }
    return _scored("segmentation", about, ("mean IoU", "boundary IoU"), ("digit_scenes", "aerial"))


def _scored(
    task: str, about: dict[str, str], names: tuple[str, ...], files: tuple[str, ...]
) -> str:
    values = {name: value for file in files for name, value in result(file)["values"].items()}
    rows = [
        (
            f"[{pipeline}](../pipelines/{task}/{pipeline}.yaml)",
            network,
            *(f"{values[f'{pipeline}: {name}']:.1%}" for name in names),
            _time(values, pipeline),
        )
        for pipeline, network in about.items()
    ]
    heads = (name[0].upper() + name[1:] for name in names)
    return table(("Pipeline", "Network", *heads, "Training time"), rows)


def _time(values: dict[str, float], pipeline: str) -> str:
    seconds = values.get(f"{pipeline}: cvpipe train")
    if seconds is None:
        return f"{values[f'{pipeline}: cvpipe train, CPU time']:,.0f} s of CPU time"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def baselines() -> str:
    """Return the table of scikit-learn's classifiers."""
    values = result("baselines")["values"]
    rows = [
        (name.removesuffix(": test accuracy"), f"{value:.1%}")
        for name, value in values.items()
        if name.endswith("accuracy")
    ]
    return table(("Baseline", "Test accuracy"), rows) + f"\n{caption('baselines')}\n"


DEPTHS = ("plain20", "plain56", "resnet20", "resnet56")


def canon_scores() -> str:
    """Return the table of the networks trained with equal settings on Fashion-MNIST."""
    values = result("canon")["values"]
    titles = [name.partition(":")[0] for name in values if name.endswith(": multiply-adds")]
    rows = [
        (
            title,
            f"{values[f'{title}: parameters']:,.0f}",
            f"{values[f'{title}: multiply-adds'] / 1e6:,.1f}",
            f"{values[f'{title}: test accuracy']:.1%}",
            f"{values[f'{title}: cvpipe train, CPU time']:,.0f} s",
        )
        for title in titles
    ]
    head = ("Network", "Parameters", "M mult-adds", "Test accuracy", "CPU time")
    return table(head, rows) + f"\n{caption('canon')}\n"


def canon_depth() -> str:
    """Return the table of plain and residual networks of two depths."""
    values = result("canon")["values"]
    rows = [
        (
            name,
            f"{list(losses(name).values())[-1]:.3f}",
            f"{values[f'{name} at 16×16: test accuracy']:.1%}",
            f"{values[f'{name} at 16×16: cvpipe train, CPU time']:,.0f} s",
        )
        for name in DEPTHS
    ]
    head = ("Network", "Last training loss", "Test accuracy", "CPU time")
    return table(head, rows)


def canon_dropped() -> str:
    """Return the table of networks that drop parts of themselves while they learn few images."""
    values, within = result("canon_dropped")["values"], " on 1000 images, drops "
    titles = [name.partition(":")[0] for name in values if name.endswith(": last training loss")]
    rows = [
        (
            *title.split(within),
            f"{values[f'{title}: last training loss']:.2f}",
            f"{values[f'{title}: test accuracy']:.1%}",
            f"{100 * values[f'{title}: range of test accuracies']:.1f} points",
            f"{values[f'{title}: cvpipe train, CPU time']:,.0f} s",
        )
        for title in titles
    ]
    head = ("Network", "Drops", "Last training loss", "Test accuracy", "Range", "CPU time")
    return table(head, rows) + f"\n{caption('canon_dropped')}\n"


def losses(name: str) -> dict[int, float]:
    """Return the training losses by step of a network in DEPTHS."""
    found = values_after("canon", f"{name} at 16×16: training loss, step ")
    return {int(step): loss for step, loss in found.items()}


RESULTS: dict[str, Callable[[], str]] = {
    "canon-scores": canon_scores,
    "canon-depth": canon_depth,
    "canon-dropped": canon_dropped,
    "speed": speed,
    "performance": performance,
    "memory": memory,
    "scores": scores,
    "detectors": detectors,
    "segmenters": segmenters,
    "baselines": baselines,
}
