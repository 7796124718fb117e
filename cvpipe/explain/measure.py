"""Comparison of methods by the quality of their maps on a split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.explain.explain import SEED, method_of
from cvpipe.explain.quality import (
    faithfulness,
    map_sums,
    points_at,
    random_cells,
    rank_correlation,
    score_falls,
)
from cvpipe.explain.sanity import similarities
from cvpipe.explain.score import Subject
from cvpipe.tasks.task import Task

BATCH = 16
"""Number of images that are explained at once."""
CHECKED = 8
"""Number of images in the sanity check."""


class Quality(NamedTuple):
    """Means over the explained images."""

    method: str
    deletion: float
    """Lower is better."""
    insertion: float
    """Higher is better."""
    mu_fidelity: float
    """-1 to 1; higher is better."""
    pointing: float | None
    """Share of maps whose maximum is in an object of the class; None for data without positions of
    objects.
    """
    randomized: float
    """Rank correlation with maps of a network with shuffled weights; lower is better."""


class Explained(NamedTuple):
    """P pairs of an image and a class."""

    images: np.ndarray
    """float32 [P, H, W, C], prepared."""
    classes: np.ndarray
    """int32 [P]."""
    boxes: np.ndarray | None
    """float32 [P, M, 4]: boxes of the class's objects, as fractions of the image, padded with
    zeros. None for data without positions of objects.
    """


def explained_pairs(
    subject: Subject, task: Task, batches: Iterable[Mapping[str, Any]], limit: int
) -> Explained:
    """Return each image with each class of its objects; with its predicted class if the data has no
    positions of objects.

    Args:
        subject: the network.
        task: its task.
        batches: evaluation batches with "image", "targets" and "weight".
        limit: largest number of images.
    """
    images, classes, boxes_of_pairs = list[np.ndarray](), list[int](), list[np.ndarray]()
    seen = 0
    for batch in batches:
        real = np.flatnonzero(np.asarray(batch["weight"]) > 0)[: limit - seen]
        seen += len(real)
        pixels = np.asarray(batch["image"])
        if task.objects is None:
            best = np.argmax(subject.all_scores(tf.constant(pixels)), axis=1)
            images += list(pixels[real])
            classes += [int(label) for label in best[real]]
        else:
            labels, boxes = map(np.asarray, task.objects(batch["targets"]))
            for n in real:
                for label in np.unique(labels[n][labels[n] >= 0]):
                    images.append(pixels[n])
                    classes.append(int(label))
                    boxes_of_pairs.append(
                        np.where((labels[n] == label)[:, np.newaxis], boxes[n], 0.0)
                    )
        if seen >= limit:
            break
    # Batches of a detector can be padded to different numbers of objects.
    most = max(map(len, boxes_of_pairs), default=0)
    padded = [np.pad(boxes, [(0, most - len(boxes)), (0, 0)]) for boxes in boxes_of_pairs]
    return Explained(
        np.stack(images) if images else np.zeros([0, *subject.network.input_shape[1:]], np.float32),
        np.array(classes, np.int32),
        None if task.objects is None else np.array(padded, np.float32).reshape(-1, most, 4),
    )


def measure(
    subject: Subject, explained: Explained, methods: Sequence[str], layer: str | None = None
) -> list[Quality]:
    """Return the quality of each method, the highest insertion - deletion first.

    Args:
        subject: the network.
        explained: pairs from `explained_pairs`, at least one.
        methods: names among METHODS.
        layer: name of the feature map for class activation maps; None: the last one.

    Raises:
        ConfigError: a method is unknown, or doesn't support the network.
    """
    scored = subject.folded()
    hidden = random_cells(explained.images.shape[1:3], tf.constant(SEED, tf.int64))
    # The decreases of the score are the same for all methods, so they are computed once.
    [falls] = _in_batches(
        lambda images, classes: (score_falls(scored.score, images, classes, hidden),),
        explained.images,
        explained.classes,
    )
    rows = [
        _quality(subject, scored, explained, method, layer, hidden, falls) for method in methods
    ]
    return sorted(rows, key=lambda row: row.deletion - row.insertion)


def chance(explained: Explained) -> float | None:
    """Return the share of pixels in objects of the class: the pointing-game score of a random
    point.
    """
    if explained.boxes is None:
        return None
    height, width = explained.images.shape[1:3]
    y = ((np.arange(height) + 0.5) / height)[:, np.newaxis, np.newaxis]
    x = ((np.arange(width) + 0.5) / width)[:, np.newaxis]
    shares = []
    for ymin, xmin, ymax, xmax in np.moveaxis(explained.boxes, -1, 1):
        inside = (y >= ymin) & (y < ymax) & (x >= xmin) & (x < xmax)
        shares.append(inside.any(-1).mean())
    return float(np.mean(shares))


def _quality(
    subject: Subject,
    scored: Subject,
    explained: Explained,
    name: str,
    layer: str | None,
    hidden: tf.Tensor,
    falls: np.ndarray,
) -> Quality:
    method = method_of(name, subject, layer, scored)
    boxes = explained.boxes
    if boxes is None:
        boxes = np.zeros([len(explained.classes), 1, 4], np.float32)

    def judge(images: tf.Tensor, classes: tf.Tensor, boxes: tf.Tensor) -> tuple[tf.Tensor, ...]:
        maps = method(images, classes)
        areas = faithfulness(scored.probability, images, classes, maps)
        return *areas, map_sums(maps, hidden), points_at(maps, boxes), maps

    deletion, insertion, sums, hits, maps = _in_batches(
        judge, explained.images, explained.classes, boxes
    )
    images, classes = explained.images[:CHECKED], explained.classes[:CHECKED]
    checked = similarities(
        subject,
        tf.constant(images),
        tf.constant(classes),
        name,
        layer=layer,
        trained_maps=maps[:CHECKED],
        points=1,
    )
    return Quality(
        name,
        float(deletion.mean()),
        float(insertion.mean()),
        float(rank_correlation(falls, sums).mean()),
        None if explained.boxes is None else float(hits.mean()),
        next(iter(checked.values()), 1.0),
    )


def _in_batches(
    compute: Callable[..., tuple[tf.Tensor, ...]], *arrays: np.ndarray
) -> list[np.ndarray]:
    """Return the results [N, …] of graph code on arrays [N, …], at most BATCH of them at once."""
    graph = tf.function(compute, autograph=False)
    count = len(arrays[0])
    each = -(-count // -(-count // BATCH))
    found = []
    for begin in range(0, count, each):
        # Fill up the last batch, so that only one graph is traced.
        index = np.minimum(np.arange(begin, begin + each), count - 1)
        values = graph(*(array[index] for array in arrays))
        found.append([value.numpy()[: count - begin] for value in values])
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]
