"""Alternating measurements of several implementations of the same work, here called contestants.

In each round, every contestant is measured once, so that other work on the machine affects all
equally. Most contestants have their own process, which runs a script that ends with
`answer(measure)`. The measuring process has a `Contestant` for each of these processes, and
requests one measurement after the other.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence


def timed(
    work: Callable[[], object], clock: Callable[[], float] = time.monotonic
) -> Callable[[], float]:
    """Return a function that does the work and returns its duration in seconds. With the clock
    `time.process_time`, that is the CPU time of all threads of the process.
    """

    def measure() -> float:
        began = clock()
        work()
        return clock() - began

    return measure


def answer(measure: Callable[[], float]) -> None:
    """Measure once for every line on stdin, and print the seconds. The processes of contestants
    call this function.
    """
    # Libraries may print to stdout, so the measurements get a separate stream.
    measurements = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for _ in sys.stdin:
        print(measure(), file=measurements, flush=True)


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Contestant:
    """The process of a contestant."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] = {}):
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **environment},
        )
        self._command = command

    def seconds(self) -> float:
        """Ask the process for one measurement, and return its seconds."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"{' '.join(self._command)} ended with {self._process.wait()}; run that"
                " command alone, and enter a line, to see its error"
            )
        return float(line)

    def end(self) -> None:
        """Stop the process."""
        self._process.kill()
        self._process.wait()


def median_turns(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, float]:
    """Return `median_seconds` of contestants with processes, and stop the processes."""
    try:
        return median_seconds(
            {name: contestant.seconds for name, contestant in contestants.items()}, rounds
        )
    finally:
        for contestant in contestants.values():
            contestant.end()


def median_seconds(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Return each contestant's median seconds over `rounds` rounds, after a warm-up round."""
    for measure in contestants.values():
        measure()
    turns = [{name: measure() for name, measure in contestants.items()} for _ in range(rounds)]
    return {name: statistics.median(turn[name] for turn in turns) for name in contestants}
