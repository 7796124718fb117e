"""Scripts run in a separate process without cvpipe, with arrays as input and output."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


class FreshProcessError(Exception):
    """A script failed. The message is the end of its stderr."""


def run_script(
    script: Path, arguments: Sequence[str], requests: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Run `python SCRIPT ARGUMENTS REQUESTS.npz ANSWERS.npz` and return the arrays that it writes.

    Raises:
        FreshProcessError: the script fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        requests_file, answers_file = Path(scratch) / "requests.npz", Path(scratch) / "answers.npz"
        np.savez(requests_file, **requests)  # type: ignore[arg-type]
        # -I isolates the script from code in this folder and in the user's environment.
        command = [sys.executable, "-I", str(script), *arguments]
        done = subprocess.run(
            [*command, str(requests_file), str(answers_file)],
            capture_output=True,
            text=True,
            env=os.environ.copy(),
            check=False,
        )
        if done.returncode:
            raise FreshProcessError(done.stderr[-2000:])
        with np.load(answers_file, allow_pickle=True) as answers:
            return dict(answers)
