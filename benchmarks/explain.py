"""Times of occlusion and RISE, ours and Xplique's, and of a DeepDream step, ours and PyTorch's.

    XAI_PYTHON=/venv/bin/python python benchmarks/explain.py

Every contestant has a process of its own, and they work in turns: the same network, images, masks a
forward pass has and masks in all. XAI_PYTHON names a Python with Xplique, whose pins don't fit
ours. Contestants that aren't installed are left out.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from record import record, row
from turns import Contestant, median_turns

STEPS_FOLDER = Path(__file__).parent / "steps"
ROUNDS = 5
OURS = "cvpipe"
# Pixels of a side, images, masks of RISE.
NETWORKS = {"small": (32, 16, 1000), "mobilenet_v2": (224, 2, 128)}
DREAM_STEPS = 10


def contestants(work: str, network: str) -> dict[str, Contestant]:
    """Start all that can explain the network by occlusion or RISE."""
    script = str(STEPS_FOLDER / "explain_steps.py")
    numbers = [str(number) for number in NETWORKS[network]]
    theirs = os.environ.get("XAI_PYTHON", sys.executable)
    started = {
        OURS: _start([sys.executable, script, "cvpipe", work, network, *numbers], onednn=True)
    }
    if _has(theirs, "xplique"):
        command = [theirs, script, "xplique", work, network, *numbers]
        started["Xplique, defaults"] = _start(command)
        started["Xplique, oneDNN"] = _start(command, onednn=True)
    return started


def dreamers() -> dict[str, Contestant]:
    """Start all that can dream."""
    script, steps = str(STEPS_FOLDER / "dream_pytorch.py"), str(DREAM_STEPS)
    ours = str(STEPS_FOLDER / "explain_steps.py")
    started = {
        OURS: _start([sys.executable, ours, "cvpipe", "dream", "resnet50", steps], onednn=True)
    }
    if _has(sys.executable, "torch"):
        for layout in ("contiguous", "channels_last", "compiled"):
            started[f"PyTorch, {layout}"] = _start([sys.executable, script, layout, steps])
    return started


def _start(command: list[str], onednn: bool = False) -> Contestant:
    """Start a contestant; by default, TensorFlow uses oneDNN on some processors only."""
    chosen = {"TF_ENABLE_ONEDNN_OPTS": "1"} if onednn else {}
    return Contestant(command, {"TF_CPP_MIN_LOG_LEVEL": "3", **chosen})


def _has(python: str, module: str) -> bool:
    finds = f"import importlib.util as u, sys; sys.exit(u.find_spec('{module}') is None)"
    if subprocess.run([python, "-c", finds], check=False).returncode == 0:
        return True
    print(f"{module} is not installed and not measured")
    return False


def main() -> None:
    """Measure, and record the smallest ratio to the fastest peer."""
    rows, ratios = [], []
    for work, network in itertools.product(("occlusion", "rise"), NETWORKS):
        seconds = median_turns(contestants(work, network), ROUNDS)
        ratios += _add(rows, f"{work}, {network}", seconds, NETWORKS[network][1])
    ratios += _add(rows, "dream, resnet50", median_turns(dreamers(), ROUNDS), DREAM_STEPS)
    record("explain", rows, to_best_peer=min(ratios, default=None))


def _add(
    rows: list[dict[str, Any]], what: str, seconds: dict[str, float], parts: int
) -> list[float]:
    """Add a row for each contestant; return our speed over the fastest peer's, if there is one.

    Args:
        rows: of the report.
        what: the work.
        seconds: by contestant.
        parts: images or steps in that time.
    """
    for name, own in seconds.items():
        rows.append(row(f"{what}: {name}", round(1e3 * own / parts, 2), "ms", name == OURS))
    peers = [own for name, own in seconds.items() if name != OURS]
    return [round(min(peers) / seconds[OURS], 3)] if peers else []


if __name__ == "__main__":
    main()
