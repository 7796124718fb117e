"""One run of a trial: trained by `cvpipe train` in a process of its own, and scored by its best
validation.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cvpipe.config import Config
from cvpipe.errors import ConfigError, Interrupted, UserError
from cvpipe.interrupt import on_signals
from cvpipe.json_files import write_json
from cvpipe.tasks.task import BestBy
from cvpipe.training.run import Run

# Trains a configuration in a folder, or goes on with it there; raises UserError where that fails,
# Interrupted where it is to stop.
Train = Callable[[Config, Path], Any]


def train_in_a_process(config: Config, folder: Path) -> None:
    """Run `cvpipe train` in a separate process.

    A trial is then bit-identical to `cvpipe train` with its configuration: kernels are chosen anew
    (`train.onednn`). All memory is released at the end. If the system kills a trial that needs too
    much memory, the sweep continues.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.json"
    write_json(file, config.to_json())
    command = [sys.executable, "-m", "cvpipe", "train", str(file), "--run", str(folder), "--json"]
    last: deque[str] = deque(maxlen=20)
    # In a session of its own, or Ctrl-C on the terminal would reach it twice, which means "at
    # once".
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stderr
        with on_signals(process.send_signal) as stopped:
            for line in process.stderr:
                sys.stderr.write(line)
                last.append(line.strip())
            code = process.wait()
    if stopped.is_set() or code == Interrupted.exit_code:
        raise Interrupted("stopped; everything is saved. The same command goes on")
    if code < 0:
        raise UserError(
            f"killed by signal {-code} ({signal.Signals(-code).name}); the memory may not suffice"
            " for it"
        )
    if code:
        said = [line.partition("cvpipe train: ")[2] for line in last]
        raise UserError(next(filter(None, reversed(said)), f"ended with code {code}"))


def run_once(config: Config, folder: Path, best_by: BestBy, train: Train) -> dict[str, Any]:
    """Trains a configuration, or goes on with it, and scores it.

    Returns:
        "score", the best one on the validation split; "epoch", where it was reached;
        "seconds"; "error", None or why
        it failed, and then there is no score.

    Raises:
        ConfigError: the folder holds another run.
        Interrupted: asked to stop.
    """
    run = Run(folder)
    if run.config_file.exists() and run.config != config:
        raise ConfigError(
            f"{folder}: holds a run of another configuration; choose another folder with --run"
        )
    began = time.monotonic()
    try:
        train(config, folder)
        error = None
    except Interrupted:
        raise
    except UserError as failure:
        error = str(failure)
    seconds = round(time.monotonic() - began, 1)
    rows = [
        row
        for row in run.metrics()
        if row["split"] == "validation" and row.get(best_by.score) is not None
    ]
    if error or not rows:
        return {
            "score": None,
            "epoch": None,
            "seconds": seconds,
            "error": error or "no validation score is finite",
        }
    # Of equal scores the later, as in training.
    best = max(reversed(rows), key=lambda row: best_by.merit(row[best_by.score]))
    return {"score": best[best_by.score], "epoch": best["epoch"], "seconds": seconds, "error": None}
