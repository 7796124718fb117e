"""Optimizers and learning rate schedules."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cvpipe.config.section import LARGEST, Count, NonNegative, Positive, Section, Share


class Descent(Section):
    """An optimizer with a learning rate."""

    backbone_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of the backbone as a share of the head's, for a backbone that starts from
    `model.weights` (discriminative fine-tuning, Howard and Ruder 2018).
    """


class Sgd(Descent):
    """Stochastic gradient descent, with momentum."""

    kind: Literal["sgd"]
    """Kind of optimizer."""
    learning_rate: Positive = 0.1
    """Highest learning rate; the schedule says how it changes."""
    momentum: Share = 0.9
    """Share of the last update that is kept. The velocity sums gradients that were multiplied by
    the learning rates of their steps. PyTorch sums gradients and multiplies the sum by the current
    learning rate. The results differ only while the learning rate changes.
    """
    nesterov: bool = False
    """Look ahead before the gradient is applied (Sutskever et al. 2013)."""


class Adam(Descent):
    """Adam (Kingma and Ba 2014)."""

    kind: Literal["adam"]
    """Kind of optimizer."""
    learning_rate: Positive = 0.001
    """Highest learning rate; the schedule says how it changes."""
    beta_1: Share = 0.9
    """Decay of the first moment."""
    beta_2: Share = 0.999
    """Decay of the second moment."""
    epsilon: Positive = 1e-7
    """Added to the square root of the second moment before bias correction (the paper's ε̂).
    PyTorch adds its epsilon, 1e-8 by default, after bias correction: at step t, ε here equals ε /
    √(1 − beta_2^t) in PyTorch.
    """


class AdamW(Adam):
    """Adam with decoupled weight decay on kernels (Loshchilov and Hutter 2017)."""

    kind: Literal["adamw"]  # type: ignore[assignment]
    """Kind of optimizer."""
    weight_decay: NonNegative = 0.01
    """Each step subtracts weight_decay × the learning rate × the kernel from each kernel."""


class AdaGrad(Descent):
    """AdaGrad (Duchi et al. 2011)."""

    kind: Literal["adagrad"]
    """Kind of optimizer."""
    learning_rate: Positive = 0.01
    """Highest learning rate; the schedule says how it changes."""
    initial_accumulator: NonNegative = 0.1
    """Initial value of the sum of squared gradients; PyTorch's default is 0."""
    epsilon: Positive = 1e-7
    """Added to the sum, inside the square root. PyTorch adds its epsilon, 1e-10 by default, to the
    square root.
    """


class RmsProp(Descent):
    """RMSProp (Tieleman and Hinton 2012)."""

    kind: Literal["rmsprop"]
    """Kind of optimizer."""
    learning_rate: Positive = 0.001
    """Highest learning rate; the schedule says how it changes."""
    rho: Share = 0.9
    """Decay of the average of squared gradients; PyTorch's alpha, which is 0.99 by default."""
    momentum: Share = 0.0
    """Share of the last update that is kept. The velocity includes learning rates, as in sgd."""
    epsilon: Positive = 1e-7
    """Added to the average, inside the square root. PyTorch adds its epsilon, 1e-8 by default, to
    the square root.
    """


class Lbfgs(Section):
    """L-BFGS (Liu and Nocedal 1989) on the whole training set at once, for small problems: each
    epoch is one iteration.
    """

    kind: Literal["lbfgs"]
    """Kind of optimizer."""
    history: Count = 10
    """Number of updates from which the curvature is estimated."""


Optimizer = Annotated[Sgd | Adam | AdamW | AdaGrad | RmsProp | Lbfgs, Field(discriminator="kind")]


class WarmedUp(Section):
    """A schedule with an optional warm-up."""

    warmup_epochs: NonNegative = 0.0
    """Epochs of linear rise from 0."""


class Constant(WarmedUp):
    """A constant learning rate."""

    kind: Literal["constant"]
    """Kind of schedule."""


class Step(WarmedUp):
    """The learning rate is multiplied by `factor` at each of the epochs `at`."""

    kind: Literal["step"]
    """Kind of schedule."""
    at: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Epochs, in ascending order."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Factor applied to the learning rate at each of these epochs."""

    @model_validator(mode="after")
    def _epochs_ascend(self) -> Step:
        if list(self.at) != sorted(set(self.at)):
            raise ValueError("at must be epochs in ascending order")
        return self


class Cosine(WarmedUp):
    """Half a cosine from the highest learning rate to `final` × the highest (Loshchilov and Hutter
    2016).
    """

    kind: Literal["cosine"]
    """Kind of schedule."""
    final: Share = 0.0
    """Learning rate at the end, as a share of the highest."""


class Polynomial(WarmedUp):
    """A decrease from the highest learning rate to `final` × the highest, along (1 − share of
    training done) ^ `power`, as for DeepLab (Chen et al. 2016).
    """

    kind: Literal["polynomial"]
    """Kind of schedule."""
    power: Positive = 0.9
    """Exponent; 1 is a straight line."""
    final: Share = 0.0
    """Learning rate at the end, as a share of the highest."""


class Exponential(WarmedUp):
    """The highest learning rate × e^(−decay × epoch)."""

    kind: Literal["exponential"]
    """Kind of schedule."""
    decay: Positive = 0.1
    """Decay rate per epoch."""


class Inverse(WarmedUp):
    """The highest learning rate / (1 + decay × epoch)."""

    kind: Literal["inverse"]
    """Kind of schedule."""
    decay: Positive = 0.1
    """Decay rate per epoch."""


class Restarts(WarmedUp):
    """Cosines with warm restarts: SGDR (Loshchilov and Hutter 2016)."""

    kind: Literal["restarts"]
    """Kind of schedule."""
    cycle_epochs: Positive
    """Epochs of the first cosine."""
    growth: Annotated[float, Field(ge=1, le=LARGEST, allow_inf_nan=False)] = 1.0
    """Length of each cosine relative to the one before."""
    final: Share = 0.0
    """Learning rate at the end of each cosine, as a share of the highest."""


class Cyclic(WarmedUp):
    """Linear rise and fall between `lowest` × the highest learning rate and the highest (Smith
    2015).
    """

    kind: Literal["cyclic"]
    """Kind of schedule."""
    cycle_epochs: Positive
    """Epochs per cycle."""
    lowest: Share = 0.1
    """Lowest learning rate, as a share of the highest."""
    shrink: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Amplitude of each cycle relative to the one before; 0.5 is Smith's "triangular2"."""


class Plateau(WarmedUp):
    """The learning rate is multiplied by `factor` when the validation score stops improving."""

    kind: Literal["plateau"]
    """Kind of schedule."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Factor applied to the learning rate on a plateau."""
    patience: Count = 3
    """Evaluations without a new best score before the learning rate is reduced."""
    lowest: Share = 1e-3
    """Lower bound of the learning rate, as a share of the highest."""


Schedule = Annotated[
    Constant | Step | Cosine | Polynomial | Exponential | Inverse | Restarts | Cyclic | Plateau,
    Field(discriminator="kind"),
]
