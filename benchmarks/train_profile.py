"""Measure the CPU time of cvpipe's training steps by kind of operation, and the FLOP per second of
convolutions compared with the processor's peak.

TensorFlow's profiler times the kernels of a few steps on one thread, so that the duration of a
kernel is its CPU time. The peak is that of a large matrix product on one thread. `python
benchmarks/train_profile.py` takes about two minutes.
"""

from __future__ import annotations

import collections
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "steps"))

# cvpipe's setting.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from record import record, row
from train_step import NETWORKS

KINDS = {
    "convolution, forward": {"Conv2D", "FusedConv2D"},
    "convolution, gradient of the input": {"Conv2DBackpropInput"},
    "convolution, gradient of the kernel": {"Conv2DBackpropFilter"},
    "normalization": {"FusedBatchNormV3", "FusedBatchNormEx", "FusedBatchNormGradV3"},
    "activation and addition of branches": {"Relu", "ReluGrad", "AddV2", "AddN"},
    "update of weights": {"Mul", "Sub", "AssignVariableOp", "AssignAddVariableOp"},
}
STEPS = 2
MATRIX = 2048


def kernel_seconds(folder: Path) -> dict[str, float]:
    """Return the seconds of a trace's kernels, summed by type without oneDNN's prefix."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    [trace] = folder.rglob("*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(trace.read_bytes())
    seconds: collections.Counter[str] = collections.Counter()
    for plane in space.planes:
        names = {key: known.name for key, known in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                node, _, kind = names[event.metadata_id].rpartition(":")
                if "/" in node:
                    kind = kind.removeprefix("_MklNative").removeprefix("_Mkl")
                    seconds[kind.removeprefix("_")] += event.duration_ps / 1e12
    return dict(seconds)


def peak() -> float:
    """Measure the floating-point operations per second of a matrix product on one thread."""
    import tensorflow as tf

    matrix = tf.random.stateless_normal([MATRIX, MATRIX], [0, 0])
    product = tf.function(lambda: tf.linalg.matmul(matrix, matrix)[0, 0], autograph=False)
    float(product())
    seconds = []
    for _ in range(5):
        began = time.process_time()
        float(product())
        seconds.append(time.process_time() - began)
    return float(2 * MATRIX**3 / min(seconds))


def profile(network: str) -> tuple[dict[str, float], float]:
    """Return the CPU seconds of a step by kind of operation, and the number of floating-point
    operations of the step's convolutions, including both gradients.
    """
    import tensorflow as tf
    from cvpipe_steps import runner

    from cvpipe.models.cost import multiply_adds

    size, classes, batch_size, _ = NETWORKS[network]
    run, model = runner(network, size, classes, batch_size, STEPS)
    run()
    began = time.process_time()
    run()
    whole = time.process_time() - began
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        run()
        tf.profiler.experimental.stop()
        seconds = kernel_seconds(Path(folder))
    parts = {name: sum(seconds.get(kind, 0.0) for kind in kinds) for name, kinds in KINDS.items()}
    parts["everything else"] = whole - sum(parts.values())
    # The forward pass and each of the two gradients need the same number of operations.
    flops = 3 * 2 * multiply_adds(model) * batch_size
    return {name: value / STEPS for name, value in parts.items()}, flops


def main() -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    best = peak()
    rows = [row("matrix product", round(best / 1e9, 1), "GFLOP/s", False)]
    for network in NETWORKS:
        parts, flops = profile(network)
        rows += [
            row(f"{network}: {name}", round(1e3 * seconds, 2), "ms", True)
            for name, seconds in parts.items()
        ]
        convolving = sum(value for name, value in parts.items() if "convolution" in name)
        rows.append(
            row(f"{network}: convolutions", round(flops / convolving / 1e9, 1), "GFLOP/s", True)
        )
    record("train_profile", rows)


if __name__ == "__main__":
    main()
