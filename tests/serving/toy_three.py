"""Small models of three tasks with the files and the answers of artifacts; they decode images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tensorflow as tf

from cvpipe.data.decode import decode_image
from cvpipe.data.guard import each_or_zeros
from cvpipe.export.manifest import write_manifest

SIDE = 320
"""Largest height and width of the toy segmenter's masks."""
PLACES = 3
Answers = dict[str, tf.Tensor]


def classify(encoded: tf.Tensor) -> Answers:
    """Rank colors by how bright each is in the image."""

    def load(one: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.cast(decode_image(one, 3), tf.float32), axis=[0, 1])

    colors, valid = each_or_zeros(load, encoded)
    shares = tf.nn.softmax(colors / 32)
    found, ids = tf.math.top_k(shares, 3)
    names = tf.gather(tf.constant(["red", "green", "blue"]), ids)
    top = {"top_class_ids": ids, "top_class_names": names, "top_probabilities": found}
    return {**top, "valid": valid}


def detect(encoded: tf.Tensor) -> Answers:
    """Return boxes that depend on the image's size, and scores that depend on its colors."""

    def load(one: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels = decode_image(one, 3)
        colors = tf.reduce_mean(tf.cast(pixels, tf.float32), axis=[0, 1])
        return tf.shape(pixels)[:2], colors / 255

    (sizes, colors), valid = each_or_zeros(load, encoded)
    scores, ids = tf.math.top_k(0.35 + 0.6 * colors, PLACES)
    places = tf.constant([[0.0, 0.0, 0.5, 0.4], [0.3, 0.5, 0.9, 1.0], [0.6, 0.05, 0.95, 0.4]])
    scale = tf.cast(tf.tile(sizes, [1, 2]), tf.float32)[:, tf.newaxis]
    return {
        "boxes": places * scale,
        "scores": scores,
        "class_ids": ids,
        "class_names": tf.gather(tf.constant(["red cell", "green cell", "blue cell"]), ids),
        "count": tf.fill(tf.shape(valid), PLACES),
        "image_size": sizes,
        "valid": valid,
    }


def segment(encoded: tf.Tensor) -> Answers:
    """Label each pixel by its brightness."""

    def load(one: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels = tf.cast(decode_image(one, 1)[:SIDE, :SIDE], tf.int32)
        size = tf.shape(pixels)[:2]
        padded = tf.pad(pixels[..., 0] // 86, [[0, SIDE - size[0]], [0, SIDE - size[1]]])
        return size, tf.ensure_shape(padded, [SIDE, SIDE])

    (sizes, labels), valid = each_or_zeros(load, encoded)
    inside = tf.sequence_mask(sizes[:, 0], SIDE)[:, :, tf.newaxis]
    inside &= tf.sequence_mask(sizes[:, 1], SIDE)[:, tf.newaxis]
    counts = tf.reduce_sum(
        tf.cast((labels[..., tf.newaxis] == tf.range(3)) & inside[..., tf.newaxis], tf.float32),
        axis=[1, 2],
    )
    names = tf.constant(["dark", "gray", "bright"])
    most = tf.reduce_max(sizes, 0)
    return {
        # As large as the largest image in the batch, like a segmenter's masks.
        "mask": tf.cast(labels[:, : most[0], : most[1]], tf.uint8),
        "shares": tf.math.divide_no_nan(counts, tf.reduce_sum(counts, 1, keepdims=True)),
        "class_names": tf.tile(names[tf.newaxis], [tf.shape(sizes)[0], 1]),
        "image_size": sizes,
        "valid": valid,
    }


TASKS: dict[str, Callable[[tf.Tensor], Answers]] = {
    "classification": classify,
    "detection": detect,
    "segmentation": segment,
}


def save_three(folder: Path, tasks: Iterable[str] = TASKS) -> Path:
    """Write a model of each task, named for it; return the folder."""
    for task in tasks:
        model: Any = tf.Module()
        image_bytes = tf.TensorSpec([None], tf.string, "image_bytes")
        model.serve = tf.function(TASKS[task], input_signature=[image_bytes], autograph=False)
        place = folder / task / "1"
        tf.saved_model.save(model, str(place), signatures={"serving_default": model.serve})
        about = {"config": {"task": task}, "trained_on": {"images": 1, "facts": {}}}
        (place / "assets.extra").mkdir()
        text = json.dumps({**about, "signatures": {}})
        (place / "assets.extra" / "cvpipe.json").write_text(text)
        write_manifest(place)
    return folder
