"""Measure occlusion and RISE in cvpipe and Xplique, and steps of DeepDream in cvpipe and PyTorch.

    XAI_PYTHON=/venv/bin/python python benchmarks/explain.py [occlusion|rise|dream …]

Each contestant has its own process, and the contestants take turns. All use the same network,
images, and patches or number of masks, with at most 64 masked images in a forward pass. Times are
CPU times of one thread, which depend little on other work of the machine. XAI_PYTHON is the path of
a Python with Xplique and TensorFlow, because Xplique and cvpipe need different versions of other
packages. Contestants that aren't installed are left out. The benchmark takes about five minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from record import record, row
from turns import Contestant, median_turns

STEPS_FOLDER = Path(__file__).parent / "steps"
ROUNDS = 3
OURS = "cvpipe"
ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # By default, TensorFlow uses oneDNN only on some processors.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


class Size(NamedTuple):
    """Images and masks of one measurement of occlusion or RISE."""

    pixels: int
    """Height and width of images."""
    images: int
    masks: int
    """Masks per image of RISE. Occlusion has 225 patches."""


NETWORKS = {"small": Size(32, 16, 1000), "mobilenet_v2": Size(224, 1, 225)}
DREAM_STEPS = 10


def explainers(work: str, network: str) -> dict[str, Contestant]:
    """Start and return all contestants that can explain the network by occlusion or RISE."""
    arguments = ["explain_steps.py", work, network, *map(str, NETWORKS[network])]
    started = {OURS: _start(sys.executable, *arguments, "cvpipe")}
    python = os.environ.get("XAI_PYTHON", sys.executable)
    if _has(python, "xplique"):
        started["Xplique"] = _start(python, *arguments, "xplique")
    return started


def dreamers() -> dict[str, Contestant]:
    """Start and return all contestants that can run DeepDream."""
    steps = str(DREAM_STEPS)
    started = {OURS: _start(sys.executable, "dream_steps.py", steps)}
    if _has(sys.executable, "torch"):
        for layout in ("contiguous", "channels_last", "compiled"):
            started[f"PyTorch, {layout}"] = _start(
                sys.executable, "dream_pytorch_steps.py", steps, layout
            )
    return started


def _start(python: str, script: str, *arguments: str) -> Contestant:
    return Contestant([python, str(STEPS_FOLDER / script), *arguments], ENVIRONMENT)


def _has(python: str, module: str) -> bool:
    finds = f"import importlib.util as u, sys; sys.exit(u.find_spec('{module}') is None)"
    found = subprocess.run([python, "-c", finds], check=False).returncode == 0
    if not found:
        print(f"{module} is not installed in {python}, and not measured")
    return found


def main() -> None:
    """Print a table and write benchmarks/results/explain.json."""
    rows: list[dict[str, Any]] = []
    ratios: list[float] = []

    def compare(what: str, started: dict[str, Contestant], parts: int) -> None:
        seconds = median_turns(started, ROUNDS)
        rows.extend(
            row(f"{what}: {name}", round(1000 * taken / parts, 2), "ms of CPU", name == OURS)
            for name, taken in seconds.items()
        )
        peers = [taken for name, taken in seconds.items() if name != OURS]
        if peers:
            ratios.append(round(min(peers) / seconds[OURS], 3))
            rows.append(row(f"{what}: best peer / cvpipe", ratios[-1], "", True))

    for work in sys.argv[1:] or ("occlusion", "rise", "dream"):
        if work == "dream":
            compare("dream, resnet50", dreamers(), DREAM_STEPS)
            continue
        for network, size in NETWORKS.items():
            compare(f"{work}, {network}", explainers(work, network), size.images)
    record("explain", rows, to_best_peer=min(ratios, default=None))


if __name__ == "__main__":
    main()
