"""TFRecord files of tf.train.Example, with the keys of TensorFlow Datasets, of Model Garden and of
the Object Detection API (github.com/tensorflow/models, official/vision/dataloaders and
research/object_detection/dataset_tools).

Dimensions: R records of a split, n objects of a record.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from cvpipe.config.record_files import TfRecord, TfRecordBoxes, TfRecordFiles, TfRecordMasks
from cvpipe.data.annotations.mask import mask_in_python
from cvpipe.data.example import Example, Reader
from cvpipe.data.exif import stored_orientation
from cvpipe.data.orientation import upright
from cvpipe.data.sources.constructors import (
    classification_source,
    detection_source,
    segmentation_source,
)
from cvpipe.data.sources.example_classes import (
    ExampleClass,
    classes_of_example,
    find_classes,
    known_classes,
)
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.mask_inspection import refuse_unknown_values
from cvpipe.data.sources.mask_values import MaskValues, labels_of, values_of_numbers
from cvpipe.data.sources.record_files import open_shards
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.tf_examples import FILENAMES, Examples, Features, image_reader, is_tfrecord
from cvpipe.data.sources.tfrecord_objects import Objects, collect_objects, objects_of
from cvpipe.errors import counted

log = logging.getLogger(__name__)

T = TypeVar("T")
_UNLABELED = -1


Look = Callable[[int, Features, Callable[[int], str]], T]
"""Maps a record's number, its features, and a function that names the record in errors, to the
annotation that was found.
"""


class _Split(NamedTuple, Generic[T]):
    """A split's examples, and the annotation that was found in each."""

    examples: Examples
    names: list[str]
    """[R]"""
    found: list[T | None]
    """[R], None for damaged records."""


def tfrecord(config: TfRecordFiles) -> dict[str, Source]:
    """Return the splits given by patterns or by words in the files' paths, or one split named
    "all". Reads all records once.

    Damaged records, and examples without an image, are bad records without objects. In
    classification, however, damaged records and examples without a class are left out and counted.

    Raises:
        DataError: there are no such files, a file is cut off or compressed, most records are
            damaged, a feature is missing, a class is unknown, or masks have values that no class
            has.
    """
    inside = [*config.patterns.values(), *([config.names] if config.names is not None else [])]
    files = open_files(config.path, inside)
    shards = open_shards(files, config, filter(is_tfrecord, files.names()), "TFRecord file")
    splits = {split: Examples(part) for split, part in shards.items()}
    match config:
        case TfRecordMasks():
            return _masks(files, config, splits)
        case TfRecordBoxes():
            return _boxes(files, config, splits)
        case TfRecord():
            return _labels(files, config, splits)
    raise TypeError(config)


def _scan(files: Files, config: TfRecordFiles, examples: Examples, look: Look[T]) -> _Split[T]:
    """Call `look` for each sound record of a split.

    Raises:
        DataError: most records are damaged, or no example has an image.
    """
    filenames: dict[int, str] = {}

    def place(record: int) -> str:
        return files.locate(examples.name(record))

    def seen(record: int, features: Features) -> T:
        if not any(isinstance(part, bytes) and part for part in features.values(config.image)):
            examples.faults[record] = f"the example has no '{config.image}'"
        if name := next(filter(None, map(features.text, FILENAMES)), ""):
            filenames[record] = f"/{name.lstrip('/')}"
        return look(record, features, place)

    found = examples.scan(seen)
    if len(examples.faults) == len(examples):
        raise examples.without(config.path, config.image, "data.source.image")
    names = [examples.name(n) + filenames.get(n, "") for n in range(len(examples))]
    return _Split(examples, names, found)


def _labels(files: Files, config: TfRecord, splits: Mapping[str, Examples]) -> dict[str, Source]:
    def look(record: int, features: Features, place: Callable[[int], str]) -> ExampleClass | None:
        found = classes_of_example(features, config.label, record, place)
        return found[0] if found and found[0].number != _UNLABELED else None

    scanned = {split: _scan(files, config, part, look) for split, part in splits.items()}
    found = {split: [each for each in part.found if each] for split, part in scanned.items()}
    if not any(found.get(split) for split in ("train", "all")):
        raise next(iter(splits.values())).without(config.path, config.label, "data.source.label")
    classes = find_classes(files, config, [each for part in found.values() for each in part])
    sources = {}
    for split, part in scanned.items():
        _warn_of_left_out(config.path, split, part, len(found[split]))
        if not found[split]:
            continue
        labels = np.zeros(len(part.names), np.int32)
        rows = np.array([each.record for each in found[split]])
        labels[rows] = [classes.position(each) for each in found[split]]
        source = classification_source(
            classes.names,
            labels,
            image_reader(part.examples, config.image),
            part.names.__getitem__,
            files.locate,
        )
        sources[split] = _with_columns(source, part.examples, config).subset(rows)
    return sources


