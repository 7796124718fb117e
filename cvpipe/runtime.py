"""Settings of the process that decide which bits come out.

They must be made before TensorFlow is imported.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cvpipe.config import Config


def prepare_process(config: Config) -> None:
    """Choose kernels and determinism for this pipeline, in a process that builds networks."""
    choose_kernels(config.train.onednn, config.train.deterministic)
    import keras

    keras.config.disable_traceback_filtering()


def choose_kernels(onednn: bool, deterministic: bool) -> None:
    """Choose kernels and determinism, quietly, as the keys of `train` say.

    The kernels can only be chosen before TensorFlow is imported; in a process that has it already
    they stay as they are. A process that is deterministic stays so: TensorFlow has no way back.
    """
    quiet_tensorflow()
    if "tensorflow" not in sys.modules:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1" if onednn else "0"
    import tensorflow as tf

    tf.get_logger().addFilter(_is_no_advice_on_tracing)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def _is_no_advice_on_tracing(record: logging.LogRecord) -> bool:
    """True but for TensorFlow's advice to those who write graphs.

    It counts graphs by the code that they come from: a new stream or network looks like retracing.
    """
    return "triggered tf.function retracing" not in record.getMessage()


def quiet_tensorflow() -> None:
    """Keep TensorFlow's start-up notices (a missing GPU is an "error" to it) off the terminal,
    unless the user asked for them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    # On every CPU: TensorFlow leaves these kernels off on some on which they are the faster ones.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def seed_weights(config: Config) -> None:
    """Seed weight initialization and dropout; call it right before a model is built."""
    import keras

    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.train.precision)
