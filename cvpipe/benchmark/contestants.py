"""Processes that each hold one signature of an artifact, and are measured in turns."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from cvpipe.benchmark.requests import Request
from cvpipe.errors import DataError

_PROBE = Path(__file__).with_name("probe.py")
# Number of characters of a process's stderr that an error quotes.
_QUOTED = 1000
# Environment variables that would change the number of TensorFlow's threads.
_OTHER_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The measurements of one process."""

    artifact: Path
    """Folder of the version."""
    request: Request
    """A request with at least as many images as the largest batch."""
    threads: int
    """Number of cores that the process may use, and of TensorFlow's threads."""
    batches: tuple[int, ...]


class Contestant:
    """A running process that makes the measurements of a plan."""

    def __init__(self, plan: Plan):
        """Start the process, which loads for some seconds; `wait` returns when it is ready."""
        self.plan = plan
        self.times: dict[int, list[float]] = {size: [] for size in plan.batches}
        """Seconds of each call by batch size."""
        self.memory: dict[int, int] = {}
        """Peak memory up to each batch size, minus the memory before loading, in bytes."""
        cores = sorted(os.sched_getaffinity(0))[-plan.threads :]
        content = {
            "artifact": str(plan.artifact),
            "signature": plan.request.signature,
            "input": plan.request.input,
            "requests": str(plan.request.file),
            "batches": plan.batches,
            "cores": cores,
        }
        # A file next to the requests, in a scratch folder.
        self._errors = plan.request.file.with_suffix(f".{plan.threads}.stderr")
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                # -I isolates the process from code in this folder and in the user's environment.
                [sys.executable, "-I", str(_PROBE), json.dumps(content)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={key: value for key, value in os.environ.items() if key not in _OTHER_THREADS},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        # Wait for the process to end, and close the pipes.
        self._process.communicate()

    def wait(self) -> None:
        """Wait until the signature is loaded and warm.

        Raises:
            DataError: the process failed.
        """
        ready = self._read()
        self.memory = {int(size): grown for size, grown in ready["memory"].items()}

    def measure(self, batch: int, seconds: float) -> None:
        """Time calls for at least `seconds`, and add the times. Raises the same errors as
        `wait`.
        """
        assert self._process.stdin
        # Reading detects a process that has ended.
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"size": batch, "seconds": seconds}) + "\n")
            self._process.stdin.flush()
        self.times[batch] += self._read()

    def _read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        stderr = self._errors.read_text(errors="replace").strip()[-_QUOTED:]
        killed = "; it was killed, perhaps because memory ran out" if code < 0 else ""
        plan = self.plan
        raise DataError(
            f"{plan.artifact}: the signature {plan.request.signature} can't be measured with"
            f" {plan.threads} threads and batches of {', '.join(map(str, plan.batches))}"
            f"{killed}:\n{stderr}"
        )


def measure_in_turns(
    plans: Sequence[Plan], seconds: float, turns: int, note: Callable[[str], None]
) -> list[Contestant]:
    """Measure all batch sizes of all plans in turns, so that other work on the machine affects all
    plans alike.

    Args:
        seconds: time to measure each batch size of each plan, in all turns together.
        turns: number of turns.
        note: called with the progress.

    Returns:
        The contestants, whose processes have ended.

    Raises:
        DataError: a process failed.
    """
    with ExitStack() as stack:
        contestants = [stack.enter_context(Contestant(plan)) for plan in plans]
        for number, contestant in enumerate(contestants, 1):
            contestant.wait()
            note(f"{number} of {len(plans)} processes ready")
        for turn in range(1, turns + 1):
            for contestant in contestants:
                for batch in contestant.plan.batches:
                    contestant.measure(batch, seconds / turns)
            note(f"turn {turn} of {turns}")
    return contestants
