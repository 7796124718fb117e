"""Measure calls of one signature of an artifact, in a process of its own, without cvpipe.

Run by `contestants.py` as `python probe.py PLAN`, where PLAN is JSON:

    {"artifact": folder, "signature": name, "requests": file.npz, "input": name of the input that
    has the images, "batches": [size, …], "cores": [number of a core to use, …]}

It prints {"memory": {size: bytes}} when it is ready. Then it answers each line on stdin, {"size":
of the batch, "seconds": shortest duration}, by a list of the seconds of each call.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

WARMUP = 3
"""Calls of each batch size before it is measured; the first ones prepare the graph."""


class Probe:
    """A loaded signature and its requests."""

    def __init__(self, plan: dict[str, Any]):
        """Load the artifact. The memory before that is the base of its growth."""
        with np.load(plan["requests"], allow_pickle=True) as arrays:
            inputs = dict(arrays)
        # Imported late, because it makes a thread for each core that may be used.
        import tensorflow as tf

        images = inputs.pop(plan["input"])
        self._input = plan["input"]
        self._others = {name: tf.constant(value) for name, value in inputs.items()}
        self._batches = {
            size: [
                tf.constant(images[begin : begin + size])
                for begin in range(0, len(images) - size + 1, size)
            ]
            for size in sorted(plan["batches"])
        }
        self._calls = 0
        reset_peak()
        self._before = status_bytes("VmRSS")
        # Kept, because signatures hold no reference to its variables.
        self._loaded = tf.saved_model.load(plan["artifact"])
        self._signature = self._loaded.signatures[plan["signature"]]

    def call(self, size: int) -> None:
        """Answer one batch, other images in turn, and fetch all answers."""
        batches = self._batches[size]
        request = {self._input: batches[self._calls % len(batches)]}
        self._calls += 1
        for value in self._signature(**request, **self._others).values():
            value.numpy()

    def warm_up(self) -> dict[int, int]:
        """Answer batches of all sizes, the smallest first; return by how many bytes the process has
        grown at most up to each size.
        """
        grown = {}
        for size in self._batches:
            for _ in range(WARMUP):
                self.call(size)
            grown[size] = status_bytes("VmHWM") - self._before
        return grown

    def measure(self, size: int, seconds: float) -> list[float]:
        """Answer batches for at least so many seconds; return the seconds of each call."""
        # Since the last turn, the caches were others'.
        self.call(size)
        times: list[float] = []
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            began = time.perf_counter()
            self.call(size)
            times.append(time.perf_counter() - began)
        return times


def status_bytes(name: str) -> int:
    """Return a size in this process's status: VmRSS, its memory, or VmHWM, the peak of that."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def reset_peak() -> None:
    """Let VmHWM begin with the memory of now, where the kernel permits it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return


def main(plan: dict[str, Any]) -> None:
    """Answer the lines on stdin."""
    os.sched_setaffinity(0, plan["cores"])
    # Libraries print as they please; the answers have a stream of their own.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        probe = Probe(plan)
        print(json.dumps({"memory": probe.warm_up()}), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(probe.measure(**json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
