"""Runs the command line in a process that sends itself a signal at a given step.

    python stopped.py SIGNAL STEP MOMENT train PIPELINE.yaml ...

MOMENT is "before", "during" or "after" the checkpoint of that step is written; "during" is when the
new file is complete but not yet renamed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cvpipe.cli import main
from cvpipe.training import checkpoints


def stop_at(step: int, moment: str, number: int) -> None:
    """Send this process the signal when the step's checkpoint `last` is written."""
    write, replace = checkpoints.write_checkpoint, os.replace
    sent = False

    def send(now: str, is_it: bool) -> None:
        nonlocal sent
        if is_it and now == moment and not sent:
            # Only once: the same checkpoint is written again when the run stops.
            sent = True
            os.kill(os.getpid(), number)

    def write_checkpoint(file: Path, arrays: dict[str, np.ndarray]) -> None:
        is_it = file.stem == "last" and int(arrays["step"]) == step

        def replace_if_alive(*arguments: Any) -> None:
            send("during", is_it)
            replace(*arguments)

        send("before", is_it)
        os.replace = replace_if_alive
        try:
            write(file, arrays)
        finally:
            os.replace = replace
        send("after", is_it)

    checkpoints.write_checkpoint = write_checkpoint


if __name__ == "__main__":
    name, step, moment, *arguments = sys.argv[1:]
    stop_at(int(step), moment, signal.Signals[name])
    sys.exit(main(arguments))
