"""Pictures of attacked images beside the originals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from cvpipe.config.prepare import Prepare
from cvpipe.data.prepare import restore_colors, restore_pixels
from cvpipe.explain.score import Subject
from cvpipe.pictures.drawing.grids import image_grid


def draw_fooled(
    subject: Subject,
    images: tf.Tensor,
    attacked: tf.Tensor,
    prepare: Prepare,
    class_names: Sequence[str],
) -> Figure:
    """Draw a row of images, a row of their changes and a row of the attacked images, with the
    network's answers and their probabilities. Gray is no change, and the largest change is black or
    white.

    Args:
        subject: the network.
        images: prepared images, float32 [B, H, W, C].
        attacked: prepared, in the same shape.
        prepare: their preparation.
        class_names: names of the network's classes.
    """
    change = np.asarray(restore_colors(attacked, prepare) - restore_colors(images, prepare))
    largest = np.abs(change).max() or 1.0
    before, after = (np.asarray(restore_pixels(batch, prepare)) for batch in (images, attacked))
    amplified = np.round(127.5 * (1 + change / largest)).astype(np.uint8)
    answers, labels = [], []
    for batch in (images, attacked):
        probabilities = subject.class_probabilities(subject.all_scores(batch)).numpy()
        answers.append(probabilities.argmax(1))
        labels.append([f"{class_names[row.argmax()]} {row.max():.2f}" for row in probabilities])
    same = list(answers[0] == answers[1])
    count = len(before)
    titles = [*labels[0], *(f"× {1 / largest:.3g}" for _ in range(count)), *labels[1]]
    right = [True] * 2 * count + [bool(equal) for equal in same]
    return image_grid(np.concatenate([before, amplified, after]), titles, right, columns=count)
