"""Checks of the batch size against the size of the training split, and of networks and batches
against the free memory.

Memory is estimated from shapes before anything is allocated.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from math import prod
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.optimizer import Lbfgs
from cvpipe.errors import ConfigError, counted
from cvpipe.models.abstract import without_weights
from cvpipe.tasks.task import Task
from cvpipe.training.optimizers import make_optimizer, variables_by_optimizer
from cvpipe.training.schedules import LearningRate
from cvpipe.training.thawing import plan_thawing

log = logging.getLogger(__name__)

# Number of batches in memory at once: one in use, two prefetched, one being assembled.
BATCHES = 4
# A step on a CPU takes 0.6 to 0.9 times the memory of all layers' outputs, because some layers
# compute in place (measured with a ResNet and a VGG).
LEAST_SHARE = 0.5
GIGABYTE = 1e9
UNLIMITED = 1 << 60


def warn_of_repetition(config: Config, examples: int) -> None:
    """Warn if a batch is larger than the training split."""
    size = config.train.batch_size
    if size > examples:
        log.warning(
            "train.batch_size: %d exceeds the training split of %s, so each step uses some images"
            " several times; use %d or less to avoid that",
            size,
            counted(examples, "image"),
            examples,
        )


def check_variables(
    config: Config, task: Task, strategy: tf.distribute.Strategy, free: int | None
) -> None:
    """Compare the memory of weights, gradients and the optimizer's variables with the free memory,
    before they are allocated. On accelerators, which have their own memory, nothing is checked.

    Args:
        config: the pipeline.
        task: the pipeline's task.
        strategy: distributes the networks over devices.
        free: free bytes, from `free_memory`; None if unknown.

    Raises:
        ConfigError: the variables can't fit.
    """
    if free is None or _has_accelerator():
        return
    with strategy.scope(), without_weights():
        built = task.build(strategy.num_replicas_in_sync > 1)
    networks = {name: own for name, own in built.items() if name not in task.frozen}
    # Only the layers that stay frozen matter here, not the steps of unfreezing others.
    plan_thawing(networks, config, examples=1)
    weights = [v for network in networks.values() for v in network.weights]
    # Each trained weight has a gradient and the optimizer's variables.
    moved = sum(
        (1 + _slots(config, name)) * sum(map(_bytes_of, variables))
        for name, variables in variables_by_optimizer(task, built).items()
    )
    needed = _own_replicas(strategy) * (sum(map(_bytes_of, weights)) + moved)
    if needed > free:
        largest = max(weights, key=_bytes_of)
        raise ConfigError(
            "model: weights, gradients and the optimizer's variables take about"
            f" {needed / GIGABYTE:,.1f} GB of memory, but only {free / GIGABYTE:.1f} GB are free."
            f" The largest weight, {largest.path}, has the shape"
            f" {'×'.join(map(str, largest.shape))}; choose a smaller model.width, model.head,"
            " model.backbone or prepare.size"
        )


def _slots(config: Config, name: str) -> int:
    """Return the number of variables of an optimizer for each trained variable."""
    chosen = config.optimizers[name]
    if isinstance(chosen, Lbfgs):
        # SciPy keeps 2 m + 5 vectors in float64, for m pairs.
        return 2 * (2 * chosen.history + 5)
    example = keras.Variable(np.zeros([3], np.float32), name="example")
    rate = LearningRate(lambda step: tf.zeros([]), 0)
    optimizer = make_optimizer(config, chosen, rate, [example])
    return sum(variable.shape == example.shape for variable in optimizer.variables)


def _bytes_of(variable: keras.Variable) -> int:
    return prod(variable.shape) * tf.as_dtype(variable.dtype).size


def check_memory(
    config: Config,
    networks: Iterable[keras.Model],
    strategy: tf.distribute.Strategy,
    free: int | None,
) -> None:
    """Compare the memory of a training step with the free memory; warn if the step may not fit.

    Args:
        config: the pipeline.
        networks: the networks that are trained.
        strategy: distributes the batch over devices.
        free: free bytes, from `free_memory`; None if unknown.

    Raises:
        ConfigError: the step can't fit.
    """
    if free is None:
        return
    size = config.train.batch_size
    own = size * _own_replicas(strategy) // strategy.num_replicas_in_sync
    image = _bytes_of_image(config)
    outputs = 0
    if not _has_accelerator():
        outputs = _bytes_of_step(config, networks)
    least, likely = own * (image + LEAST_SHARE * outputs), own * (BATCHES * image + outputs)
    said = (
        f"train.batch_size: a step on {counted(size, 'image')} of {_sides(config)} takes about"
        f" {likely / GIGABYTE:.1f} GB of memory, but only {free / GIGABYTE:.1f} GB are free"
    )
    smaller = "use a smaller batch"
    parts = ", or divide each step into parts with train.accumulate" if outputs else ""
    if least > free:
        fitting = max(int(own * free / likely), 1)
        raise ConfigError(f"{said}; {smaller} ({fitting} may fit){parts}")
    if likely > free:
        log.warning("%s; if the training is killed, %s%s", said, smaller, parts)


def describe_size(
    config: Config, networks: Iterable[keras.Model], strategy: tf.distribute.Strategy
) -> str:
    """Describe the number of parameters and the estimated memory of a step on each device."""
    networks, devices = list(networks), strategy.num_replicas_in_sync
    images = config.train.batch_size // devices
    parameters = sum(network.count_params() for network in networks)
    step = images * (_bytes_of_image(config) + _bytes_of_step(config, networks))
    each = f"each of {devices} devices" if devices > 1 else "one device"
    return (
        f"{parameters:,} parameters; a step takes about {step / GIGABYTE:.2f} GB for"
        f" {counted(images, 'image')} on {each}"
    )


def _bytes_of_image(config: Config) -> int:
    return 4 * prod(config.prepare.size) * config.prepare.channels


def _bytes_of_step(config: Config, networks: Iterable[keras.Model]) -> int:
    """Return the bytes per image of the layer outputs that are in memory at once."""
    return sum(map(bytes_of_outputs, networks)) // config.train.accumulate


def _has_accelerator() -> bool:
    return any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU"))


def _own_replicas(strategy: tf.distribute.Strategy) -> int:
    """Return the number of replicas of this process."""
    # The default strategy doesn't list its device.
    return 1 if strategy.num_replicas_in_sync == 1 else len(strategy.extended.worker_devices)


def bytes_of_outputs(network: keras.Model) -> int:
    """Return the bytes of all layers' outputs for one image. Shared layers count once per use."""
    tensors = [
        tensor
        for layer in network.layers
        if not isinstance(layer, keras.layers.InputLayer)
        # `layer.output` raises an error for layers that are used several times.
        for node in layer._inbound_nodes
        for tensor in node.output_tensors
    ]
    return sum(
        prod(length or 1 for length in tensor.shape[1:]) * tf.as_dtype(tensor.dtype).size
        for tensor in tensors
    )


def free_memory(root: Path = Path("/")) -> int | None:
    """Return the free bytes of memory of the machine or its container; None if unknown.

    Args:
        root: the folder that contains proc and sys.
    """
    left = []
    for line in _lines(root / "proc" / "meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            left.append(1024 * int(value.split()[0]))
    groups = root / "sys" / "fs" / "cgroup"
    for limit, used in (
        (groups / "memory.max", groups / "memory.current"),
        (groups / "memory/memory.limit_in_bytes", groups / "memory/memory.usage_in_bytes"),
    ):
        most, taken = "".join(_lines(limit)), "".join(_lines(used))
        if most.isdecimal() and taken.isdecimal() and int(most) < UNLIMITED:
            left.append(int(most) - int(taken) + _file_cache(limit.with_name("memory.stat")))
    return min(left, default=None)


def _file_cache(file: Path) -> int:
    """Return the bytes of a container's page cache, which can be reclaimed."""
    rows = dict(line.split()[:2] for line in _lines(file) if len(line.split()) == 2)
    return int(rows.get("total_inactive_file", rows.get("inactive_file", 0)))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _sides(config: Config) -> str:
    return "×".join(map(str, (*config.prepare.size, config.prepare.channels)))
