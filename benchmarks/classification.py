"""Train two classification pipelines from scratch, and record test scores and times (`make bench`).

A time is that of the whole command `cvpipe train`: start, training, evaluations and report.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from record import record, row

ROOT = Path(__file__).parent.parent
PIPELINES = ("digits", "fashion_mnist")


def measure(pipeline: str) -> list[dict[str, Any]]:
    """Train once from scratch, and return rows with the scores on the test split and the time."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "cvpipe",
            "train",
            f"pipelines/classification/{pipeline}.yaml",
            "--run",
            f"{folder}/run",
            "--json",
        ]
        began = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.monotonic() - began
    scores = json.loads(done.stdout)
    return [
        row(f"{pipeline}: test accuracy", scores["accuracy"], "", True),
        row(f"{pipeline}: test loss", scores["loss"], "nats", True),
        row(f"{pipeline}: test images", scores["images"], "images", True),
        row(f"{pipeline}: cvpipe train", round(seconds, 1), "s", True),
    ]


if __name__ == "__main__":
    record("classification", [entry for pipeline in PIPELINES for entry in measure(pipeline)])
