"""A page that shows what a run's network learned: filters, activations, patches, neighbors and maps
of a split's images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from cvpipe.atomic_write import atomic_write
from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import restore_pixels
from cvpipe.data.samples import read_examples
from cvpipe.data.sources import Source
from cvpipe.documents import Block, Heading, Picture, Text, pictures_of, to_html
from cvpipe.errors import DataError
from cvpipe.explain.embedding import LEAST, Projection, neighbors, project
from cvpipe.explain.patches import Top, Watched
from cvpipe.explain.projector import write_projector, write_tensorboard
from cvpipe.explain.receptive import receptive_fields
from cvpipe.explain.score import feature_layer
from cvpipe.pictures.drawing.grids import image_grid, image_table
from cvpipe.pictures.drawing.render import to_png
from cvpipe.pictures.inside import activation_images, filter_images, scatter
from cvpipe.tasks.task import Task

PAGE = "inspection.html"
CHANNELS, PATCHES, QUERIES, NEIGHBORS, FILTERS = 6, 8, 6, 8, 64
THUMBNAIL, PATCH = 32, 64
"""Sides in pixels."""
UNLABELED = "(no class)"
"""Shown for images without a class, such as those without an object."""
TEXTS = {
    "filters": "Filters of the first convolution; gray is a weight of 0.",
    "activations": "Channels that vary most on the first image, from the first layers to the last.",
    "patches": "Patches that activate a channel most, a row for each channel. A patch has the size"
    " of the channel's receptive field.",
    "neighbors": "The images whose features are nearest to those of the first column.",
    "pca": "Images by the first two principal components of their features.",
    "tsne": "Images placed by t-SNE, which keeps neighbors near.",
    "umap": "Images placed by UMAP, which keeps neighbors near.",
}


class InspectedImages(NamedTuple):
    """N images of a split, and their features."""

    features: np.ndarray
    """float32 [N, F]."""
    positions: np.ndarray
    """int64 [N]: positions in the split."""
    thumbnails: np.ndarray
    """uint8 [N, THUMBNAIL, THUMBNAIL, C]."""
    labels: list[str]
    """Class of each image; empty without classes."""
    tops: dict[str, Top]
    """Strongest activations by layer."""


class Subject(NamedTuple):
    """A run's network, and the split with which it is inspected."""

    network: keras.Model
    task: Task
    config: Config
    facts: Facts
    source: Source


def look(
    subject: Subject, batches: Iterable[Mapping[str, Any]], layers: Sequence[keras.layers.Layer]
) -> InspectedImages:
    """Run the network once on all images.

    Raises:
        DataError: there are fewer images than a projection needs.
    """
    task, prepare = subject.task, subject.config.prepare
    watched = Watched(subject.network, layers, feature_layer(subject.network), PATCHES)
    thumbnails, labels = list[np.ndarray](), list[str]()
    for batch in batches:
        real = np.asarray(batch["weight"]) > 0
        images = np.asarray(batch["image"])[real]
        if not len(images):
            continue
        watched.add(images, np.asarray(batch["index"])[real])
        small = tf.image.resize(
            restore_pixels(tf.constant(images), prepare), [THUMBNAIL, THUMBNAIL], antialias=True
        )
        thumbnails.append(np.clip(np.round(small), 0, 255).astype(np.uint8))
        if task.class_labels is not None:
            classes = np.asarray(task.class_labels(batch["targets"]))[real]
            labels += [
                subject.facts.class_names[label] if label >= 0 else UNLABELED for label in classes
            ]
    if sum(map(len, thumbnails)) < LEAST:
        raise DataError(f"at least {LEAST} readable images are needed to compare their features")
    features, index = watched.features
    return InspectedImages(features, index, np.concatenate(thumbnails), labels, watched.tops)


def draw(
    subject: Subject,
    inspected: InspectedImages,
    layers: Sequence[keras.layers.Layer],
    projections: Sequence[Projection],
) -> dict[str, Figure]:
    """Return the figures of the page by name; the patches of a layer are "patches/LAYER"."""
    figures = {}
    first = next((layer for layer in subject.network.layers if _is_convolution(layer)), None)
    if first is not None:
        filters = filter_images(first.get_weights()[0])[:FILTERS]
        figures["filters"] = image_grid(filters, [str(n) for n in range(len(filters))], columns=8)
    figures["activations"] = _activations(subject, inspected, layers)
    for layer in layers:
        if layer.name in inspected.tops:
            figures[f"patches/{layer.name}"] = _patches(subject, layer, inspected.tops[layer.name])
    figures["neighbors"] = _neighbors(inspected)
    for method in projections:
        figures[method] = scatter(
            project(inspected.features, method), inspected.thumbnails, inspected.labels
        )
    return figures


