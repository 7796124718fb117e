"""Creation of Keras optimizers from the pipeline's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.optimizer import AdaGrad, Adam, AdamW, Lbfgs, Optimizer, RmsProp, Sgd
from cvpipe.losses.kernels import is_kernel
from cvpipe.models.freeze import is_head
from cvpipe.tasks.task import Task, Update
from cvpipe.training.layer_rates import with_rates
from cvpipe.training.schedules import LearningRate


def moved_variables(update: Update, networks: Mapping[str, keras.Model]) -> list[keras.Variable]:
    """Return the variables that an update trains, network by network."""
    return [v for name in update.moves for v in networks[name].trainable_variables]


def variables_by_optimizer(
    task: Task, networks: Mapping[str, keras.Model]
) -> dict[str, list[keras.Variable]]:
    """Return the variables that each optimizer of the task's updates trains."""
    moved: dict[str, list[keras.Variable]] = {}
    for update in task.updates:
        known = moved.setdefault(update.optimizer, [])
        known += [v for v in moved_variables(update, networks) if all(v is not k for k in known)]
    return moved


def make_optimizer(
    config: Config,
    chosen: Optimizer,
    schedule: LearningRate,
    variables: list[keras.Variable],
    first_steps: Mapping[int, int] = MappingProxyType({}),
) -> keras.optimizers.Optimizer:
    """Create an optimizer built for `variables`. Weight decay is not applied to biases and norms.

    Call this in the strategy's scope. If gradients are clipped on several replicas, each replica
    must pass the mean of the gradients over all replicas (`step.py`).

    Args:
        config: the pipeline.
        chosen: the optimizer's section of the pipeline.
        schedule: the learning rate.
        variables: variables that the optimizer trains.
        first_steps: number of steps before a variable's first update, by the variable's `id`.
            Variables that are trained from the start are left out.
    """
    common: dict[str, Any] = {
        "use_ema": config.train.ema is not None,
        "ema_momentum": config.train.ema or 0.0,
        "name": "optimizer",
    }
    # Keras clips on each of n replicas, then sums over the replicas. Each replica has the mean
    # gradient; if it clips at limit / n, the sum is clipped at the limit.
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if config.train.clip_norm is not None:
        common["global_clipnorm"] = config.train.clip_norm / replicas
    if config.train.clip_value is not None:
        common["clipvalue"] = config.train.clip_value / replicas
    rates = [1.0 if is_head(v.path) else _backbone_rate(chosen) for v in variables]
    starts = [first_steps.get(id(variable), 0) for variable in variables]
    differ = any(rate != 1 for rate in rates) or any(starts)

    def make(kind: Any, *arguments: Any, **settings: Any) -> keras.optimizers.Optimizer:
        if differ:
            return with_rates(kind, rates, starts, *arguments, **settings, **common)
        return kind(*arguments, **settings, **common)

    match chosen:
        case Sgd():
            optimizer = make(
                keras.optimizers.SGD, schedule, momentum=chosen.momentum, nesterov=chosen.nesterov
            )
        case AdamW():
            moments = {"beta_1": chosen.beta_1, "beta_2": chosen.beta_2, "epsilon": chosen.epsilon}
            decay = chosen.weight_decay
            optimizer = make(keras.optimizers.AdamW, schedule, weight_decay=decay, **moments)
            optimizer.exclude_from_weight_decay(var_list=[v for v in variables if not is_kernel(v)])
        case Adam():
            moments = {"beta_1": chosen.beta_1, "beta_2": chosen.beta_2, "epsilon": chosen.epsilon}
            optimizer = make(keras.optimizers.Adam, schedule, **moments)
        case AdaGrad():
            optimizer = make(
                keras.optimizers.Adagrad, schedule, chosen.initial_accumulator, chosen.epsilon
            )
        case RmsProp():
            optimizer = make(
                keras.optimizers.RMSprop, schedule, chosen.rho, chosen.momentum, chosen.epsilon
            )
        case Lbfgs():
            # A placeholder that is never applied: SciPy updates the weights (`full_batch.py`).
            optimizer = keras.optimizers.SGD(schedule, **common)
    if config.train.precision == "mixed_float16":
        # Wrap the optimizer last, so that gradients are unscaled before they are clipped.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")
    optimizer.build(variables)
    return optimizer


def _backbone_rate(chosen: Optimizer) -> float:
    return 1.0 if isinstance(chosen, Lbfgs) else chosen.backbone_rate
