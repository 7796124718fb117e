"""Baselines for classification: scikit-learn's classifiers on a pipeline's prepared images.

A network is worth training only if it beats these baselines. Images are flattened to vectors.

Dimensions: N training images, M other images, D values of an image, K classes, Q neighbors.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from cvpipe.config import Config
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.sources.splits import hold_out
from cvpipe.data.stream import evaluation_batches
from cvpipe.errors import ConfigError, DataError, counted
from cvpipe.models.normalize import Normalize
from cvpipe.tasks import load_task
from cvpipe.training.start import fit_normalization

# Numbers of neighbors to choose from. The result for five neighbors is always shown, too.
NEIGHBORS = (1, 3, 5, 7, 9, 11, 15, 21)
ALWAYS_SHOWN = 5
# Names of the distances in scikit-learn. "euclidean" and "l2" are the same distance, but only
# "euclidean" is computed by a matrix product, which is many times faster.
METRICS = {"L2": "euclidean", "L1": "manhattan"}
# Largest number of training images used to choose a setting.
CHOOSING_IMAGES = 10_000
# Limit of N·M·D, the number of absolute differences that L1 distances need. L1 distances can't be
# computed by a matrix product; at this limit they take minutes.
MOST_DIFFERENCES = 10**11
# Limit of N·D. All images are held in memory at once, and some classifiers convert them to float64.
MOST_VALUES = 5 * 10**8
HIDDEN, EPOCHS = 256, 30


class Images(NamedTuple):
    """Flattened images and their classes."""

    values: np.ndarray
    """float32 [N, D]."""
    labels: np.ndarray
    """int32 [N]."""

    def sample(self, most: int, seed: int) -> Images:
        """Return a random sample of at most `most` images, stratified by class."""
        if most >= len(self.labels):
            return self
        try:
            chosen, _ = train_test_split(
                np.arange(len(self.labels)),
                train_size=most,
                stratify=self.labels,
                random_state=seed,
            )
        except ValueError:
            # Stratifying failed: a class has a single image, or there are more classes than images
            # to sample.
            chosen = np.random.default_rng(seed).choice(len(self.labels), most, replace=False)
        return Images(self.values[np.sort(chosen)], self.labels[np.sort(chosen)])


class Trainable(NamedTuple):
    """A classifier with one setting to choose."""

    name: str
    setting: str
    values: tuple[float, ...]
    make: Callable[[float, int, int], Any]
    """Returns the classifier for a value of the setting, N and the seed."""


# LinearSVC and LogisticRegression minimize C × the sum of losses + ½ × the squared norm. A fixed
# C·N keeps the balance between the mean loss and the penalty for any number of images.
TRAINABLE = (
    Trainable(
        "linear SVM",
        "C·N",
        (1.0, 10.0, 100.0),
        lambda value, n, seed: LinearSVC(C=value / n, dual=False, max_iter=200, random_state=seed),
    ),
    Trainable(
        "softmax regression",
        "C·N",
        (10.0, 100.0, 1000.0),
        lambda value, n, seed: LogisticRegression(C=value / n, max_iter=200, random_state=seed),
    ),
    Trainable(
        f"two-layer net, {HIDDEN} hidden",
        "alpha",
        (1e-3, 1e-1, 1.0),
        lambda value, n, seed: MLPClassifier(
            (HIDDEN,), alpha=value, max_iter=EPOCHS, random_state=seed
        ),
    ),
)


def baselines(config: Config) -> Iterator[dict[str, Any]]:
    """Train each baseline, choose its setting on the validation split, and score it on the test
    split.

    If the data has no validation split, a tenth of the training split is held out instead. Each
    image has one view, even if the pipeline evaluates several views.

    Yields:
        A row for each classifier and setting, with "baseline" (name of the classifier),
        split, "images" (number of test images used), "seconds" (choosing, training and testing),
        "note" (what was sampled, or "").

    Raises:
        ConfigError: the task isn't classification.
        DataError: the data can't be opened, more records are bad than the pipeline allows, or the
            images don't fit in memory.
    """
    if config.task != "classification":
        raise ConfigError(
            f"task: {config.task}: baselines are classifiers; give a pipeline with task:"
            " classification"
        )
    splits = open_splits(config.data)
    normalize = _normalization(splits["train"], config)
    images = {name: _read(splits[name], name, config, normalize) for name in ("train", "test")}
    if "validation" in splits:
        to_learn, to_choose = (
            images["train"],
            _read(splits["validation"], "validation", config, normalize),
        )
    else:
        seed, group = f"{config.seed} validation", config.data.group
        parts = hold_out(splits["train"], 0.1, seed, group)
        to_learn, to_choose = (_read(part, "train", config, normalize) for part in parts)
    if len(np.unique(to_learn.labels)) < 2 or not len(to_choose.labels):
        raise DataError(
            f"baselines need training images of two classes and images to choose settings by; the"
            f" training split has {counted(len(splits['train']), 'image')}: take more with --limit"
        )
    for distance in METRICS:
        yield from _nearest_neighbors(
            distance, to_learn, to_choose, images["train"], images["test"], config.seed
        )
    for trainable in TRAINABLE:
        yield _trained(trainable, to_learn, to_choose, images["train"], images["test"], config.seed)


def vote(labels: np.ndarray, k: int) -> np.ndarray:
    """Return the most frequent class among the nearest `k` neighbors, int [M].

    `labels` [M, Q] is ordered by distance. In a tie the class with the smallest number wins.
    """
    counts = (labels[:, :k, np.newaxis] == np.arange(labels.max() + 1)).sum(axis=1)
    return counts.argmax(axis=1)


def _normalization(train: Source, config: Config) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that normalizes images like the network's first layer, fitted to the
    training set. It returns images unchanged for `normalize: given`.
    """
    if config.prepare.normalize == "given":
        return lambda images: images
    shape = (*config.prepare.size, config.prepare.channels)
    layer = Normalize(config.prepare.normalize, shape, name="normalize")
    model = keras.Sequential([keras.Input(shape), layer])
    fit_normalization(model, train, config)
    return lambda images: model(images).numpy()