def _warn_of_left_out(path: str, split: str, part: _Split[ExampleClass | None], kept: int) -> None:
    damaged = part.examples.damaged
    unlabeled = len(part.names) - kept - len(damaged)
    for count, why in ((len(damaged), "damaged"), (unlabeled, "without a class")):
        if count:
            such = f", such as {part.names[damaged[0]]}" if why == "damaged" else ""
            log.warning(
                "%s: left out %s of the %s split that %s %s%s",
                path,
                counted(count, "record"),
                split,
                "is" if count == 1 else "are",
                why,
                such,
            )


def _boxes(
    files: Files, config: TfRecordBoxes, splits: Mapping[str, Examples]
) -> dict[str, Source]:
    def look(record: int, features: Features, place: Callable[[int], str]) -> Objects:
        return objects_of(features, config, record, place)

    scanned = {split: _scan(files, config, part, look) for split, part in splits.items()}
    every = [objects for part in scanned.values() for objects in part.found if objects]
    found = [each for objects in every for each in objects.classes]
    if not found:
        raise next(iter(splits.values())).without(config.path, config.box, "data.source.box")
    classes = find_classes(files, config, found)
    sources = {}
    for split, part in scanned.items():
        source = detection_source(
            classes.names,
            collect_objects(part.names, part.found, classes, files.locate),
            image_reader(part.examples, config.image),
            part.names.__getitem__,
            files.locate,
        )
        sources[split] = _with_columns(source, part.examples, config)
    return sources


def _masks(
    files: Files, config: TfRecordMasks, splits: Mapping[str, Examples]
) -> dict[str, Source]:
    known = known_classes(files, config, config.first_value)
    assert known, "masks have classes or names"
    values = values_of_numbers(known.names, config.ignore_indices)
    classes = tuple(known.names.values())
    sources = {}

    def look(record: int, features: Features, place: Callable[[int], str]) -> bool:
        return any(features.values(config.mask))

    for split, examples in splits.items():
        part = _scan(files, config, examples, look)
        if not any(part.found):
            raise examples.without(config.path, config.mask, "data.source.mask")
        for record in (n for n, has_mask in enumerate(part.found) if has_mask is False):
            examples.faults.setdefault(record, f"the example has no '{config.mask}'")
        refuse_unknown_values(
            len(part.names),
            partial(_mask_of, examples, mask=config.mask),
            partial(_place, files, part.names),
            values,
        )
        source = segmentation_source(
            classes,
            len(part.names),
            _image_and_mask(examples, config, values),
            part.names.__getitem__,
            files.locate,
        )
        sources[split] = _with_columns(source, examples, config)
    return sources


def _place(files: Files, names: Sequence[str], record: int) -> str:
    return files.locate(names[record])


def _mask_of(examples: Examples, record: int, mask: str) -> bytes:
    content: bytes = Features(examples.read(record)).values(mask)[0]
    return content


def _image_and_mask(examples: Examples, config: TfRecordMasks, known: MaskValues) -> Reader:
    read_image = image_reader(examples, config.image)

    def read_record(record: tf.Tensor) -> Example:
        encoded = read_image(record)["bytes"]
        mask = mask_in_python(
            lambda number: labels_of(_mask_of(examples, number, config.mask), known), record
        )
        # TensorFlow rotates neither image nor mask, so a mask refers to the stored image.
        return {"bytes": encoded, "mask": upright(mask, stored_orientation(encoded))}

    return read_record


def _with_columns(source: Source, examples: Examples, config: TfRecordFiles) -> Source:
    """Return the source with the features of its examples as columns."""

    def read(name: str, key: str) -> Sequence[str]:
        values = examples.scan(lambda record, features: features.text(name))
        if not any(values):
            raise examples.without(config.path, name, key)
        return [value or "" for value in values]

    return dataclasses.replace(source, read_column=read)
