"""Contestants that are measured in turns, so that the machine's moods strike all alike.

Most have a process of their own. Such a contestant is a script that ends in `answer(measure)`; the
one that measures holds a `Contestant` for each and asks them in turn.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """Work as a measurement of the seconds it takes."""

    def measure() -> float:
        began = time.monotonic()
        work()
        return time.monotonic() - began

    return measure


def answer(measure: Callable[[], float]) -> None:
    """In the contestant: for every line on stdin, measures once and prints the seconds."""
    # Libraries print as they please; the measurements have a stream of their own.
    measurements = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for _ in sys.stdin:
        print(measure(), file=measurements, flush=True)


class Contestant:
    """A running contestant."""

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
        """Lets it do its work once."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"{' '.join(self._command)} ended with {self._process.wait()}; run it alone and"
                " type a line to see why"
            )
        return float(line)

    def end(self) -> None:
        """Stops it."""
        self._process.kill()
        self._process.wait()


def median_turns(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, float]:
    """`median_seconds` of running contestants, which are stopped in the end."""
    try:
        return median_seconds(
            {name: contestant.seconds for name, contestant in contestants.items()}, rounds
        )
    finally:
        for contestant in contestants.values():
            contestant.end()


def median_seconds(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Each one's median over `rounds` turns of measuring seconds, after a turn to warm up that
    doesn't count.
    """
    for measure in contestants.values():
        measure()
    turns = [{name: measure() for name, measure in contestants.items()} for _ in range(rounds)]
    return {name: statistics.median(turn[name] for turn in turns) for name in contestants}
