"""Optimizers and learning-rate schedules, Keras's own, from the pipeline file."""

from __future__ import annotations

import keras
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.optimizer import Adam, AdamW, Constant, Cosine, Sgd, Step
from cvpipe.losses import is_kernel


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Multiplies a schedule by step / `steps` in the first `steps` steps (Goyal et al. 2017, section 2.2)."""

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, steps: int):
        super().__init__()
        self.schedule, self.steps = schedule, steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The learning rate, float32 scalar, at a step counted from 0; the first step already moves."""
        rise = (tf.cast(step, tf.float32) + 1) / max(self.steps, 1)
        return self.schedule(step) * tf.minimum(rise, 1.0)


def make_schedule(config: Config, steps_per_epoch: float, total_steps: int) -> WarmUp:
    """The learning rate as a function of the step."""
    schedule, rate = config.schedule, config.optimizer.learning_rate
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    match schedule:
        case Constant():
            after = keras.optimizers.schedules.PiecewiseConstantDecay([total_steps], [rate, rate])
        case Step():
            steps = [round(epoch * steps_per_epoch) for epoch in schedule.at]
            rates = [rate * schedule.factor**n for n in range(len(steps) + 1)]
            # Keras changes after a boundary; "at epoch 30" means that epoch 30's first step is the first with the new rate.
            after = keras.optimizers.schedules.PiecewiseConstantDecay([step - 1 for step in steps], rates)
        case Cosine():
            after = keras.optimizers.schedules.CosineDecay(rate, total_steps, alpha=schedule.final)
    return WarmUp(after, warmup_steps)


def make_optimizer(config: Config, schedule: WarmUp, variables: list[keras.Variable]) -> keras.optimizers.Optimizer:
    """The optimizer, built for `variables`; weight decay, where there is any, spares biases and norms."""
    chosen = config.optimizer
    average = {"use_ema": config.train.ema is not None, "ema_momentum": config.train.ema or 0.0, "name": "optimizer"}
    match chosen:
        case Sgd():
            optimizer = keras.optimizers.SGD(schedule, momentum=chosen.momentum, nesterov=chosen.nesterov, **average)
        case AdamW():
            moments = {"beta_1": chosen.beta_1, "beta_2": chosen.beta_2, "epsilon": chosen.epsilon}
            optimizer = keras.optimizers.AdamW(schedule, weight_decay=chosen.weight_decay, **moments, **average)
            optimizer.exclude_from_weight_decay(var_list=[v for v in variables if not is_kernel(v)])
        case Adam():
            moments = {"beta_1": chosen.beta_1, "beta_2": chosen.beta_2, "epsilon": chosen.epsilon}
            optimizer = keras.optimizers.Adam(schedule, **moments, **average)
    if config.train.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")
    optimizer.build(variables)
    return optimizer
