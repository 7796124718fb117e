"""Sizes of a split's objects at the network's input, for choosing anchors."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.example import Encode
from cvpipe.data.prepare import place_boxes
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source
from cvpipe.data.stream import evaluation_batches


def object_sizes(
    source: Source, config: Config, encode: Encode, quarantine: Quarantine
) -> np.ndarray:
    """Return heights and widths of all n objects except crowds, float32 [n, 2], as shares of the
    network's input. Reads every image.
    """
    sizes = [np.zeros([0, 2], np.float32)]
    for batch in evaluation_batches(source, config, encode, quarantine, config.train.batch_size):
        targets = batch["targets"]
        boxes = place_boxes(targets["boxes"], targets["extent"], config.prepare)
        counted = (
            (targets["labels"] >= 0) & ~targets["crowd"] & (batch["weight"] > 0)[:, tf.newaxis]
        )
        sizes.append(tf.boolean_mask(boxes[..., 2:] - boxes[..., :2], counted).numpy())
    quarantine.check()
    return np.concatenate(sizes)
