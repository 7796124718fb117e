"""Checks of the batch size against the size of the training split and the free memory.

The memory of a step is estimated from shapes before anything is allocated.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from math import prod
from pathlib import Path

import keras
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.errors import ConfigError, counted

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
    if not tf.config.list_logical_devices("GPU") and not tf.config.list_logical_devices("TPU"):
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