def _read(
    source: Source, split: str, config: Config, normalize: Callable[[np.ndarray], np.ndarray]
) -> Images:
    height, width = config.prepare.size
    size = height * width * config.prepare.channels
    if len(source) * size > MOST_VALUES:
        raise DataError(
            f"the {split} split's {len(source):,} images of {size:,} values are too much to hold in"
            " memory at once; take fewer with --limit, or smaller ones with --set"
            f" prepare.size=[{height // 2},{width // 2}]"
        )
    quarantine = Quarantine(source, split, config.data.max_bad_share)
    encode = load_task(config, source.facts).encode
    values, labels = np.empty((len(source), size), np.float32), np.empty(len(source), np.int32)
    count = 0
    for batch in evaluation_batches(source, config.with_one_view(), encode, quarantine, 256):
        readable = batch["weight"].numpy() > 0
        images = normalize(batch["image"].numpy()[readable])
        values[count : count + len(images)] = images.reshape(len(images), size)
        labels[count : count + len(images)] = batch["targets"]["label"].numpy()[readable]
        count += len(images)
    quarantine.check()
    return Images(values[:count], labels[:count])


def _nearest_neighbors(
    distance: str, to_learn: Images, to_choose: Images, train: Images, test: Images, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield the rows for the best number of neighbors and for five neighbors."""
    began = time.monotonic()
    note = ""
    if distance == "L1" and len(test.labels) > (
        most := max(2, MOST_DIFFERENCES // train.values.size)
    ):
        # Sample the test images rather than the training images, because the classifier consists of
        # the training images.
        to_choose, test = to_choose.sample(most // 2, seed), test.sample(most, seed)
        note = f"on a sample of {most:,} test images"
    possible = [k for k in NEIGHBORS if k <= len(to_learn.labels)]
    known = _neighbors(distance, to_learn, to_choose, possible[-1])
    scores = [float((vote(known, k) == to_choose.labels).mean()) for k in possible]
    chosen = possible[int(np.argmax(scores))]
    answers = _neighbors(distance, train, test, possible[-1])
    seconds = round(time.monotonic() - began, 1)
    for k in sorted({chosen, min(ALWAYS_SHOWN, possible[-1])}):
        accuracy = float((vote(answers, k) == test.labels).mean())
        yield _row(
            f"nearest neighbors, {distance}", {"k": k}, accuracy, len(test.labels), seconds, note
        )


def _neighbors(distance: str, train: Images, queries: Images, most: int) -> np.ndarray:
    """Return the labels of the `most` training images nearest to each image of `queries`, nearest
    first, int32 [M, Q].
    """
    index = NearestNeighbors(n_neighbors=most, algorithm="brute", metric=METRICS[distance]).fit(
        train.values
    )
    return train.labels[index.kneighbors(queries.values, return_distance=False)]


def _trained(
    trainable: Trainable,
    to_learn: Images,
    to_choose: Images,
    train: Images,
    test: Images,
    seed: int,
) -> dict[str, Any]:
    began = time.monotonic()
    few = to_learn.sample(CHOOSING_IMAGES, seed)
    scores = [_score(trainable, value, few, to_choose, seed) for value in trainable.values]
    chosen = trainable.values[int(np.argmax(scores))]
    accuracy = _score(trainable, chosen, train, test, seed)
    note = (
        f"{trainable.setting} chosen with {len(few.labels):,} training images"
        if len(few.labels) < len(to_learn.labels)
        else ""
    )
    return _row(
        trainable.name,
        {trainable.setting: chosen},
        accuracy,
        len(test.labels),
        round(time.monotonic() - began, 1),
        note,
    )


def _score(trainable: Trainable, value: float, train: Images, test: Images, seed: int) -> float:
    # With one thread, sums have the same bits on every machine. On a busy machine, several threads
    # took ten times as long because they waited for each other.
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        # A baseline needn't converge within max_iter.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = trainable.make(value, len(train.labels), seed).fit(train.values, train.labels)
    return float(model.score(test.values, test.labels))


def _row(
    name: str, settings: dict[str, float], accuracy: float, images: int, seconds: float, note: str
) -> dict[str, Any]:
    return {
        "baseline": name,
        "settings": settings,
        "accuracy": accuracy,
        "images": images,
        "seconds": seconds,
        "note": note,
    }


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Format the rows as a table of text."""
    lines = [f"{'baseline':<32}{'settings':<14}{'test accuracy':>13}{'seconds':>9}  note"]
    for row in rows:
        settings = ", ".join(f"{name} = {value:g}" for name, value in row["settings"].items())
        lines.append(
            f"{row['baseline']:<32}{settings:<14}{row['accuracy']:>13.2%}{row['seconds']:>9.0f} "
            f" {row['note']}".rstrip()
        )
    return lines
