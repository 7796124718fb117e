"""Training of a trial's run by `cvpipe train` in a separate process, and its validation score."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cvpipe.config import Config
from cvpipe.console import print_message
from cvpipe.errors import ConfigError, Interrupted, UserError
from cvpipe.interrupt import on_signals
from cvpipe.json_files import write_json
from cvpipe.tasks.task import BestBy
from cvpipe.training.run import Run

# Trains a configuration in a folder, or continues its run. Raises UserError if the training fails,
# and Interrupted if it is stopped.
Train = Callable[[Config, Path], Any]
_LIBC = ctypes.CDLL(None)
# From linux/prctl.h.
_PR_SET_PDEATHSIG = 1


def _stop_with_parent() -> None:
    """Let this process receive Ctrl-C when its parent ends, such as when the terminal is closed."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def train_in_a_process(config: Config, folder: Path) -> None:
    """Run `cvpipe train` in a separate process.

    A process chooses its kernels once (`train.onednn`), so only in its own process does a trial
    have the same bits as `cvpipe train`. The process releases all its memory at the end, and if the
    system kills it because it uses too much memory, the sweep continues.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.json"
    write_json(file, config.to_json())
    command = [sys.executable, "-m", "cvpipe", "train", str(file), "--run", str(folder), "--json"]
    last: deque[str] = deque(maxlen=20)
    signals: list[int] = []
    # Start a new session. Otherwise Ctrl-C in the terminal would reach the process twice, and a
    # second signal stops a training without saving.
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_stop_with_parent,
    ) as process:
        assert process.stderr

        def forward(number: int) -> None:
            signals.append(number)
            process.send_signal(number)

        with on_signals(forward):
            for line in process.stderr:
                print_message(line, end="")
                last.append(line.strip())
            code = process.wait()
    if len(signals) > 1:
        raise Interrupted(
            "stopped at once; the same command continues the sweep, and this trial from its last"
            " checkpoint"
        )
    if signals or code == Interrupted.exit_code:
        raise Interrupted("stopped; everything is saved. The same command continues the sweep")
    if code < 0:
        raise UserError(
            f"killed by signal {-code} ({signal.Signals(-code).name}); it may have run out of"
            " memory"
        )
    if code:
        said = [line.partition("cvpipe train: ")[2] for line in last]
        raise UserError(next(filter(None, reversed(said)), f"ended with code {code}"))


def failed(error: str, seconds: float) -> dict[str, Any]:
    """Return the result of a run that has no score."""
    return {"score": None, "epoch": None, "seconds": seconds, "error": error}


def run_once(config: Config, folder: Path, best_by: BestBy, train: Train) -> dict[str, Any]:
    """Train a configuration, or continue its run, and score it.

    Returns:
        "score", the best score on the validation split, and its "epoch", both None if the run
        failed; "seconds"; and "error", the reason of the failure, or None.

    Raises:
        ConfigError: the folder contains another run.
        Interrupted: stopped by a signal.
        UserError: another process trains this run.
    """
    run = Run(folder)
    if run.config_file.exists() and run.config != config:
        raise ConfigError(
            f"{folder}: has a run with another configuration; choose another folder with --run"
        )
    # The training of a sweep that was killed may still be saving. That is no failure of the trial.
    with run.locked():
        pass
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
        return failed(error or "no validation score is finite", seconds)
    # Ties go to the later epoch, as in training.
    best = max(reversed(rows), key=lambda row: best_by.merit(row[best_by.score]))
    return {"score": best[best_by.score], "epoch": best["epoch"], "seconds": seconds, "error": None}
