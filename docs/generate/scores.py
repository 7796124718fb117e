"""Generate the tables of scores of pipelines and baselines, from benchmark results."""

from __future__ import annotations

from collections.abc import Callable

from lines import table
from results import caption, result


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


SCORES: dict[str, Callable[[], str]] = {
    "scores": scores,
    "detectors": detectors,
    "segmenters": segmenters,
    "baselines": baselines,
}
