"""Training steps per second of ResNet-50 at 224 pixels and ResNet-20 at 32: ours, Keras `fit`,
Model Garden and PyTorch.

Every contestant has a process of its own and does the same: SGD with Nesterov momentum and softmax
cross-entropy on one batch in memory, so that steps are compared with steps. Peers run as they come
out of the box and at the best settings known to us. Model Garden has no ResNet-20. `python
benchmarks/train_step.py [resnet20|resnet50 …]`; all take about ten minutes and 12 GB of memory.
"""

from __future__ import annotations

import sys
from pathlib import Path

from record import record, row
from turns import Contestant, median_turns

STEPS_FOLDER = Path(__file__).parent / "steps"
ROUNDS = 5
# Network: pixels, classes, images a batch, steps a turn.
NETWORKS = {"resnet20": (32, 10, 128, 10), "resnet50": (224, 1000, 16, 2)}
# TensorFlow decides by the processor whether to use oneDNN; "best" asks for it.
ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "1"}
OURS = "cvpipe"


def contestants(network: str) -> dict[str, Contestant]:
    """All that can train the network, started."""
    size, classes, batch_size, steps = NETWORKS[network]
    numbers = [str(number) for number in (size, classes, batch_size, steps)]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}

    def start(script: str, *arguments: str, **environment: str) -> Contestant:
        return Contestant(
            [sys.executable, str(STEPS_FOLDER / f"{script}_steps.py"), *arguments],
            {**quiet, **environment},
        )

    started = {
        OURS: start("cvpipe", network, *numbers),
        "Keras fit, defaults": start("keras", network, *numbers),
        "Keras fit, oneDNN, no XLA": start("keras", network, *numbers, "off", **ONEDNN),
        "PyTorch, defaults": start("pytorch", network, *numbers),
        "PyTorch, channels_last": start("pytorch", network, *numbers, "channels_last"),
        "PyTorch, channels_last, compiled": start("pytorch", network, *numbers, "compiled"),
    }
    if network == "resnet50":
        started["Model Garden, defaults"] = start("model_garden", *numbers)
        started["Model Garden, oneDNN"] = start("model_garden", *numbers, **ONEDNN)
    return started


def measure(network: str) -> dict[str, float]:
    """Images a second of each contestant."""
    _, _, batch_size, steps = NETWORKS[network]
    started = contestants(network)
    seconds = median_turns(started, ROUNDS)
    return {name: batch_size * steps / taken for name, taken in seconds.items()}


if __name__ == "__main__":
    rows, ratios = [], []
    for network in sys.argv[1:] or NETWORKS:
        size, _, batch_size, _ = NETWORKS[network]
        speeds = measure(network)
        what = f"{network}, {size}, batch {batch_size}"
        rows += [
            row(f"{what}: {name}", round(speed, 2), "images/s", name == OURS)
            for name, speed in speeds.items()
        ]
        ratios.append(speeds[OURS] / max(speed for name, speed in speeds.items() if name != OURS))
    record("train_step", rows, to_best_peer=round(min(ratios), 3))
