"""Several sources as one: classes and splits of the same name are joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import tensorflow as tf

from cvpipe.data.annotations.annotation import Annotation
from cvpipe.data.example import Example, Reader
from cvpipe.data.graph import choose
from cvpipe.data.sources.source import ReadColumn, Source
from cvpipe.errors import DataError

T = TypeVar("T")


def merge(children: Sequence[dict[str, Source]]) -> dict[str, Source]:
    """Return the union of the children's splits; classes are in the order of their first
    appearance.

    Raises:
        DataError: the annotations of the children can't be joined.
    """
    every = [split for splits in children for split in splits.values()]
    for kind in _kinds(every):
        if fault := kind.merge_fault([split.facts for split in every]):
            raise DataError(f"data.source: {fault}")
    class_names = tuple(dict.fromkeys(name for split in every for name in split.classes))
    names = dict.fromkeys(name for splits in children for name in splits)
    return {
        name: _joined([splits[name].relabel(class_names) for splits in children if name in splits])
        for name in names
    }


def _kinds(sources: Sequence[Source]) -> list[type[Annotation]]:
    """Return the kinds of annotation of the sources, which are the same for all."""
    kinds, *others = [list(map(type, source.annotations)) for source in sources]
    assert all(other == kinds for other in others), "merged sources have the same kinds"
    return kinds


def _joined(parts: Sequence[Source]) -> Source:
    """Concatenate the records of all parts."""
    sizes = [int(part.records.max(initial=-1)) + 1 for part in parts]
    starts = np.cumsum([0, *sizes[:-1]])
    readers = _alike([part.read_record for part in parts])

    def read_record(record: tf.Tensor) -> Example:
        part = tf.searchsorted(starts, record[tf.newaxis], side="right")[0] - 1
        branches = zip(readers, starts, strict=True)
        return choose(part, [partial(read, record - start) for read, start in branches])

    def in_part(call: Callable[[Source, int], T]) -> Callable[[int], T]:
        def answer(record: int) -> T:
            part = int(np.searchsorted(starts, record, side="right")) - 1
            return call(parts[part], record - int(starts[part]))

        return answer

    of_each_kind = zip(*(part.annotations for part in parts), strict=True)
    return Source(
        parts[0].facts,
        tuple(type(several[0]).join(several, sizes) for several in of_each_kind),
        read_record,
        in_part(lambda part, record: part.name_record(record)),
        in_part(lambda part, record: part.locate_record(record)),
        np.concatenate([part.records + start for part, start in zip(parts, starts, strict=True)]),
        read_column=_column_reader(parts, sizes),
    )


def _column_reader(parts: Sequence[Source], sizes: Sequence[int]) -> ReadColumn | None:
    """Return a reader of columns of the first `sizes` records of each part; None if a part has no
    columns.
    """
    readers = [part.read_column for part in parts if part.read_column]
    if len(readers) < len(parts):
        return None
    return lambda name, key: [
        value for read, size in zip(readers, sizes, strict=True) for value in read(name, key)[:size]
    ]


def _alike(readers: list[Reader]) -> list[Reader]:
    """Return readers whose examples can be batched together: all pixels if the readers have pixels
    of the same number of channels, else all encoded bytes.
    """
    kinds = {_channels(read) for read in readers}
    return readers if len(kinds) == 1 else [_encoded(read) for read in readers]


def _channels(read: Reader) -> int | None:
    """Return the number of channels of a reader's pixels; None if it returns encoded bytes."""
    spec = tf.data.Dataset.range(1).map(tf.autograph.experimental.do_not_convert(read)).element_spec
    return spec["image"].shape[-1] if "image" in spec else None


def _encoded(read: Reader) -> Reader:
    """Encode the images of a reader as PNG, which is lossless."""

    def encoded(record: tf.Tensor) -> Example:
        example = read(record)
        if "bytes" in example:
            return example
        return {"bytes": tf.io.encode_png(example.pop("image")), **example}

    return encoded
