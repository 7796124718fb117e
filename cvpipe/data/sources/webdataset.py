"""Tar archives of WebDataset (github.com/webdataset/webdataset), read by position.

Dimensions: R samples of a split.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.config.record_files import WebDataset, WebDatasetBoxes, WebDatasetFiles, WebDatasetMasks
from cvpipe.data.annotations.mask import mask_in_python
from cvpipe.data.example import Example, Reader
from cvpipe.data.graph import read_in_python
from cvpipe.data.sources.constructors import (
    classification_source,
    detection_source,
    segmentation_source,
)
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.image_size import encoded_size
from cvpipe.data.sources.mask_inspection import refuse_unknown_values
from cvpipe.data.sources.mask_values import MaskValues, labels_of, values_of_indices
from cvpipe.data.sources.record_files import open_shards
from cvpipe.data.sources.row_objects import collect_items, find_classes, read_items, unknown_class
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.tar_samples import Samples
from cvpipe.errors import DataError, counted
from cvpipe.text_files import decode_text

log = logging.getLogger(__name__)

JSON = "json"
_UNLABELED = -1


def webdataset(config: WebDatasetFiles) -> dict[str, Source]:
    """Return the splits given by patterns or by words in the archives' paths, or one split named
    "all". Reads all classes and objects; images and masks are read when a record is read.

    A sample without an image is a bad record. Samples without annotations are left out and counted,
    and so are objects of images that can't be read.

    Raises:
        DataError: there are no archives, one is cut off, damaged or compressed, no sample is
            annotated, JSON is damaged, a class is unknown, boxes aren't four numbers, or masks have
            values that no class has.
    """
    files = open_files(config.path, list(config.patterns.values()))
    names = [name for name in files.names() if name.lower().endswith(".tar")]
    shards = open_shards(files, config, names, "tar archive")
    splits = {split: Samples(each) for split, each in shards.items()}
    match config:
        case WebDatasetMasks():
            return _masks(files, config, splits)
        case WebDatasetBoxes():
            return _boxes(files, config, splits)
        case WebDataset():
            return _labels(files, config, splits)
    raise TypeError(config)


def label_of(samples: Samples, record: int, config: WebDataset) -> Any:
    """Return the number or name of a sample's class; None if it has none.

    Raises:
        DataError: the file of the class is damaged.
    """
    extension = config.annotations
    if extension not in samples.samples[record].files:
        return None
    if extension.rpartition(".")[2] == JSON:
        content = samples.read_json(record, extension)
        value = content.get(config.label) if isinstance(content, dict) else content
    else:
        text = decode_text(samples.read(record, extension), samples.place(record, extension))
        value = text.strip() or None
    if isinstance(value, str) and value.removeprefix("-").isdecimal():
        value = int(value)
    return None if value in (_UNLABELED, "") else value


def _labels(files: Files, config: WebDataset, splits: Mapping[str, Samples]) -> dict[str, Source]:
    values = {
        split: [label_of(samples, record, config) for record in range(len(samples))]
        for split, samples in splits.items()
    }
    labeled = {
        split: [record for record, value in enumerate(each) if value is not None]
        for split, each in values.items()
    }
    if not any(labeled.get(split) for split in ("train", "all")):
        raise _nothing(config.path, splits, f"a class in .{config.annotations}", "annotations")
    found = [values[split][record] for split, records in labeled.items() for record in records]
    classes, position = find_classes(config, config.classes, found)
    sources = {}
    for split, records in labeled.items():
        samples = splits[split]
        _warn_of_left_out(config.path, split, len(samples) - len(records), "class")
        if not records:
            continue
        labels = np.zeros(len(samples), np.int32)
        for record in records:
            value = values[split][record]
            if value not in position:
                raise unknown_class(samples.place(record, config.annotations), value, classes)
            labels[record] = position[value]
        names, read = _names(samples, config), _reader(samples, config)
        source = classification_source(classes, labels, read, names.__getitem__, files.locate)
        source = _with_columns(source, samples, config.path, _json_of(config))
        sources[split] = source.subset(np.array(records))
    return sources


def _boxes(
    files: Files, config: WebDatasetBoxes, splits: Mapping[str, Samples]
) -> dict[str, Source]:
    annotated = {split: each.having(config.annotations) for split, each in splits.items()}
    names = {split: _names(samples, config) for split, samples in splits.items()}
    values = {
        split: [_objects_of(samples, record, config) for record in range(len(samples))]
        for split, samples in splits.items()
    }
    items = {split: read_items(each, names[split], config) for split, each in values.items()}
    found = [item.label for each in items.values() for item in each]
    classes, position = find_classes(config, config.classes, found)
    if not classes or not any(annotated.get(split) for split in ("train", "all")):
        raise _nothing(config.path, splits, f"an object in .{config.annotations}", "annotations")
    sources = {}
    for split, samples in splits.items():
        without = len(samples) - len(annotated[split])
        _warn_of_left_out(config.path, split, without, f".{config.annotations} file")
        if not annotated[split]:
            continue
        sizes = partial(_size_of, samples, config)
        boxes = collect_items(items[split], names[split], sizes, position, classes, config)
        source = detection_source(
            classes, boxes, _reader(samples, config), names[split].__getitem__, files.locate
        )
        source = _with_columns(source, samples, config.path, _json_of(config))
        sources[split] = source.subset(np.array(annotated[split]))
    return sources


def _masks(
    files: Files, config: WebDatasetMasks, splits: Mapping[str, Samples]
) -> dict[str, Source]:
    known = values_of_indices(config.classes, config.ignore_indices, config.first_value)
    masked = {split: samples.having(config.mask) for split, samples in splits.items()}
    if not any(masked.get(split) for split in ("train", "all")):
        raise _nothing(config.path, splits, f"a mask in .{config.mask}", "mask")
    drawn = [(splits[split], record) for split, records in masked.items() for record in records]
    refuse_unknown_values(
        len(drawn),
        lambda number: drawn[number][0].read(drawn[number][1], config.mask),
        lambda number: drawn[number][0].place(drawn[number][1], config.mask),
        known,
    )
    sources = {}
    for split, records in masked.items():
        samples = splits[split]
        _warn_of_left_out(config.path, split, len(samples) - len(records), f".{config.mask} file")
        if not records:
            continue
        names, read = _names(samples, config), _mask_reader(samples, config, known)
        source = segmentation_source(
            config.classes, len(samples), read, names.__getitem__, files.locate
        )
        source = _with_columns(source, samples, config.path, JSON)
        sources[split] = source.subset(np.array(records))
    return sources


def _objects_of(samples: Samples, record: int, config: WebDatasetBoxes) -> Any:
    """Return the objects of a sample; None if it has no JSON file."""
    if config.annotations not in samples.samples[record].files:
        return None
    content = samples.read_json(record, config.annotations)
    if not config.objects:
        return content
    if not isinstance(content, dict):
        raise DataError(
            f"{samples.place(record, config.annotations)}: holds no structure with the field"
            f" '{config.objects}'; correct or remove the sample, or set data.source.objects"
        )
    return content.get(config.objects)


def _size_of(samples: Samples, config: WebDatasetBoxes, record: int) -> tuple[int, int] | None:
    extension = samples.extension(record, config.images)
    return encoded_size(samples.read(record, extension), config.upright) if extension else None


def _names(samples: Samples, config: WebDatasetFiles) -> list[str]:
    """Return the path of each image, [R]; for samples without an image, their key."""
    return [
        samples.name(record, samples.extension(record, config.images))
        for record in range(len(samples))
    ]


def _reader(samples: Samples, config: WebDatasetFiles) -> Reader:
    def read(record: int) -> bytes:
        extension = samples.extension(record, config.images)
        if extension is None:
            has = ", ".join(f".{name}" for name in samples.samples[record].files)
            raise DataError(f"the sample has no image ({', '.join(config.images)}), but {has}")
        return samples.read(record, extension)

    def read_record(record: tf.Tensor) -> Example:
        return {"bytes": read_in_python(read, record)}

    return read_record


def _mask_reader(samples: Samples, config: WebDatasetMasks, known: MaskValues) -> Reader:
    read_image = _reader(samples, config)

    def read_record(record: tf.Tensor) -> Example:
        mask = mask_in_python(
            lambda number: labels_of(samples.read(number, config.mask), known), record
        )
        return {**read_image(record), "mask": mask}

    return read_record


def _json_of(config: WebDataset) -> str:
    """Return the extension of the JSON files whose fields are columns."""
    return config.annotations if config.annotations.rpartition(".")[2] == JSON else JSON


def _with_columns(source: Source, samples: Samples, path: str, extension: str) -> Source:
    """Return the source with the fields of its JSON files as columns."""

    def read(name: str, key: str) -> Sequence[str]:
        values = [
            samples.read_json(record, extension) if extension in sample.files else {}
            for record, sample in enumerate(samples.samples)
        ]
        found = [each.get(name) if isinstance(each, dict) else None for each in values]
        texts = ["" if value is None else str(value) for value in found]
        if not any(texts):
            raise DataError(f"{key}: no .{extension} file of {path} has the field '{name}'")
        return texts

    return dataclasses.replace(source, read_column=read)


def _warn_of_left_out(path: str, split: str, count: int, what: str) -> None:
    if count:
        log.warning(
            "%s: left out %s of the %s split that have no %s",
            path,
            counted(count, "sample"),
            split,
            what,
        )


def _nothing(path: str, splits: Mapping[str, Samples], what: str, key: str) -> DataError:
    """Return the error for archives without annotations; `key` names their extension."""
    found = {name for samples in splits.values() for each in samples.samples for name in each.files}
    seen = ", ".join(f".{name}" for name in sorted(found)) or "no file"
    return DataError(
        f"{path}: no training sample has {what}; samples have {seen}; set data.source.{key} to the"
        f" extension of the {'masks' if key == 'mask' else key}"
    )
