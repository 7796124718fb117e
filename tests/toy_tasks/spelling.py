"""Spelling the name of a digit letter by letter: a task whose targets are also inputs.

Dimensions: B images, T letters of a name, V letters in all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.example import Batch
from cvpipe.data.facts import Facts
from cvpipe.data.sources import Example
from cvpipe.fields import Field
from cvpipe.tasks.task import BestBy, Networks, Task, Tensors, Update

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS = ("", *sorted(set("".join(NAMES))))
LENGTH = max(map(len, NAMES))
ANSWERS = {"name": Field("exact"), "letters": Field("exact")}


class SpellingMetrics:
    """The share of names that are spelled right."""

    def __init__(self) -> None:
        self._right, self._weight = 0.0, 0.0

    def update(
        self,
        predictions: Mapping[str, np.ndarray],
        targets: Mapping[str, np.ndarray],
        weight: np.ndarray,
    ) -> None:
        """Add a batch's answers."""
        right = (predictions["letters"] == targets["letters"]).all(1)
        self._right += float((weight * right).sum())
        self._weight += float(weight.sum())

    def result(self) -> dict[str, Any]:
        """Return "right", in 0…1."""
        return {"right": self._right / self._weight}


def make_task(config: Config, facts: Facts) -> Task:
    """Return spelling, bound to a pipeline."""
    size = (*config.prepare.size, config.prepare.channels)
    return Task(
        build=lambda synchronized: {"network": _network(size)},
        encode=encode,
        updates=(Update(losses),),
        predict=predict,
        answers=ANSWERS,
        metrics=SpellingMetrics,
        best_by=BestBy("right"),
    )


def encode(example: Example) -> Tensors:
    """Return the letters of a digit's name: {"letters": int32 [T]}, padded with 0."""
    spelled = [[LETTERS.index(letter) for letter in name] for name in NAMES]
    table = np.array([[*word, *[0] * (LENGTH - len(word))] for word in spelled], np.int32)
    return {"letters": tf.gather(table, example["label"])}


def losses(networks: Networks, batch: Batch, seed: tf.Tensor) -> Tensors:
    """Return the mean cross-entropy of each letter, given those before it."""
    letters = batch["targets"]["letters"]
    before = tf.pad(letters[:, :-1], [[0, 0], [1, 0]])
    logits = networks["network"]([batch["image"], before], training=True)["logits"]
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(letters, logits)
    return {"letters": tf.reduce_mean(each, axis=1)}


def predict(
    networks: Networks, image: tf.Tensor, extent: tf.Tensor | None = None, **options: tf.Tensor
) -> Tensors:
    """Spell greedily: "letters" int32 [B, T] and "name" string [B]."""
    letters = tf.zeros([tf.shape(image)[0], LENGTH], tf.int32)
    for place in range(LENGTH):
        before = tf.pad(letters[:, :-1], [[0, 0], [1, 0]])
        logits = networks["network"]([image, before], training=False)["logits"]
        best = tf.argmax(logits, -1, output_type=tf.int32)
        letters = tf.where(tf.range(LENGTH) == place, best, letters)
    name = tf.strings.reduce_join(tf.gather(tf.constant(LETTERS), letters), axis=-1)
    return {"letters": letters, "name": name}


def _network(size: tuple[int, ...]) -> keras.Model:
    image = keras.Input(size, name="image")
    before = keras.Input([LENGTH], dtype="int32", name="before")
    seen = keras.layers.Dense(64, activation="relu", name="seen")(keras.layers.Flatten()(image))
    x = keras.layers.Embedding(len(LETTERS), 16, name="embedding")(before)
    x = keras.layers.Concatenate(name="both")([x, keras.layers.RepeatVector(LENGTH)(seen)])
    x = keras.layers.Conv1D(64, LENGTH, padding="causal", activation="relu", name="read")(x)
    logits = keras.layers.Dense(len(LETTERS), name="logits")(x)
    return keras.Model([image, before], {"logits": logits}, name="speller")
