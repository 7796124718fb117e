"""Data sets of the library TensorFlow Datasets (tensorflow.org/datasets), whose files are read by
index. Images stay encoded.

Records of a split are numbered in the order of the split's expression.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.config.source import given_splits
from cvpipe.config.tfds import Tfds, TfdsLabels, TfdsMasks, TfdsObjects
from cvpipe.data.annotations.mask import mask_in_python
from cvpipe.data.example import Example, Reader
from cvpipe.data.exif import stored_orientation
from cvpipe.data.graph import read_in_python
from cvpipe.data.orientation import upright
from cvpipe.data.sources.constructors import (
    classification_source,
    detection_source,
    segmentation_source,
)
from cvpipe.data.sources.mask_inspection import refuse_unknown_values
from cvpipe.data.sources.mask_values import MaskValues, labels_of, values_of_indices
from cvpipe.data.sources.records import parsed_records, record_reader
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.tfds_objects import object_classes, read_objects
from cvpipe.errors import DataError, suggest
from cvpipe.geometry.masks import IGNORED
from cvpipe.user_paths import find_path

AnyTfds = TfdsLabels | TfdsObjects | TfdsMasks


def tfds(config: AnyTfds) -> dict[str, Source]:
    """Return the splits that the pipeline names.

    Reads the label or objects of every record, or the masks of some records.

    Raises:
        DataError: the data set, a split or a feature is missing, files are damaged, an example has
            no label, or masks have values that no class has.
    """
    info = _prepared(config).info
    classes = _classes(info, config)
    files = {
        split: _instructions(info, split, wanted) for split, wanted in given_splits(config).items()
    }
    places = {split: _positions(info, instructions) for split, instructions in files.items()}
    _refuse_overlaps(places, info.full_name)
    return {split: _source(info, files[split], places[split], classes, config) for split in files}


def _prepared(config: Tfds) -> Any:
    """Return the builder of a data set on disk."""
    import tensorflow_datasets

    try:
        builder = tensorflow_datasets.builder(config.name, data_dir=_data_dir(config))
    except tensorflow_datasets.core.DatasetNotFoundError:
        known = suggest(
            config.name, tensorflow_datasets.list_builders(with_community_datasets=False)
        )
        raise DataError(
            f"data.source.name: TensorFlow Datasets has no '{config.name}', nor is it in"
            f" {_folder(config)}; {known}"
        ) from None
    except (ValueError, AssertionError, ImportError) as error:
        raise DataError(
            f"data.source.name: TensorFlow Datasets can't open '{config.name}': {_beginning(error)}"
        ) from None
    if not builder.is_prepared() and not config.download:
        raise DataError(
            f"{builder.info.full_name} is not in {_folder(config)}; set data.source.download: true"
            " to fetch it, or data.source.data_dir to the folder that contains it"
        )
    if not builder.is_prepared():
        try:
            # TensorFlow Datasets prints its progress to stdout, which is reserved for results.
            with contextlib.redirect_stdout(sys.stderr):
                builder.download_and_prepare()
        # The code of a data set, or its download, may raise any exception.
        except Exception as error:
            raise DataError(
                f"{builder.info.full_name} can't be fetched: {_beginning(error)}"
            ) from error
    return builder


def _beginning(error: Exception) -> str:
    """Return an error's message on one line, shortened: some messages contain whole examples."""
    return textwrap.shorten(str(error), 300, placeholder=" …")


def _data_dir(config: Tfds) -> str | None:
    # Data sets may also be kept in a bucket.
    bucket = config.data_dir is None or "://" in config.data_dir
    return config.data_dir if bucket else str(find_path(config.data_dir or ""))


def _folder(config: Tfds) -> str:
    import tensorflow_datasets

    return _data_dir(config) or tensorflow_datasets.core.constants.DATA_DIR


def _classes(info: Any, config: AnyTfds) -> tuple[str, ...]:
    """Check the features, and return the class names."""
    from tensorflow_datasets import features as kinds

    features = dict(info.features) if isinstance(info.features, kinds.FeaturesDict) else {}
    known = ", ".join(
        f"{name} ({type(feature).__name__})" for name, feature in sorted(features.items())
    )
    match config:
        case TfdsObjects():
            annotation = ("objects", config.objects, kinds.Sequence)
        case TfdsMasks():
            annotation = ("mask", config.mask, kinds.Image)
        case TfdsLabels():
            annotation = ("label", config.label, kinds.ClassLabel)
    for key, name, kind in (("image", config.image, kinds.Image), annotation):
        if not isinstance(features.get(name), kind):
            raise DataError(
                f"data.source.{key}: {info.full_name} has no feature '{name}' of the type"
                f" {kind.__name__}; it has {known}"
            )
    if features[config.image].np_dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"data.source.image: {info.full_name} has images of"
            f" {np.dtype(features[config.image].np_dtype)}; only uint8 and uint16 are read"
        )
    match config:
        case TfdsObjects():
            return object_classes(
                features[config.objects], f"'{config.objects}' of {info.full_name}"
            )
        case TfdsMasks():
            return _mask_classes(info, features[config.mask], config)
        case TfdsLabels():
            return tuple(features[config.label].names)


def _mask_classes(info: Any, mask: Any, config: TfdsMasks) -> tuple[str, ...]:
    """Check that the feature is a mask, and return the class names."""
    if mask.shape[-1] != 1 or mask.np_dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"data.source.mask: {info.full_name} has '{config.mask}' as {np.dtype(mask.np_dtype)}"
            f" of {mask.shape[-1]} channels; a mask has one, of uint8 or uint16"
        )
    # Some mask features have names for their values.
    classes = config.classes or tuple(getattr(mask, "names", None) or ())
    if not 0 < len(classes) <= IGNORED:
        raise DataError(
            f"data.source.classes: {info.full_name} names {len(classes)} classes of"
            f" '{config.mask}', not 1 to {IGNORED}; name them in the order of their values"
        )
    return classes


