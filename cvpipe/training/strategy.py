"""Distribution strategies: one device, all GPUs of a machine, several machines, or a TPU."""

from __future__ import annotations

import os

import tensorflow as tf

from cvpipe.config import Config
from cvpipe.errors import ConfigError, DataError
from cvpipe.training.cluster import EXAMPLE, Member, read_member
from cvpipe.training.launchers import launched_as


def make_strategy(choice: str) -> tf.distribute.Strategy:
    """Create the strategy for `train.strategy`. "auto" uses several machines if TF_CONFIG names a
    cluster, otherwise a TPU, otherwise all GPUs.

    Raises:
        ConfigError: TF_CONFIG is invalid, "multiworker" has no cluster, or "tpu" finds no TPU.
    """
    member = read_member() if choice in ("auto", "multiworker") else None
    if choice == "auto":
        choice = _suggested(member)
    if choice == "multiworker":
        if member is None:
            raise ConfigError(
                "train.strategy: multiworker needs a cluster; set the environment variable"
                f" TF_CONFIG, such as to {EXAMPLE}, or start the workers by Slurm's srun or with"
                " CVPIPE_WORKERS"
            )
        # TensorFlow reads the cluster only from TF_CONFIG.
        os.environ["TF_CONFIG"] = launched_as(os.environ)
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except (ValueError, KeyError, RuntimeError) as error:
            raise ConfigError(
                f"TF_CONFIG: invalid ({error}); give JSON that names all workers, and the index of"
                " this worker"
            ) from error
    if choice == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if choice == "tpu":
        return _tpu_strategy()
    return tf.distribute.get_strategy()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Return True if this process writes the run's files."""
    member = read_member() if is_multi_worker(strategy) else None
    return member is None or member.writes


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Return True if several processes train together. They must make the same calls in the same
    order.
    """
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def has_all_reduce(strategy: tf.distribute.Strategy) -> bool:
    """Return True if replicas exchange values; some strategies do even with one replica."""
    is_mirrored = isinstance(strategy, tf.distribute.MirroredStrategy)
    return strategy.num_replicas_in_sync > 1 or is_mirrored or is_multi_worker(strategy)


def check_batch_size(config: Config, replicas: int) -> None:
    """Raise ConfigError if the global batch can't be divided equally among the replicas, and each
    replica's batch into `train.accumulate` parts.
    """
    parts, size = config.train.accumulate, config.train.batch_size
    if size % (replicas * parts):
        work = (
            f"{replicas} devices"
            if parts == 1
            else f"{replicas} devices in {parts} parts each (train.accumulate)"
        )
        raise ConfigError(
            f"train.batch_size: {size} can't be shared equally by {work}; use a multiple of"
            f" {replicas * parts}"
        )
    if config.mixing and replicas > 1 and size // replicas % 2:
        raise ConfigError(
            f"train.batch_size: {size} gives each of {replicas} devices an odd number of examples,"
            f" but mix combines pairs; use a multiple of {2 * replicas * parts}"
        )


def any_worker(strategy: tf.distribute.Strategy, value: bool) -> bool:
    """Return True on every worker if any worker passes True. A collective: all workers must call
    it.
    """
    return value if not is_multi_worker(strategy) else _sum_over_replicas(strategy, int(value)) > 0


def broadcast_from_chief(strategy: tf.distribute.Strategy, value: bool) -> bool:
    """Return the chief's value on every worker. A collective: all workers must call it."""
    return any_worker(strategy, value and is_chief(strategy))


def check_agreement(strategy: tf.distribute.Strategy, step: int) -> None:
    """Raise DataError unless all workers are at the same step. A collective: all workers must call
    it.
    """
    if not is_multi_worker(strategy):
        return
    total = _sum_over_replicas(strategy, step)
    if total != step * strategy.num_replicas_in_sync:
        raise DataError(
            f"this worker resumes at step {step}, but other workers at another step; give all"
            " workers the same run folder"
        )


def _sum_over_replicas(strategy: tf.distribute.Strategy, value: int) -> int:
    return int(_summed(strategy, tf.constant(value, tf.int64)))


@tf.function
def _summed(strategy: tf.distribute.Strategy, value: tf.Tensor) -> tf.Tensor:
    return strategy.reduce("SUM", strategy.run(tf.identity, (value,)), axis=None)


def uses_xla(config: Config, strategy: tf.distribute.Strategy) -> bool:
    """Return True if the step is compiled with XLA.

    For TPUs, return False, because TPUs always compile the step. Replicas exchange gradients
    outside of XLA, so the step isn't compiled.

    Raises:
        ConfigError: `train.xla` is on with several devices.
    """
    if isinstance(strategy, tf.distribute.TPUStrategy) or has_all_reduce(strategy):
        if config.train.xla == "on" and not isinstance(strategy, tf.distribute.TPUStrategy):
            raise ConfigError("train.xla: on works only with one device; use auto")
        return False
    return config.train.xla == "on" or (
        config.train.xla == "auto" and bool(tf.config.list_logical_devices("GPU"))
    )


def _suggested(member: Member | None) -> str:
    if member is not None:
        return "multiworker"
    if "TPU_NAME" in os.environ or tf.config.list_physical_devices("TPU"):
        return "tpu"
    return "mirrored" if len(tf.config.list_logical_devices("GPU")) > 1 else "one"


def _tpu_strategy() -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            os.environ.get("TPU_NAME", "local")
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise ConfigError(
            f"train.strategy: no TPU could be reached ({error}); run on a Cloud TPU VM, or use"
            " 'auto'"
        ) from error
    return tf.distribute.TPUStrategy(resolver)