def write(
    subject: Subject, inspected: InspectedImages, figures: Mapping[str, Figure], folder: Path
) -> None:
    """Write the page, and the same for TensorBoard, into an existing folder."""
    title = f"Inside {subject.config.name}"
    blocks: list[Block] = [Heading(1, title)]
    for name, figure in figures.items():
        kind, _, layer = name.partition("/")
        heading = f"{kind.capitalize()} of {layer}" if layer else kind.capitalize()
        picture = Picture(heading, f"{name.replace('/', '-')}.png", to_png(figure))
        blocks += [Heading(2, heading), Text(TEXTS[kind]), picture]
    write_tensorboard(folder, figures)
    names = [subject.source.name(int(n)) for n in inspected.positions]
    layer = feature_layer(subject.network).name
    write_projector(
        folder, layer, inspected.features, inspected.thumbnails, names, inspected.labels
    )
    for name, content in pictures_of(blocks).items():
        (folder / name).write_bytes(content)
    with atomic_write(folder / PAGE) as stream:
        stream.write(to_html(title, blocks).encode("utf-8", "backslashreplace"))


def _activations(
    subject: Subject, inspected: InspectedImages, layers: Sequence[keras.layers.Layer]
) -> Figure:
    model = keras.Model(subject.network.inputs, {layer.name: layer.output for layer in layers})
    batch = tf.constant(_read(subject, inspected.positions[:1]))
    image = np.asarray(restore_pixels(batch, subject.config.prepare))[0]
    maps = model([batch], training=False)
    rows, most = [], min([CHANNELS, *(values.shape[-1] for values in maps.values())])
    for layer in layers:
        channels, _ = activation_images(np.asarray(maps[layer.name][0], np.float32), most)
        sized = np.uint8(tf.image.resize(channels, image.shape[:2], "nearest"))
        first = np.broadcast_to(image, (*image.shape[:2], 3))[np.newaxis]
        rows.append(np.concatenate([first, np.broadcast_to(sized, (most, *image.shape[:2], 3))]))
    titles = [str(n + 1) for n in range(most)]
    return image_table(rows, [layer.name for layer in layers], ["image", *titles])


def _patches(subject: Subject, layer: keras.layers.Layer, top: Top) -> Figure:
    field = receptive_fields(subject.network)[layer.name]
    channels = np.argsort(-top.values[:, 0], kind="stable")[:CHANNELS]
    chosen = np.unique(top.images[channels])
    images = _read(subject, chosen)
    pixels = np.asarray(restore_pixels(tf.constant(images), subject.config.prepare))
    by_index = dict(zip(chosen.tolist(), pixels, strict=True))
    rows = []
    for channel in channels:
        row = []
        for index, place in zip(top.images[channel], top.places[channel], strict=True):
            image = by_index[int(index)]
            box = (0, 0, *image.shape[:2]) if field is None else field.box(place, image.shape[:2])
            patch = image[box[0] : box[2], box[1] : box[3]]
            row.append(np.uint8(tf.image.resize(patch, [PATCH, PATCH], "nearest")))
        rows.append(np.stack(row))
    return image_table(rows, [str(n) for n in channels], [str(n + 1) for n in range(len(rows[0]))])


def _neighbors(inspected: InspectedImages) -> Figure:
    count = len(inspected.positions)
    queries = np.unique(np.linspace(0, count - 1, QUERIES).round().astype(int))
    near = neighbors(inspected.features, queries, min(NEIGHBORS, count - 1))
    rows = [
        inspected.thumbnails[[query, *found]] for query, found in zip(queries, near, strict=True)
    ]
    names = [inspected.labels[query] if inspected.labels else "" for query in queries]
    return image_table(rows, names, ["image", *(str(n + 1) for n in range(near.shape[1]))])


def _read(subject: Subject, index: np.ndarray) -> np.ndarray:
    """Return prepared images of the split, float32 [n, H, W, C]."""
    task = subject.task
    batch = read_examples(
        subject.source, index, subject.config, task.true_targets, fields=task.targets
    )
    return np.asarray(batch["image"])


def _is_convolution(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.Conv2D) and bool(layer.weights)
