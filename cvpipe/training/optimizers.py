"""Optimizers, Keras's own, from the pipeline file."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.optimizer import AdaGrad, Adam, AdamW, Lbfgs, RmsProp, Sgd
from cvpipe.losses.kernels import is_kernel
from cvpipe.training.schedules import LearningRate


def make_optimizer(
    config: Config, schedule: LearningRate, variables: list[keras.Variable]
) -> keras.optimizers.Optimizer:
    """The optimizer, built for `variables`; weight decay, where there is any, spares biases and
    norms.

    Call it in the strategy's scope. Where gradients are clipped on several replicas, each has to be
    given their mean over all replicas: see `step.py`.
    """
    chosen = config.optimizer
    common: dict[str, Any] = {
        "use_ema": config.train.ema is not None,
        "ema_momentum": config.train.ema or 0.0,
        "name": "optimizer",
    }
    # Keras clips on each replica before it sums over replicas: a mean that is cut off at limit / n
    # sums up to the limit.
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if config.train.clip_norm is not None:
        common["global_clipnorm"] = config.train.clip_norm / replicas
    if config.train.clip_value is not None:
        common["clipvalue"] = config.train.clip_value / replicas
    match chosen:
        case Sgd():
            optimizer = keras.optimizers.SGD(
                schedule, momentum=chosen.momentum, nesterov=chosen.nesterov, **common
            )
        case AdamW():
            moments = {"beta_1": chosen.beta_1, "beta_2": chosen.beta_2, "epsilon": chosen.epsilon}
            optimizer = keras.optimizers.AdamW(
                schedule, weight_decay=chosen.weight_decay, **moments, **common
            )
            optimizer.exclude_from_weight_decay(var_list=[v for v in variables if not is_kernel(v)])
        case Adam():
            moments = {"beta_1": chosen.beta_1, "beta_2": chosen.beta_2, "epsilon": chosen.epsilon}
            optimizer = keras.optimizers.Adam(schedule, **moments, **common)
        case AdaGrad():
            optimizer = keras.optimizers.Adagrad(
                schedule, chosen.initial_accumulator, chosen.epsilon, **common
            )
        case RmsProp():
            optimizer = keras.optimizers.RMSprop(
                schedule, chosen.rho, chosen.momentum, chosen.epsilon, **common
            )
        case Lbfgs():
            # SciPy moves the weights (`full_batch.py`); this one, which has no state but a count,
            # is never applied.
            optimizer = keras.optimizers.SGD(schedule, **common)
    if config.train.precision == "mixed_float16":
        # Outermost: it takes its scale out of the gradients before they are clipped.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")
    optimizer.build(variables)
    return optimizer
