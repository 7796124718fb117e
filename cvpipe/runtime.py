"""Settings of the process that affect numerical results: kernels, determinism, seeds.

Kernels must be chosen before TensorFlow is imported.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from cvpipe.errors import ConfigError

if TYPE_CHECKING:
    from cvpipe.config import Config

# Ray reads these variables when it is imported. They turn off usage statistics and keep the
# priority of workers from being lowered.
RAY_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


def prepare_process(config: Config) -> None:
    """Apply a pipeline's settings to a process that builds networks."""
    choose_kernels(config.train.onednn, config.train.deterministic)
    import keras

    keras.config.disable_traceback_filtering()


def choose_kernels(onednn: bool, deterministic: bool) -> None:
    """Choose TensorFlow's kernels by the values of `train.onednn` and `train.deterministic`.

    `onednn` has no effect if TensorFlow is already imported. A process can't disable determinism
    after it has enabled it.
    """
    quiet_tensorflow()
    if "tensorflow" not in sys.modules:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1" if onednn else "0"
    import tensorflow as tf

    tf.get_logger().addFilter(_is_not_about_retracing)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def _is_not_about_retracing(record: logging.LogRecord) -> bool:
    """Return False for TensorFlow's warning about retracing.

    cvpipe traces a function for each stream or network, which TensorFlow mistakes for retracing.
    """
    return "triggered tf.function retracing" not in record.getMessage()


def quiet_tensorflow() -> None:
    """Hide TensorFlow's start-up messages, such as the error about a missing GPU, unless
    TF_CPP_MIN_LOG_LEVEL is set.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    # By default, TensorFlow disables oneDNN on some CPUs, although oneDNN is faster there.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def import_ray(module: str = "ray") -> Any:
    """Import Ray, or a module of it, without usage statistics and with workers of the usual
    priority.

    Raises:
        ConfigError: Ray isn't installed.
    """
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"--ray needs Ray ({error}); install it with: pip install 'cvpipe[ray]'"
        ) from error


def seed_weights(config: Config) -> None:
    """Seed weight initialization and dropout, and set the precision. Call this right before
    building a model.
    """
    import keras

    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.train.precision)
