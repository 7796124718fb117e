"""Reading of all readable examples of a data set as annotated images, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.data.annotated import Annotated, Annotations, Objects
from cvpipe.data.annotations import image_checks, upright
from cvpipe.data.batching import PARALLEL
from cvpipe.data.decode import decode_image, upright_extent
from cvpipe.data.example import Example
from cvpipe.data.exif import stored_orientation
from cvpipe.data.guard import readable_or_zeros
from cvpipe.data.quarantine import why_unreadable
from cvpipe.data.sources.source import Source


class Unreadable(NamedTuple):
    """An example that can't be read, or whose annotations don't match its image."""

    split: str
    name: str
    reason: str


def annotated_images(
    splits: Mapping[str, Source],
    unreadable: list[Unreadable],
    watch: Callable[[int, int], None] = lambda done, examples: None,
) -> Iterator[Annotated]:
    """Yield the images of all splits, encoded as in their files; images from arrays are encoded as
    PNG.

    Args:
        splits: sources by split; "all" counts as "train".
        unreadable: list to which the examples that are left out are appended.
        watch: called with the number of examples read and the number of all examples.
    """
    examples, done = sum(map(len, splits.values())), 0
    for split, source in splits.items():
        name = "train" if split == "all" else split
        for index, (example, readable) in enumerate(_examples(source)):
            done += 1
            watch(done, examples)
            located = source.name(index)
            if readable:
                yield _annotated(name, located, example)
            else:
                unreadable.append(Unreadable(name, located, why_unreadable(source, index)))


def _examples(source: Source) -> Iterator[tuple[dict[str, np.ndarray], bool]]:
    """Yield the result of `_load` for each example, and True; or zeros and False if it fails."""
    # Without autotuning, which may take long to stop (`batching.prefetch`).
    options = tf.data.Options()
    options.autotune.enabled = False
    loaded = readable_or_zeros(
        tf.data.Dataset.range(len(source)), lambda index: _load(source.read(index)), PARALLEL
    )
    for _, example, readable in loaded.with_options(options).as_numpy_iterator():
        yield example, bool(readable)


def _load(example: Example) -> Example:
    """Return an example's file with its annotations on the upright image, "size" int32 [2] and
    "orientation". Graph code; fails if an annotation doesn't match the image.
    """
    if "bytes" in example:
        encoded = example["bytes"]
        extent, orientation = upright_extent(encoded), stored_orientation(encoded)
    else:
        encoded = tf.io.encode_png(example["image"])
        extent, orientation = tf.shape(example["image"])[:2], tf.constant(1)
    checks = image_checks(
        example,
        lambda: decode_image(encoded, 3) if "bytes" in example else example["image"],
        lambda: extent,
    )
    with tf.control_dependencies(checks):
        encoded = tf.identity(encoded)
    placed = upright(example, lambda: extent)
    placed.pop("image", None)
    return {**placed, "bytes": encoded, "size": extent, "orientation": orientation}


def _annotated(split: str, name: str, example: Mapping[str, np.ndarray]) -> Annotated:
    objects = None
    if "boxes" in example:
        objects = Objects(
            example["boxes"],
            example["labels"],
            example["crowd"],
            example["area"],
            example.get("keypoints"),
            example.get("visibility"),
        )
    height, width = example["size"].tolist()
    file = Path(name)
    return Annotated(
        split,
        name,
        bytes(example["bytes"]),
        (height, width),
        int(example["orientation"]),
        Annotations(
            label=int(example["label"]) if "label" in example else None,
            objects=objects,
            mask=example["mask"][..., 0] if "mask" in example else None,
        ),
        file if file.is_file() else None,
    )
