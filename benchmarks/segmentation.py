"""Measure training steps and mean IoU of segmenters in cvpipe, Keras and Model Garden.

Every implementation of a training step has its own process. The processes run alternately and do
the same work: SGD with momentum and softmax cross-entropy on one batch in memory, without scores.
Keras trains the same U-Net as cvpipe, with the same number of weights, by `fit`. Model Garden
trains a ResNet-18 with predictions from its coarsest map (FCN-32s). Each implementation computes
the mean IoU of the same random masks; the results are compared before the computation is timed.
`python benchmarks/segmentation.py` takes about ten minutes and needs Model Garden's dependencies.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from record import record, row
from turns import Contestant, median_seconds, median_turns, timed

STEPS_FOLDER = Path(__file__).parent / "steps"
OURS = "cvpipe"
ROUNDS = 5
# Pixels per side, classes, images per batch, steps per measurement.
SIZE, CLASSES, BATCH, STEPS = 128, 21, 8, 4
IMAGES, PIXELS = 32, 512
ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "1"}


def step_seconds(
    network: str, peers: dict[str, tuple[list[str], dict[str, str]]]
) -> dict[str, float]:
    """Return the seconds that each contestant takes for STEPS training steps."""
    numbers = [str(number) for number in (SIZE, CLASSES, BATCH, STEPS)]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    script = str(STEPS_FOLDER / "segmentation_steps.py")
    every = {OURS: (["cvpipe", network], {}), **peers}
    started = {
        name: Contestant([sys.executable, script, *words, *numbers], {**quiet, **environment})
        for name, (words, environment) in every.items()
    }
    return median_turns(started, ROUNDS)


def scoring() -> tuple[dict[str, Callable[[], float]], str]:
    """Return the implementations of mean IoU over 32 masks of 512 × 512 pixels and 21 classes, by
    name, and a sentence on how far their results differ.
    """
    import keras
    import tensorflow as tf
    from official.vision.evaluation import iou as model_garden

    from cvpipe.metrics.segmentation import SegmentationMetrics

    random = np.random.default_rng(0)
    truth = random.integers(0, CLASSES, (IMAGES, PIXELS, PIXELS), np.uint8)
    answer = np.where(
        random.random(truth.shape) < 0.7, truth, random.integers(0, CLASSES, truth.shape, np.uint8)
    )
    truths, answers = tf.constant(truth, tf.int32), tf.constant(answer, tf.int32)

    def ours() -> float:
        metrics = SegmentationMetrics(tuple(map(str, range(CLASSES))), boundary=False)
        metrics.update({"mask": answer}, {"mask": truth}, np.ones(IMAGES))
        return float(metrics.result()["mean_iou"])

    def kerass() -> float:
        metric = keras.metrics.MeanIoU(CLASSES)
        metric.update_state(truths, answers)
        return float(metric.result())

    def model_gardens() -> float:
        metric = model_garden.PerClassIoU(CLASSES)
        metric.update_state(truths, answers)
        return float(tf.reduce_mean(metric.result()))

    contestants = {OURS: ours, "Keras MeanIoU": kerass, "Model Garden PerClassIoU": model_gardens}
    found = [work() for work in contestants.values()]
    return contestants, f"mean IoU {found[0]:.6f}, others differ by at most {np.ptp(found):.1e}"


def main() -> None:
    """Print a table and write benchmarks/results/segmentation.json."""
    rows: list[dict[str, Any]] = []
    ratios: list[float] = []

    def compare(what: str, seconds: dict[str, float], images: int) -> None:
        rows.extend(
            row(f"{what}: {name}", round(images / taken, 2), "images/s", name == OURS)
            for name, taken in seconds.items()
        )
        ratios.append(min(taken for name, taken in seconds.items() if name != OURS) / seconds[OURS])
        rows.append(row(f"{what}: ours / best peer", round(ratios[-1], 3), "", True))

    keras_peers = {
        "Keras fit, defaults": (["keras"], {}),
        "Keras fit, oneDNN, no XLA": (["keras", "off"], ONEDNN),
    }
    compare("U-Net step", step_seconds("unet", keras_peers), BATCH * STEPS)
    garden_peers = {
        "Model Garden, defaults": (["model_garden"], {}),
        "Model Garden, oneDNN": (["model_garden"], ONEDNN),
    }
    compare("ResNet-18 step", step_seconds("fcn", garden_peers), BATCH * STEPS)
    contestants, compared = scoring()
    print(compared, flush=True)
    seconds = median_seconds({name: timed(work) for name, work in contestants.items()}, ROUNDS)
    compare("mean IoU, 512 × 512 × 21", seconds, IMAGES)
    record("segmentation", rows, min(ratios))


if __name__ == "__main__":
    main()
