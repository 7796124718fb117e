"""Compare the speed of training with one process on all cores and with two processes, as on two
machines, each on half of the cores.

    python benchmarks/processes.py

`cvpipe train` trains ResNet-20 on digits at 32×32 with a global batch of 128, alternately with one
and with two processes. A run's speed is the median of the rates that it logs, without the first
rate, which includes the tracing of the step.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from record import record, row
from turns import free_port

ROOT = Path(__file__).parents[1]
ROUNDS, CORES = 3, os.cpu_count() or 1
WORDS = [
    str(ROOT / "pipelines" / "classification" / "digits.yaml"),
    *("--set", "model={backbone: resnet20}"),
    *("--set", "prepare.size=[32, 32]"),
    *("--set", "train.batch_size=128"),
    *("--set", "train.epochs=12"),
    *("--set", "train.evaluate_every=12"),
    *("--set", "train.pictures=false"),
]


def train(processes: int, run: Path) -> float:
    """Train once with `processes` processes, and return images per second."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(processes)]
    started = []
    for index in range(processes):
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TF_NUM_INTRAOP_THREADS": str(CORES // processes),
        }
        if processes > 1:
            environment |= {
                "CVPIPE_WORKERS": ",".join(addresses),
                "CVPIPE_WORKER_INDEX": str(index),
            }
        command = [sys.executable, "-m", "cvpipe", "train", *WORDS, "--run", str(run)]
        started.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        )
    codes = [process.wait() for process in started]
    if any(codes):
        raise RuntimeError(f"cvpipe train ended with {codes}")
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = [entry["images_per_second"] for entry in entries if "images_per_second" in entry]
    return statistics.median(logged[1:])


def main() -> None:
    """Measure trainings with one and with two processes alternately, and record the medians."""
    rates_by_processes: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(ROUNDS):
            for processes, rates in rates_by_processes.items():
                rates.append(train(processes, Path(scratch) / f"{processes}-{turn}"))
    one, two = (statistics.median(rates) for rates in rates_by_processes.values())
    record(
        "processes",
        [
            row(f"one process, {CORES} threads", one, "images/s", True),
            row(f"two processes, {CORES // 2} threads each", two, "images/s", True),
            row("two processes / one", two / one, "×", True),
        ],
    )


if __name__ == "__main__":
    main()
