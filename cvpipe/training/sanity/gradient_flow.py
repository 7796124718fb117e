"""Gradient norms and relative sizes of weight updates.

Source: CS231n, Monitoring the learning process.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from cvpipe.training.sanity.case import SanityCase, loss_and_gradients
from cvpipe.training.sanity.finding import Finding
from cvpipe.training.sanity.plots import line_plot

# According to CS231n, an update should be about 1e-3 of the norm of the weights. Much larger
# updates destroy what was learned; with much smaller updates, the network learns nothing.
LOWEST_UPDATE, HIGHEST_UPDATE = 1e-6, 0.1


def gradient_norms(case: SanityCase) -> dict[str, float | None]:
    """Return the norm of each trainable variable's gradient, by path; None for variables that are
    not connected to the loss.

    L1 and L2 terms are excluded, because they would hide a disconnected layer.
    """

    @tf.function
    @tf.autograph.experimental.do_not_convert
    def norms() -> list[tf.Tensor | None]:
        _, gradients = loss_and_gradients(case)
        return [None if gradient is None else tf.norm(gradient) for gradient in gradients]

    variables = case.model.trainable_variables
    return {
        variable.path: None if norm is None else float(norm)
        for variable, norm in zip(variables, norms(), strict=True)
    }


def gradient_flow(
    norms: Mapping[str, float | None], updates: Mapping[str, float] | None
) -> Finding:
    """Check the gradients and the first step's updates.

    Args:
        norms: result of `gradient_norms`.
        updates: `Attempt.updates`; None if no step was made.
    """
    unreached = [path for path, norm in norms.items() if not norm]
    infinite = [path for path, norm in norms.items() if norm and not np.isfinite(norm)]
    typical = float(np.median(list(updates.values()))) if updates else None
    says = (
        "a gradient that is finite and not zero reaches"
        f" {len(norms) - len(unreached) - len(infinite)} of {len(norms)} variables"
    )
    if typical is not None:
        says += (
            f"; a step changes kernels by {typical:.0e} of their norm (median; about 1e-3 is usual)"
        )
    numbers = {
        "variables": len(norms),
        "unreached": unreached,
        "not_finite": infinite,
        "median_update": typical,
    }
    figure = (
        None
        if not updates
        else line_plot(
            np.arange(len(updates)),
            {"update / weights": np.array(list(updates.values()))},
            "kernel, from the input to the output",
            "change in a step, as a share of the kernel's norm",
            log_y=True,
        )
    )
    rows = [
        (
            path,
            "none" if norm is None else f"{norm:.2e}",
            f"{updates[path]:.1e}" if updates and path in updates else "",
        )
        for path, norm in norms.items()
    ]
    table = (("variable", "gradient's norm", "update / weights"), *rows)
    advice = _advice(unreached, infinite, typical)
    return Finding("gradient flow", not advice, says, advice, numbers, table, figure)


def _advice(unreached: list[str], infinite: list[str], typical: float | None) -> str:
    if unreached:
        more = " and others" if len(unreached) > 3 else ""
        return (
            f"No gradient reaches {', '.join(unreached[:3])}{more}: look for a disconnected layer,"
            " zero weights, or a layer whose units are all dead"
        )
    if infinite:
        return (
            f"The gradient is not finite at {', '.join(infinite[:3])}: check the initial"
            " weights, and prepare's mean and std"
        )
    if typical is not None and not typical <= HIGHEST_UPDATE:
        return "The updates are too large: lower optimizer.learning_rate"
    if typical is not None and typical < LOWEST_UPDATE:
        return "The updates are too small: raise optimizer.learning_rate"
    return ""
