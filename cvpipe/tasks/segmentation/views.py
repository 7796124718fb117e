"""Predictions averaged over mirror images.

Dimensions: B images; H, W, C of the network's input; h, w of its output; K classes.
"""

from __future__ import annotations

import tensorflow as tf

from cvpipe.tasks.segmentation.answer import Network
from cvpipe.tasks.task import Tensors, mean_of_softmax

# Axes along which the images of each view are reversed.
AXES: dict[str, tuple[tuple[int, ...], ...]] = {
    "one": ((),),
    "mirrored": ((), (2,)),
    "flipped": ((), (2,), (1,), (1, 2)),
}


def in_views(network: Network, views: str) -> Network:
    """Return a network whose probabilities are the means over several views.

    Args:
        network: maps images, float32 [B, H, W, C], to {"logits": float32 [B, h, w, K]}.
        views: a key of AXES.
    """
    if views == "one":
        return network

    def averaged(images: tf.Tensor) -> Tensors:
        logits = [
            _reversed(network(_reversed(images, axes))["logits"], axes) for axes in AXES[views]
        ]
        return mean_of_softmax({"logits": tf.stack(logits)})

    return averaged


def _reversed(values: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
    return tf.reverse(values, axes) if axes else values
