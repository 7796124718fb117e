"""Comparison of methods by the quality of their maps on a split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.data.statistics import evenly_spaced
from cvpipe.explain.explain import SEED, method_of
from cvpipe.explain.quality import (
    are_near,
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
"""Number of maps in the sanity check, the score "randomized"."""


class Quality(NamedTuple):
    """Means over the explained images. Scores that were not computed are None."""

    method: str
    deletion: float | None = None
    """Lower is better."""
    insertion: float | None = None
    """Higher is better."""
    mu_fidelity: float | None = None
    """-1 to 1; higher is better."""
    pointing: float | None = None
    """Share of maps whose maximum is in an object of the class; None for data without positions of
    objects.
    """
    randomized: float | None = None
    """Rank correlation with maps of a network with shuffled weights; lower is better."""


SCORES = Quality._fields[1:]


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

    def subset(self, indices: np.ndarray) -> Explained:
        """Return the pairs at `indices`, int [M]."""
        boxes = None if self.boxes is None else self.boxes[indices]
        return Explained(self.images[indices], self.classes[indices], boxes)


def explained_pairs(
    subject: Subject, task: Task, batches: Iterable[Mapping[str, Any]]
) -> Explained:
    """Return each image with each class of its objects; with its predicted class if the data has no
    positions of objects.

    Args:
        subject: the network.
        task: its task.
        batches: evaluation batches with "image", "targets" and "weight".
    """
    images, classes, boxes_of_pairs = list[np.ndarray](), list[int](), list[np.ndarray]()
    for batch in batches:
        real = np.flatnonzero(np.asarray(batch["weight"]) > 0)
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
    # Batches of a detector can be padded to different numbers of objects.
    most = max(map(len, boxes_of_pairs), default=0)
    padded = [np.pad(boxes, [(0, most - len(boxes)), (0, 0)]) for boxes in boxes_of_pairs]
    return Explained(
        np.stack(images) if images else np.zeros([0, *subject.network.input_shape[1:]], np.float32),
        np.array(classes, np.int32),
        None if task.objects is None else np.array(padded, np.float32).reshape(-1, most, 4),
    )


def measure(
    subject: Subject,
    explained: Explained,
    methods: Sequence[str],
    layer: str | None = None,
    scores: Sequence[str] = SCORES,
) -> list[Quality]:
    """Return the quality of each method, the best first: by insertion - deletion, or by the first
    of `scores` if these two are not computed.

    Args:
        subject: the network.
        explained: pairs from `explained_pairs`, at least one.
        methods: names among METHODS.
        layer: name of the feature map for class activation maps; None: the last one.
        scores: scores to compute, from SCORES. "deletion" and "insertion" are computed together.

    Raises:
        ConfigError: a method is unknown, or doesn't support the network.
    """
    scored = subject.folded()
    hidden = random_cells(explained.images.shape[1:3], tf.constant(SEED, tf.int64))
    falls = None
    if "mu_fidelity" in scores:
        # The decreases of the score are the same for all methods, so they are computed once.
        falls = _in_batches(
            lambda images, classes: {"falls": score_falls(scored.score, images, classes, hidden)},
            explained.images,
            explained.classes,
        )["falls"]
    rows = [
        _quality(subject, scored, explained, method, layer, hidden, falls, scores)
        for method in methods
    ]
    return sorted(rows, key=lambda row: _rank(row, scores[0]))


def _rank(row: Quality, score: str) -> float:
    """Return a number that is lower for better methods."""
    if row.deletion is not None and row.insertion is not None:
        return row.deletion - row.insertion
    value: float | None = getattr(row, score)
    if value is None:
        return 0.0
    return value if score == "randomized" else -value


def chance(explained: Explained) -> float | None:
    """Return the share of pixels in or near objects of the class: the pointing-game score of a
    random point.
    """
    if explained.boxes is None:
        return None
    height, width = explained.images.shape[1:3]
    pixels = tf.range(height * width)[tf.newaxis]
    # One pair at a time, because each pixel is compared with each box.
    return float(
        np.mean([are_near(pixels, boxes[np.newaxis], height, width) for boxes in explained.boxes])
    )


def _quality(
    subject: Subject,
    scored: Subject,
    explained: Explained,
    name: str,
    layer: str | None,
    hidden: tf.Tensor,
    falls: np.ndarray | None,
    scores: Sequence[str],
) -> Quality:
    method = method_of(name, subject, layer, scored)
    boxes = explained.boxes
    if boxes is None:
        boxes = np.zeros([len(explained.classes), 1, 4], np.float32)

    def judge(images: tf.Tensor, classes: tf.Tensor, boxes: tf.Tensor) -> dict[str, tf.Tensor]:
        maps = method(images, classes)
        found = {"maps": maps}
        if not {"deletion", "insertion"}.isdisjoint(scores):
            areas = faithfulness(scored.probability, images, classes, maps)
            found["deletion"], found["insertion"] = areas
        if falls is not None:
            found["sums"] = map_sums(maps, hidden)
        if explained.boxes is not None and "pointing" in scores:
            found["pointing"] = points_at(maps, boxes)
        return found

    found = _in_batches(judge, explained.images, explained.classes, boxes)
    means = {key: float(found[key].mean()) for key in found.keys() & set(SCORES)}
    if falls is not None:
        means["mu_fidelity"] = float(rank_correlation(falls, found["sums"]).mean())
    if "randomized" in scores:
        indices = evenly_spaced(len(explained.classes), CHECKED)
        some = explained.subset(indices)
        checked = similarities(
            subject,
            tf.constant(some.images),
            tf.constant(some.classes),
            name,
            layer=layer,
            trained_maps=found["maps"][indices],
            points=1,
        )
        means["randomized"] = next(iter(checked.values()), 1.0)
    return Quality(name, **means)


def _in_batches(
    compute: Callable[..., dict[str, tf.Tensor]], *arrays: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the results [N, …] of graph code on arrays [N, …], at most BATCH of them at once."""
    graph = tf.function(compute, autograph=False)
    count = len(arrays[0])
    each = -(-count // -(-count // BATCH))
    found = []
    for begin in range(0, count, each):
        # Fill up the last batch, so that only one graph is traced.
        index = np.minimum(np.arange(begin, begin + each), count - 1)
        values = graph(*(array[index] for array in arrays))
        found.append({key: value.numpy()[: count - begin] for key, value in values.items()})
    return {key: np.concatenate([part[key] for part in found]) for key in found[0]}
