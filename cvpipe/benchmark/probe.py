"""Measure calls of one signature of an artifact, in a separate process, without cvpipe.

Run by `contestants.py` as `python probe.py PLAN`, where PLAN is JSON:

    {"artifact": folder, "signature": name, "requests": file.npz, "input": name of the input that
    has the images, "batches": [size, …], "cores": [number of a core to use, …]}

It prints {"memory": {size: bytes}} when it is ready. Then it answers each line on stdin, {"size":
batch size, "seconds": shortest duration}, by a list of the duration of each call in seconds.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

WARMUP = 3
"""Number of calls of each batch size before it is measured. The first calls prepare the graph."""


class Probe:
    """A loaded signature and its requests."""

    def __init__(self, plan: dict[str, Any]):
        """Load the artifact. Growth is measured from the memory before loading."""
        with np.load(plan["requests"], allow_pickle=True) as arrays:
            inputs = dict(arrays)
        # Imported after the cores are limited, because TensorFlow makes a thread for each usable
        # core.
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
        # Kept alive, because signatures hold no reference to the model's variables.
        self._loaded = tf.saved_model.load(plan["artifact"])
        self._signature = self._loaded.signatures[plan["signature"]]

    def call(self, size: int) -> None:
        """Call the signature on the next batch of this size, and fetch all outputs."""
        batches = self._batches[size]
        request = {self._input: batches[self._calls % len(batches)]}
        self._calls += 1
        for value in self._signature(**request, **self._others).values():
            value.numpy()

    def warm_up(self) -> dict[int, int]:
        """Call the signature on batches of all sizes, the smallest first. Return, for each size,
        the peak memory so far minus the memory before loading, in bytes.
        """
        grown = {}
        for size in self._batches:
            for _ in range(WARMUP):
                self.call(size)
            grown[size] = status_bytes("VmHWM") - self._before
        return grown

    def measure(self, size: int, seconds: float) -> list[float]:
        """Call the signature for at least `seconds`; return the seconds of each call."""
        # Warm the caches, which other processes have used since the last turn.
        self.call(size)
        times: list[float] = []
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            began = time.perf_counter()
            self.call(size)
            times.append(time.perf_counter() - began)
        return times


def status_bytes(name: str) -> int:
    """Return a size in this process's status: VmRSS, its memory, or VmHWM, its peak memory."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def reset_peak() -> None:
    """Reset VmHWM to the current memory, if the kernel permits it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return


def main(plan: dict[str, Any]) -> None:
    """Answer the lines on stdin."""
    os.sched_setaffinity(0, plan["cores"])
    # Libraries may print to stdout, so the answers have a separate stream.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        probe = Probe(plan)
        print(json.dumps({"memory": probe.warm_up()}), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(probe.measure(**json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
