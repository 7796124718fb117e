"""Optimizer, learning rate and length of an experiment. Model Garden counts in steps."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from cvpipe.init.model_garden.experiment import Experiment

OPTIMIZER = "trainer.optimizer_config"
DATA = "task.train_data"
_SGD = ("sgd", "sgd_experimental")
_ADAM = ("adam", "adam_experimental")
_ADAMW = ("adamw", "adamw_experimental")


class Pace(NamedTuple):
    """Length of a training in steps and epochs."""

    batch_size: int
    steps_per_epoch: float
    steps: int

    @property
    def epochs(self) -> int:
        """Length of the training in epochs."""
        return max(1, round(self.steps / self.steps_per_epoch))

    def to_epochs(self, steps: float) -> float:
        """Convert steps to epochs."""
        return round(steps / self.steps_per_epoch, 4)


def pace_of(experiment: Experiment, images: int | None) -> Pace:
    """Return the length of an experiment's training. `images` is as in `translate`."""
    batch_size = experiment.get(f"{DATA}.global_batch_size", 0)
    if not batch_size:
        batch_size = 32
        experiment.notes.append(f"{DATA}.global_batch_size isn't given: train.batch_size is 32.")
    interval = experiment.get("trainer.validation_interval", 1000)
    if images is not None:
        steps_per_epoch = max(1.0, images / batch_size)
    else:
        steps_per_epoch = float(max(1, interval))
        experiment.notes.append(
            f"An epoch is assumed to have {steps_per_epoch:,.0f} steps,"
            " trainer.validation_interval, because experiments of Model Garden evaluate once per"
            " epoch; if this one doesn't, give the number of training images with --images."
        )
    steps = experiment.get("trainer.train_steps", 0)
    if not steps:
        steps = round(10 * steps_per_epoch)
        experiment.notes.append("trainer.train_steps isn't given: train.epochs is 10.")
    return Pace(batch_size, steps_per_epoch, steps)


def training(experiment: Experiment, pace: Pace) -> tuple[dict[str, Any], dict[str, str]]:
    """Return `optimizer`, `schedule` and `train`, and comments for their keys."""
    rate, schedule = _schedule(experiment, pace)
    schedule |= _warmup(experiment, pace)
    optimizer, clipping = _optimizer(experiment, rate)
    interval = experiment.get("trainer.validation_interval", 1000)
    train: dict[str, Any] = {"epochs": pace.epochs, "batch_size": pace.batch_size}
    every = round(interval / pace.steps_per_epoch)
    if every > 1:
        train["evaluate_every"] = min(every, pace.epochs)
    kept = experiment.get("trainer.max_to_keep", 5)
    train |= {"checkpoints_kept": max(1, kept), **clipping, **_average(experiment)}
    precision = experiment.get("runtime.mixed_precision_dtype", "float32")
    if precision in ("bfloat16", "float16"):
        train["precision"] = f"mixed_{precision}"
    reasons = {
        "train.epochs": f"trainer.train_steps: {pace.steps:,}; an epoch has"
        f" {pace.steps_per_epoch:,.0f} steps"
    }
    return {"optimizer": optimizer, "schedule": schedule, "train": train}, reasons


