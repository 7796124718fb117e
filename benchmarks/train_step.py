"""Measure training steps of ResNet-50 at 224×224 and ResNet-20 at 32×32 in cvpipe, Keras (`fit`),
Model Garden and PyTorch.

    python benchmarks/train_step.py [resnet20|resnet50 …] [--precision mixed_bfloat16]

Every contestant has its own process and does the same work: SGD with Nesterov momentum and softmax
cross-entropy on one batch in memory, so that only steps are compared. Other libraries run with
their default settings, and with the best settings that we know. With `--precision mixed_bfloat16`,
all libraries compute in bfloat16 with float32 weights, which is faster only on processors with
instructions for bfloat16. Model Garden has no ResNet-20. The benchmark takes about ten minutes and
12 GB of memory.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from record import record, row
from turns import Contestant, median_turns

STEPS_FOLDER = Path(__file__).parent / "steps"
ROUNDS = 5
# By network: pixels per side, classes, images per batch, steps per measurement.
NETWORKS = {"resnet20": (32, 10, 128, 10), "resnet50": (224, 1000, 16, 2)}
# By default, TensorFlow uses oneDNN only on some processors.
ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "1"}
PRECISIONS = {"float32": "train_step", "mixed_bfloat16": "train_step_bfloat16"}
"""The results file of each precision."""
OURS = "cvpipe"


def contestants(network: str, precision: str) -> dict[str, Contestant]:
    """Start and return all contestants that can train the network."""
    size, classes, batch_size, steps = NETWORKS[network]
    numbers = [*map(str, (size, classes, batch_size, steps)), precision]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}

    def start(script: str, *arguments: str, **environment: str) -> Contestant:
        return Contestant(
            [sys.executable, str(STEPS_FOLDER / f"{script}_steps.py"), *arguments],
            {**quiet, **environment},
        )

    started = {
        OURS: start("cvpipe", network, *numbers),
        "Keras fit, defaults": start("keras", network, *numbers, "auto"),
        "Keras fit, oneDNN, no XLA": start("keras", network, *numbers, "off", **ONEDNN),
        "PyTorch, defaults": start("pytorch", network, *numbers, "contiguous"),
        "PyTorch, channels_last": start("pytorch", network, *numbers, "channels_last"),
        "PyTorch, channels_last, compiled": start("pytorch", network, *numbers, "compiled"),
    }
    if network == "resnet50":
        started["Model Garden, defaults"] = start("model_garden", *numbers)
        started["Model Garden, oneDNN"] = start("model_garden", *numbers, **ONEDNN)
    return started


def measure(network: str, precision: str) -> dict[str, float]:
    """Return the images per second of each contestant."""
    _, _, batch_size, steps = NETWORKS[network]
    started = contestants(network, precision)
    seconds = median_turns(started, ROUNDS)
    return {name: batch_size * steps / taken for name, taken in seconds.items()}


def main() -> None:
    """Measure the named networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    options = parser.parse_args()
    rows, ratios = [], []
    for network in options.networks:
        size, _, batch_size, _ = NETWORKS[network]
        speeds = measure(network, options.precision)
        what = f"{network}, {size}, batch {batch_size}"
        rows += [
            row(f"{what}: {name}", round(speed, 2), "images/s", name == OURS)
            for name, speed in speeds.items()
        ]
        ratios.append(speeds[OURS] / max(speed for name, speed in speeds.items() if name != OURS))
    record(PRECISIONS[options.precision], rows, to_best_peer=round(min(ratios), 3))


if __name__ == "__main__":
    main()
