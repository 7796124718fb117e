"""Saves checkpoints in a process that kills itself at a given event, as a power cut would.

    python saving.py FOLDER FIRST LAST EVENT

Saves the steps FIRST to LAST, and prints each step once its checkpoint is safe. EVENT: "call N"
kills the process at the Nth call that changes the folder or waits for the disk; "byte N", when the
last file grows beyond N bytes.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cvpipe.training.checkpoints import write_last

KEPT = 2
CHANGES = ("link", "replace", "unlink", "fsync")


def state(step: int) -> dict[str, np.ndarray]:
    """Return a state in which every number depends on the step."""
    return {
        "step": np.int64(step),
        "networks/network/kernel": np.full([4000], step, np.float32),
        "optimizers/optimizer/momentum": np.full([40, 50], -step, np.float64),
    }


def kill_at_call(number: int) -> None:
    """Kill this process at the Nth of the calls in `CHANGES`."""
    made = 0

    def killing(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            nonlocal made
            made += 1
            if made == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return called

    for name in CHANGES:
        setattr(os, name, killing(getattr(os, name)))


def kill_at_byte(number: int) -> None:
    """Let the system end this process when a file grows beyond this size."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))


if __name__ == "__main__":
    folder, first, last, event = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    kind, _, number = event.partition(" ")
    if kind == "call":
        kill_at_call(int(number))
    for step in range(first, last + 1):
        if kind == "byte" and step == last:
            kill_at_byte(int(number))
        write_last(folder / "last.npz", state(step), KEPT)
        print(step, flush=True)
