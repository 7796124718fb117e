"""Comparison of the analytic gradient with centered differences (CS231n, Gradient checks).

Layers compute in float64, with their float32 weights. ReLU and maximum have kinks, and a step
across a kink gives a wrong difference, especially in deep networks. So if the gradients disagree,
smaller steps are tried. A few weights may disagree with every step, so a kernel is suspicious only
if all its tested weights disagree.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from cvpipe.losses.kernels import is_kernel
from cvpipe.training.sanity.case import SanityCase, loss_and_gradients
from cvpipe.training.sanity.finding import Finding

# CS231n: relative errors above 1e-2 are wrong, and below 1e-4 are right even with kinks.
TOLERANCE = 1e-3
# Smaller gradients count as zero. At this gradient, the longest step changes the loss by 1e-12;
# float64 resolves losses near 1 to 1e-16.
ZERO = 1e-7
# Shorter steps cross fewer kinks, but are less precise. Steps are tried from the longest on until
# the gradients agree.
STEPS = (1e-5, 1e-6, 1e-8)
EXAMPLES, WEIGHTS, MOST_KERNELS = 4, 2, 32


def gradient_check(case: SanityCase) -> Finding:
    """Check some random weights of every kernel; if there are more than MOST_KERNELS kernels, of
    evenly spaced ones. The model is restored afterwards.
    """
    kernels = [variable for variable in case.model.trainable_variables if is_kernel(variable)]
    chosen = [
        kernels[n]
        for n in np.unique(
            np.linspace(0, len(kernels) - 1, min(len(kernels), MOST_KERNELS)).round().astype(int)
        )
    ]
    random = np.random.default_rng(case.config.seed)
    with _in_float64(case.model), _same_randomness(case.model) as again:
        loss = tf.function(
            tf.autograph.experimental.do_not_convert(
                lambda: tf.cast(case.loss(EXAMPLES), tf.float64)
            )
        )
        again()
        _, gradients = loss_and_gradients(case, EXAMPLES)
        by_path = {
            variable.path: gradient
            for variable, gradient in zip(case.model.trainable_variables, gradients, strict=True)
        }

        def evaluate() -> float:
            again()
            return float(loss())

        errors = {
            kernel.path: _errors(kernel, by_path[kernel.path], evaluate, random)
            for kernel in chosen
        }
    tried, kinks = (
        sum(map(len, errors.values())),
        sum(error > TOLERANCE for own in errors.values() for error in own),
    )
    wrong = [path for path, own in errors.items() if min(own) > TOLERANCE]
    median = float(np.median([error for own in errors.values() for error in own]))
    numbers = {
        "median_relative_error": median,
        "weights": tried,
        "disagreeing": kinks,
        "wrong_kernels": wrong,
    }
    says = (
        f"numeric and analytic gradients of {tried} weights differ by {median:.0e} (median relative"
        " error)"
    )
    if kinks:
        says += (
            f"; {kinks} by more than"
            f" {TOLERANCE:g}{'' if wrong else ', which happens near the kink of a ReLU'}"
        )
    advice = (
        f"The gradient is wrong at {', '.join(wrong[:3])}: check the layer's custom gradient, and"
        " look for tf.stop_gradient"
        if wrong
        else ""
    )
    table = (
        ("kernel", "relative errors"),
        *((path, " ".join(f"{error:.0e}" for error in own)) for path, own in errors.items()),
    )
    return Finding("gradient", not wrong, says, advice, numbers, table)


def _errors(
    kernel: keras.Variable,
    gradient: tf.Tensor | None,
    loss: Callable[[], float],
    random: np.random.Generator,
) -> list[float]:
    """Return the relative errors |a − n| / max(|a|, |n|) at WEIGHTS random weights of one
    kernel.
    """
    start = kernel.numpy()
    analytic = (
        np.zeros(start.size) if gradient is None else np.asarray(gradient, np.float64).ravel()
    )
    errors = []
    for place in random.choice(start.size, min(WEIGHTS, start.size), replace=False):
        error = np.inf
        for step in STEPS:
            if error > TOLERANCE:
                numeric = _numeric(kernel, start, int(place), step, loss)
                error = min(
                    error,
                    abs(analytic[place] - numeric) / max(abs(analytic[place]), abs(numeric), ZERO),
                )
        errors.append(float(error))
    kernel.assign(start)
    return errors


def _numeric(
    kernel: keras.Variable, start: np.ndarray, place: int, step: float, loss: Callable[[], float]
) -> float:
    # Large float32 weights are far apart, so they need longer steps. For the same reason, the
    # distance between the two tested weights is computed after rounding.
    step = max(step, 4 * float(np.spacing(np.abs(start.flat[place]))))
    losses, weights = [], []
    for sign in (1, -1):
        moved = start.copy()
        moved.flat[place] += np.float32(sign * step)
        kernel.assign(moved)
        losses.append(loss())
        weights.append(float(moved.flat[place]))
    return (losses[0] - losses[1]) / (weights[0] - weights[1])


class _Float64(keras.dtype_policies.DTypePolicy):
    """Dtype policy that computes in float64 without changing the dtype of variables."""

    @property
    def compute_dtype(self) -> str:
        """Dtype of the layers' computations."""
        return "float64"


@contextlib.contextmanager
def _in_float64(model: keras.Model) -> Iterator[None]:
    policies = [(layer, layer.dtype_policy) for layer in model._flatten_layers()]
    for layer, policy in policies:
        layer.dtype_policy = _Float64(policy.variable_dtype)
    try:
        yield
    finally:
        for layer, policy in policies:
            layer.dtype_policy = policy


@contextlib.contextmanager
def _same_randomness(model: keras.Model) -> Iterator[Callable[[], None]]:
    """Yield a function that restores the state that forward passes change, such as dropout's seeds.
    If it is called before each pass, all passes are identical.
    """
    kept = [(variable, variable.numpy()) for variable in model.non_trainable_variables]

    def again() -> None:
        for variable, value in kept:
            variable.assign(value)

    try:
        yield again
    finally:
        again()
