"""Measure the scores of scikit-learn's classifiers on Fashion-MNIST by `cvpipe baselines`, as
baselines for the pipelines' networks.

Times include the search for hyperparameters, training and prediction. On a busy machine, times are
upper bounds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from record import record, row

ROOT = Path(__file__).parent.parent
PIPELINE = "pipelines/classification/fashion_mnist.yaml"


def measure() -> list[dict[str, Any]]:
    """Return the test accuracy and time of each baseline. The names of the rows include the chosen
    hyperparameters.
    """
    command = [sys.executable, "-m", "cvpipe", "baselines", PIPELINE, "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    rows = []
    for found in json.loads(done.stdout):
        settings = ", ".join(f"{name} = {value:g}" for name, value in found["settings"].items())
        name = f"{found['baseline']}, {settings}" + (
            f" ({found['images']:,} of the test images)" if "sample" in found["note"] else ""
        )
        rows += [
            row(f"{name}: test accuracy", found["accuracy"], "", False),
            row(f"{name}: time", found["seconds"], "s", False),
        ]
    return rows


if __name__ == "__main__":
    record("baselines", measure())
