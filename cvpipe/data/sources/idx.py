"""The IDX format of MNIST and similar data sets (http://yann.lecun.com/exdb/mnist), in a folder or
a zip archive. Files are gzip'd or plain.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import PurePosixPath

import numpy as np
import tensorflow as tf

from cvpipe.config.label_sources import Idx
from cvpipe.data.graph import in_memory
from cvpipe.data.sources.constructors import classification_source
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.source import Source
from cvpipe.errors import DataError

# Split → prefix of file names.
SPLITS = {"train": "train", "test": "t10k"}


def idx(config: Idx) -> dict[str, Source]:
    """Return the splits "train" and "test"; images are uint8 [H, W, 1].

    Raises:
        DataError: a file is missing, damaged or of another type, or images and labels don't match.
    """
    files = open_files(config.path)
    splits = {split: _split(files, prefix, config) for split, prefix in SPLITS.items()}
    # The training split defines the classes if the pipeline doesn't.
    classes = config.classes or tuple(
        str(label) for label in range(int(splits["train"][1].max(initial=0)) + 1)
    )
    return {
        split: _source(images, labels, classes, SPLITS[split], config)
        for split, (images, labels) in splits.items()
    }


def _split(files: Files, prefix: str, config: Idx) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 [N, H, W, 1] and labels uint8 [N]."""
    images = _array(files, f"{prefix}-images", rank=3, config=config)[..., np.newaxis]
    labels = _array(files, f"{prefix}-labels", rank=1, config=config)
    if len(images) != len(labels):
        raise DataError(
            f"{config.path}: {len(images)} {prefix} images but {len(labels)} labels; the files"
            " don't belong together"
        )
    return images, labels


def _source(
    images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], prefix: str, config: Idx
) -> Source:
    if labels.max(initial=0) >= len(classes):
        known = (
            f"data.source.classes names {len(classes)}"
            if config.classes
            else f"the training labels end at {len(classes) - 1}"
        )
        raise DataError(
            f"{config.path}: label {labels.max()} in {prefix}-labels, counted from 0, but {known};"
            " correct one of the two"
        )

    pixels = in_memory(images)

    def read_record(record: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"image": tf.ensure_shape(tf.gather(pixels, record), images.shape[1:])}

    return classification_source(
        classes,
        labels,
        read_record,
        lambda record: f"{prefix}[{record}]",
        lambda name: f"{config.path}:{name}",
    )


def _array(files: Files, prefix: str, rank: int, config: Idx) -> np.ndarray:
    file = next((name for name in files.names() if _holds(name, prefix)), None)
    if file is None:
        raise DataError(
            f"{config.path}: no file named {prefix}-idx{rank}-ubyte or {prefix}-idx{rank}-ubyte.gz"
        )
    place, data = files.locate(file), files.read(file)
    try:
        data = gzip.decompress(data) if file.endswith(".gz") else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{place}: can't be unpacked ({error}); fetch it again") from None
    # Magic number: two zero bytes, 8 for unsigned bytes, the rank; then the dimensions, big-endian.
    if data[:4] != bytes([0, 0, 8, rank]) or len(data) < 4 + 4 * rank:
        raise DataError(
            f"{place}: not an IDX file of unsigned bytes with {rank} dimensions; fetch it again"
        )
    shape = tuple(np.frombuffer(data, ">u4", rank, offset=4).tolist())
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * rank)
    if values.size != math.prod(shape):
        raise DataError(
            f"{place}: the header states {shape}, {math.prod(shape)} bytes, but the file has"
            f" {values.size}; fetch it again"
        )
    return values.reshape(shape)


def _holds(name: str, prefix: str) -> bool:
    file = PurePosixPath(name).name
    return file.startswith(prefix) and "-ubyte" in file
