"""Pictures of what a network responds to: its classes, units and layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cvpipe.config.prepare import Prepare
from cvpipe.data.decode import decode_file
from cvpipe.data.prepare import normalize_colors, prepare, restore_pixels
from cvpipe.explain.score import Subject
from cvpipe.synthesis.dream import Dream, dream, octave_sizes
from cvpipe.synthesis.invert import Inversion, invert
from cvpipe.synthesis.unit_images import Pixelwise, Spectral, pixel_images, spectral_images
from cvpipe.synthesis.units import Activation, Unit, activation_of, at_size, find_layer, find_units


class Visualized(NamedTuple):
    """A network, and how its images are prepared."""

    network: keras.Model
    subject: Subject | None
    """The scores of its classes; None if its task has no classes."""
    class_names: tuple[str, ...]
    prepare: Prepare


class Ascent(NamedTuple):
    """Settings of the optimization of images."""

    by: Literal["spectrum", "pixels"]
    """Parameters of the images of classes and units."""
    steps: int | None
    """None for the method's default."""
    seed: int


class Picture(NamedTuple):
    """An image and its description."""

    name: str
    """Name of the file, without extension."""
    pixels: np.ndarray
    """uint8 [H, W, C]."""
    about: dict[str, Any]
    """The class, unit or layer, and the values that it reached; JSON values."""


def class_pictures(
    seen: Visualized, subject: Subject, labels: Sequence[int], ascent: Ascent
) -> list[Picture]:
    """Return an image with a high score for each class."""
    classes = tf.constant(labels)
    pixels = _ascended(seen, lambda images: subject.score(images, classes), len(labels), ascent)
    # Score the rounded pixels, which are those of the file.
    scores = subject.all_scores(
        normalize_colors(tf.constant(pixels / 255.0, tf.float32), seen.prepare)
    )
    probabilities = tf.nn.softmax(scores).numpy()
    return [
        Picture(
            f"class-{seen.class_names[label]}",
            pixels[n],
            {
                "class_name": seen.class_names[label],
                "score": float(scores[n, label]),
                "probability": float(probabilities[n, label]),
                "answer": seen.class_names[int(probabilities[n].argmax())],
            },
        )
        for n, label in enumerate(labels)
    ]


def unit_pictures(seen: Visualized, units: Sequence[Unit], ascent: Ascent) -> list[Picture]:
    """Return an image that activates each unit, by layers in the order in which they occur first.

    Raises:
        ConfigError: a unit doesn't exist.
    """
    for unit in units:
        find_units(seen.network, [unit])
    pictures = []
    # The units of one layer form one batch.
    for layer in dict.fromkeys(unit.layer for unit in units):
        own = [unit for unit in units if unit.layer == layer]
        activation = activation_of(seen.network, own)
        pixels = _ascended(seen, activation, len(own), ascent)
        reached = activation(normalize_colors(pixels.astype("float32") / 255, seen.prepare)).numpy()
        for n, unit in enumerate(own):
            about = {"unit": str(unit), "activation": float(reached[n])}
            pictures.append(Picture(str(unit).replace(":", "-"), pixels[n], about))
    return pictures


def dream_pictures(
    seen: Visualized, file: Path, layers: Sequence[str], longest: int, ascent: Ascent
) -> list[Picture]:
    """Return the image in a file with what each layer detects amplified.

    Args:
        longest: pixels of the pictures' longer side, at most.

    Raises:
        ConfigError: a layer doesn't exist or doesn't fit the image.
    """
    found = [find_layer(seen.network, name) for name in layers]
    image = _read(file, seen.prepare.channels, longest)
    settings = Dream(steps=ascent.steps or Dream().steps)
    sizes = octave_sizes(tuple(image.shape[1:3]), settings)
    pictures = []
    for layer in found:
        features = [at_size(seen.network, layer, size) for size in sizes]
        dreamt, scores = _in_graph(
            lambda own, features=features: dream(
                features, image, sizes, seen.prepare, own, settings
            ),
            tf.constant([ascent.seed, 0], tf.int64),
        )
        values = {"activation": [float(scores[0, 0]), float(scores[-1, 0])]}
        pictures.append(_of_layer("dream", file, layer, dreamt, values))
    return pictures


def inversion_pictures(
    seen: Visualized, file: Path, layers: Sequence[str], ascent: Ascent
) -> list[Picture]:
    """Return an image with the same features in each layer as the image in a file.

    Raises:
        ConfigError: a layer doesn't exist.
    """
    found = [find_layer(seen.network, name) for name in layers]
    whole = 255 * _read(file, seen.prepare.channels)[0]
    image = tf.cast(restore_pixels(prepare(whole, seen.prepare), seen.prepare), tf.float32) / 255
    settings = Inversion(steps=ascent.steps or Inversion().steps)
    pictures = []
    for layer in found:
        model = keras.Model(seen.network.inputs, layer.output)
        made, losses = _in_graph(
            lambda own, model=model: invert(
                lambda images: tf.cast(model(images, training=False), tf.float32),
                image[tf.newaxis],
                seen.prepare,
                own,
                settings,
            ),
            tf.constant([[ascent.seed, 0]], tf.int64),
        )
        values = {"loss": [float(losses[0, 0]), float(losses[-1, 0])]}
        pictures.append(_of_layer("inversion", file, layer, made, values))
    return pictures


def _ascended(seen: Visualized, activation: Activation, count: int, ascent: Ascent) -> np.ndarray:
    """Return the images that maximize an activation, uint8 [B, H, W, C]."""
    seeds = tf.constant([[ascent.seed, n] for n in range(count)], tf.int64)
    if ascent.by == "spectrum":
        spectral = Spectral(steps=ascent.steps or Spectral().steps)
        made = _in_graph(
            lambda own: spectral_images(activation, own, seen.prepare, spectral), seeds
        )
    else:
        pixelwise = Pixelwise(steps=ascent.steps or Pixelwise().steps)
        made = _in_graph(lambda own: pixel_images(activation, own, seen.prepare, pixelwise), seeds)
    return _to_bytes(made[0])


def _of_layer(
    kind: str, file: Path, layer: keras.layers.Layer, images: tf.Tensor, values: dict[str, Any]
) -> Picture:
    about = {"image": str(file), "layer": layer.name, **values}
    return Picture(f"{kind}-{file.stem}-{layer.name}", _to_bytes(images)[0], about)


def _in_graph(make: Any, seeds: tf.Tensor) -> Any:
    return tf.function(make, autograph=False)(seeds)


def _read(file: Path, channels: int, longest: int | None = None) -> tf.Tensor:
    """Return an image, float32 [1, H, W, C] in 0…1."""
    image = decode_file(file, channels)
    size: Sequence[int] = image.shape[:2]
    scale = 1.0 if longest is None else min(1.0, longest / max(size))
    resized = tf.image.resize(image, [round(n * scale) for n in size], antialias=True)
    return resized[tf.newaxis] / 255


def _to_bytes(images: tf.Tensor) -> np.ndarray:
    return np.round(255 * np.clip(images.numpy(), 0, 1)).astype(np.uint8)
