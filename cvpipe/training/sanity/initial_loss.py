"""Comparison of the initial loss with its theoretical value.

Source: CS231n, Babysitting the learning process.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from cvpipe.config import Config
from cvpipe.training.sanity.finding import Finding

# Allowed relative difference between the measured and the expected loss.
TOLERANCE = 0.1
TOO_LARGE = (
    "The initial scores are too large or not finite: check model.initializer, and prepare's mean"
    " and std"
)


def initial_loss(
    losses: Mapping[str, float], expected: float | None, config: Config, classes: int
) -> Finding:
    """Compare the loss of the first step with the expected loss of an untrained network.

    Args:
        losses: losses of the first training step: the parts of the loss, "l1" and "l2" if
            configured, and "loss", their sum.
        expected: the expected loss; None if unknown.
        config: the pipeline.
        classes: number of classes.
    """
    penalties = {name: losses[name] for name in ("l1", "l2") if name in losses}
    penalty = sum(penalties.values())
    measured = losses["loss"] - penalty
    if expected is None:
        return Finding(
            "initial loss",
            isfinite(measured),
            f"{measured:.3f}; the expected value depends on the images",
            "" if isfinite(measured) else TOO_LARGE,
            {"loss": measured, **penalties},
        )
    numbers = {"loss": measured, "expected": expected, **penalties}
    says = (
        f"{measured:.3f}, and {config.loss.kind} of {classes} classes should start at"
        f" {expected:.3f}"
    )
    if penalties:
        says += f"; {' and '.join(penalties)} add{'s' if len(penalties) == 1 else ''} {penalty:.3f}"
    advice = _advice(measured, expected, penalty, transferred=config.model.weights is not None)
    return Finding("initial loss", not advice, says, advice, numbers)


def _advice(measured: float, expected: float, penalty: float, transferred: bool) -> str:
    # This form is also True for NaN.
    if not measured <= expected * (1 + TOLERANCE):
        return TOO_LARGE
    if measured < expected * (1 - TOLERANCE) and not transferred:
        return (
            "The loss is lower than that of random guessing: check whether the images reveal their"
            " labels"
        )
    if penalty > measured:
        return "Regularization outweighs the loss on the data: lower loss.l1 or loss.l2"
    return ""