def _instructions(info: Any, split: str, expression: str) -> list[Any]:
    """Return the file instructions of a split expression: the records to read from each file, in
    order.
    """
    try:
        instructions = list(info.splits[expression].file_instructions)
    except (ValueError, AssertionError, KeyError) as error:
        known = f"it has {', '.join(info.splits)}" + (
            "" if split == "train" else f"; data.source.{split}=null holds out images of train"
        )
        raise DataError(
            f"data.source.{split}: {info.full_name} has no split '{expression}'"
            f" ({_beginning(error)}); {known}"
        ) from None
    if not sum(instruction.take for instruction in instructions):
        raise DataError(f"data.source.{split}: '{expression}' of {info.full_name} is empty")
    return instructions


def _positions(info: Any, instructions: list[Any]) -> list[tuple[str, range]]:
    """Return, for each instruction, the data set's own split and the positions in it."""
    begins = {}
    for split in info.splits.values():
        lengths = split.shard_lengths
        for file, begin in zip(
            split.filepaths, np.cumsum([0, *lengths[:-1]]).tolist(), strict=False
        ):
            begins[os.fspath(file)] = split.name, begin
    found = []
    for instruction in instructions:
        split, begin = begins[os.fspath(instruction.filename)]
        found.append(
            (split, range(begin + instruction.skip, begin + instruction.skip + instruction.take))
        )
    return found


def _refuse_overlaps(places: dict[str, list[tuple[str, range]]], name: str) -> None:
    parts = [(key, split, positions) for key, found in places.items() for split, positions in found]
    for (key, split, positions), (other_key, other_split, others) in itertools.combinations(
        parts, 2
    ):
        both = range(max(positions.start, others.start), min(positions.stop, others.stop))
        if key != other_key and split == other_split and both:
            raise DataError(
                f"data.source.{key} and data.source.{other_key} of {name} have {len(both)} examples"
                f" in common, from {split}[{both[0]}] on; choose expressions that don't overlap"
            )


def _source(
    info: Any,
    instructions: list[Any],
    places: list[tuple[str, range]],
    classes: tuple[str, ...],
    config: AnyTfds,
) -> Source:
    read = record_reader(info.file_format.value, instructions, str(info.data_dir))
    ends = np.cumsum([len(positions) for _, positions in places])
    records = int(ends[-1])

    def name_record(record: int) -> str:
        part = int(np.searchsorted(ends, record, side="right"))
        split, positions = places[part]
        return f"{split}[{positions[record - int(ends[part])]}]"

    def locate(name: str) -> str:
        return f"{info.data_dir}:{name}"

    if isinstance(config, TfdsMasks):
        known = values_of_indices(classes, config.ignore_indices, config.first_value)
        refuse_unknown_values(
            records,
            _mask_reader(read, config.mask),
            lambda record: locate(name_record(record)),
            known,
        )
        return segmentation_source(
            classes, records, _image_and_mask(read, config, known), name_record, locate
        )
    if isinstance(config, TfdsObjects):
        names, feature = (
            [name_record(record) for record in range(records)],
            info.features[config.objects],
        )
        boxes = read_objects(read, names, config.objects, feature, str(info.data_dir), locate)
        return detection_source(classes, boxes, _image(read, config), name_record, locate)
    labels = _labels(read, records, config.label, str(info.data_dir))
    unlabeled = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(unlabeled):
        first, number = locate(name_record(int(unlabeled[0]))), labels[unlabeled[0]]
        raise DataError(
            f"{first}: no label ({number}), one of {len(unlabeled)} such examples; choose splits"
            " that are labeled"
        )
    return classification_source(classes, labels, _image(read, config), name_record, locate)


def _image(read: Callable[[int], bytes], config: Tfds) -> Reader:
    """Return a reader of records' images."""
    wanted = {config.image: tf.io.FixedLenFeature([], tf.string)}

    def read_record(record: tf.Tensor) -> Example:
        parsed = tf.io.parse_single_example(read_in_python(read, record), wanted)
        return {"bytes": parsed[config.image]}

    return read_record


def _image_and_mask(read: Callable[[int], bytes], config: TfdsMasks, known: MaskValues) -> Reader:
    """Return a reader of records' images and masks. `known` maps the values of masks to classes."""
    wanted = {name: tf.io.FixedLenFeature([], tf.string) for name in (config.image, config.mask)}

    def read_record(record: tf.Tensor) -> Example:
        parsed = tf.io.parse_single_example(read_in_python(read, record), wanted)
        encoded = parsed[config.image]
        mask = mask_in_python(lambda encoded: labels_of(encoded, known), parsed[config.mask])
        # TensorFlow Datasets rotates neither image nor mask, so a mask refers to the stored image.
        return {"bytes": encoded, "mask": upright(mask, stored_orientation(encoded))}

    return read_record


def _mask_reader(read: Callable[[int], bytes], feature: str) -> Callable[[int], bytes]:
    def read_mask(record: int) -> bytes:
        try:
            return tf.io.parse_single_example(
                read(record), {feature: tf.io.FixedLenFeature([], tf.string)}
            )[feature].numpy()
        except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
            raise DataError("the example is damaged") from None

    return read_mask


def _labels(read: Callable[[int], bytes], records: int, feature: str, place: str) -> np.ndarray:
    batches = parsed_records(
        read, records, {feature: tf.io.FixedLenFeature([], tf.int64)}, feature, place
    )
    return np.concatenate([batch[feature].numpy() for batch in batches])