def _optimizer(experiment: Experiment, rate: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return `optimizer`, and the keys of `train` that clip gradients."""
    kind = experiment.get(f"{OPTIMIZER}.optimizer.type", "sgd")
    at = f"{OPTIMIZER}.optimizer.{kind}"
    values: dict[str, Any] = {"learning_rate": rate}
    if kind in _SGD:
        values = {"kind": "sgd", **values, "momentum": experiment.get(f"{at}.momentum", 0.0)}
        if experiment.get(f"{at}.nesterov", False):
            values["nesterov"] = True
    elif kind in (*_ADAM, *_ADAMW):
        values = {"kind": "adam" if kind in _ADAM else "adamw", **values}
        for key, default in {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}.items():
            values[key] = experiment.get(f"{at}.{key}", default)
        if kind in _ADAMW:
            key = "weight_decay_rate" if kind == "adamw" else "weight_decay"
            values["weight_decay"] = experiment.get(f"{at}.{key}", 0.0)
    elif kind == "rmsprop":
        values = {"kind": "rmsprop", **values}
        for key, default in {"rho": 0.9, "momentum": 0.0, "epsilon": 1e-7}.items():
            values[key] = experiment.get(f"{at}.{key}", default)
    elif kind == "adagrad":
        start = experiment.get(f"{at}.initial_accumulator_value", 0.1)
        values = {"kind": "adagrad", **values, "initial_accumulator": start}
        values["epsilon"] = experiment.get(f"{at}.epsilon", 1e-7)
    elif kind == "lars":
        values = {"kind": "sgd", **values, "momentum": experiment.get(f"{at}.momentum", 0.9)}
        experiment.note(
            f"{OPTIMIZER}.optimizer.type",
            "not in cvpipe; replaced by sgd, which needs another learning rate",
        )
    else:
        values = {"kind": "adamw", **values}
        experiment.note(
            f"{OPTIMIZER}.optimizer.type",
            "not in cvpipe; replaced by adamw, which may need another learning rate",
        )
    experiment.get(f"{at}.name")
    return values, _clipping(experiment, kind, at)


def _clipping(experiment: Experiment, kind: str, at: str) -> dict[str, Any]:
    key = "gradient_clip_norm" if kind == "adamw" else "global_clipnorm"
    norm = experiment.get(f"{at}.{key}", 1.0 if kind in _ADAMW else 0.0)
    value = experiment.get(f"{at}.clipvalue", 0.0)
    if norm:
        return {"clip_norm": norm}
    return {"clip_value": value} if value else {}


def _average(experiment: Experiment) -> dict[str, Any]:
    at = f"{OPTIMIZER}.ema"
    if not experiment.has(at) or experiment.values.get(at, "") is None:
        return {}
    experiment.get(f"{at}.name")
    return {"ema": experiment.get(f"{at}.average_decay", 0.99)}


def _schedule(experiment: Experiment, pace: Pace) -> tuple[float, dict[str, Any]]:
    """Return the highest learning rate, and `schedule` without its warmup."""
    kind = experiment.get(f"{OPTIMIZER}.learning_rate.type", "constant")
    at = f"{OPTIMIZER}.learning_rate.{kind}"
    experiment.get(f"{at}.name")
    first = experiment.get(f"{at}.initial_learning_rate", 0.1)
    if first <= 0:
        experiment.note(f"{at}.initial_learning_rate", "must be above 0 here; replaced by 0.1")
        first = 0.1
    decay_steps = max(1, experiment.get(f"{at}.decay_steps", pace.steps))
    if kind == "constant":
        return experiment.get(f"{at}.learning_rate", 0.1), {"kind": "constant"}
    if kind == "stepwise":
        return _steps(experiment, pace, at)
    if kind == "exponential":
        decay = -math.log(max(experiment.get(f"{at}.decay_rate", 0.96), 1e-9))
        if experiment.get(f"{at}.staircase", False):
            experiment.note(f"{at}.staircase", "here the learning rate falls at every step")
        if decay <= 0:
            return first, {"kind": "constant"}
        per_epoch = round(decay * pace.steps_per_epoch / decay_steps, 8)
        return first, {"kind": "exponential", "decay": per_epoch}
    if kind in ("cosine", "polynomial"):
        if decay_steps != pace.steps:
            experiment.note(f"{at}.decay_steps", "here the schedule ends with the training")
        values: dict[str, Any] = {"kind": kind}
        if kind == "polynomial":
            values["power"] = experiment.get(f"{at}.power", 1.0)
            final = experiment.get(f"{at}.end_learning_rate", 0.0001) / first
        else:
            final = experiment.get(f"{at}.alpha", 0.0)
        return first, {**values, **({"final": round(final, 8)} if final else {})}
    experiment.note(
        f"{OPTIMIZER}.learning_rate.type", "not in cvpipe; replaced by a constant learning rate"
    )
    return first, {"kind": "constant"}


def _steps(experiment: Experiment, pace: Pace, at: str) -> tuple[float, dict[str, Any]]:
    values = experiment.numbers(f"{at}.values")
    boundaries = experiment.numbers(f"{at}.boundaries")
    # The training begins after boundaries at its first step.
    while boundaries and values[1:] and pace.to_epochs(boundaries[0]) <= 0:
        boundaries, values = boundaries[1:], values[1:]
    pairs = list(zip(boundaries, values[1:], strict=False))
    first = values[0] if values else 0.1
    if not pairs or first <= 0:
        return first or 0.1, {"kind": "constant"}
    factors = [value / before for (_, value), before in zip(pairs, values, strict=False) if before]
    factor = math.prod(factors) ** (1 / len(factors)) if factors else 0.1
    if not 0 < factor < 1:
        experiment.note(f"{at}.values", "can't increase here; replaced by a constant learning rate")
        return first, {"kind": "constant"}
    if max(factors) - min(factors) > 1e-6:
        experiment.note(f"{at}.values", f"each step multiplies by {factor:.4g} here")
    at_epochs = sorted({pace.to_epochs(step) for step, _ in pairs})
    return first, {"kind": "step", "at": at_epochs, "factor": round(factor, 8)}


def _warmup(experiment: Experiment, pace: Pace) -> dict[str, Any]:
    kind = experiment.get(f"{OPTIMIZER}.warmup.type", "")
    if not kind:
        return {}
    at = f"{OPTIMIZER}.warmup.{kind}"
    experiment.get(f"{at}.name")
    if experiment.get(f"{at}.warmup_learning_rate", 0.0):
        experiment.note(f"{at}.warmup_learning_rate", "here the warmup starts at 0")
    if experiment.get(f"{at}.power", 1.0) != 1:
        experiment.note(f"{at}.power", "here the warmup is linear")
    epochs = pace.to_epochs(experiment.get(f"{at}.warmup_steps", 0))
    if epochs >= pace.epochs:
        experiment.note(f"{at}.warmup_steps", "as long as the training; left out")
        return {}
    return {"warmup_epochs": epochs} if epochs else {}
