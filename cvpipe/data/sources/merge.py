"""Several sources as one: classes joined by name, splits by what they are for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import tensorflow as tf

from cvpipe.data.sources.objects import joined
from cvpipe.data.sources.source import Example, Reader, Source
from cvpipe.errors import DataError

T = TypeVar("T")


def merge(children: Sequence[dict[str, Source]]) -> dict[str, Source]:
    """The union of the children's splits; classes stand in the order in which they first appear.

    Raises:
        DataError: masks are of different classes: what one source calls background may be a class
            of another.
    """
    _refuse_other_classes(
        [split for splits in children for split in splits.values() if split.masks]
    )
    classes = tuple(
        dict.fromkeys(
            name for splits in children for split in splits.values() for name in split.classes
        )
    )
    names = dict.fromkeys(name for splits in children for name in splits)
    return {
        name: _joined([splits[name].relabel(classes) for splits in children if name in splits])
        for name in names
    }


def _joined(parts: Sequence[Source]) -> Source:
    """Records are numbered through, one part after the other."""
    sizes = [int(part.records.max(initial=-1)) + 1 for part in parts]
    starts = np.cumsum([0, *sizes[:-1]])
    objects = [
        part.objects.first(size)
        for part, size in zip(parts, sizes, strict=True)
        if part.objects is not None
    ]
    readers = _alike([part.read_record for part in parts])

    def read_record(record: tf.Tensor) -> Example:
        part = tf.searchsorted(starts, record[tf.newaxis], side="right")[0] - 1
        return tf.switch_case(
            part,
            [
                lambda read=read, start=start: read(record - start)
                for read, start in zip(readers, starts, strict=True)
            ],
        )

    def in_part(ask: Callable[[Source, int], T]) -> Callable[[int], T]:
        def answer(record: int) -> T:
            part = int(np.searchsorted(starts, record, side="right")) - 1
            return ask(parts[part], record - int(starts[part]))

        return answer

    return Source(
        parts[0].classes,
        np.concatenate([part.labels for part in parts]),
        read_record,
        in_part(lambda part, record: part.name_record(record)),
        in_part(lambda part, record: part.locate_record(record)),
        np.concatenate([part.records + start for part, start in zip(parts, starts, strict=True)]),
        joined(objects) if objects else None,
        parts[0].masks,
    )


def _refuse_other_classes(sources: Sequence[Source]) -> None:
    for one, other in itertools.pairwise(sources):
        if odd := sorted(set(one.classes) ^ set(other.classes)):
            raise DataError(
                f"data.source: the class '{odd[0]}' is in some of the merged sources' masks and not"
                " in others, which may show it under another name; give all sources the same"
                " classes"
            )


def _alike(readers: list[Reader]) -> list[Reader]:
    """Readers whose examples can be batched together: pixels where all have pixels of as many
    channels, else encoded bytes.
    """
    kinds = {_channels(read) for read in readers}
    return readers if len(kinds) == 1 else [_encoded(read) for read in readers]


def _channels(read: Reader) -> int | None:
    """How many channels the pixels have that a reader gives; None where it gives bytes."""
    spec = tf.data.Dataset.range(1).map(tf.autograph.experimental.do_not_convert(read)).element_spec
    return spec["image"].shape[-1] if "image" in spec else None


def _encoded(read: Reader) -> Reader:
    """The same images as bytes; PNG loses nothing."""

    def encoded(record: tf.Tensor) -> Example:
        example = read(record)
        if "bytes" in example:
            return example
        return {"bytes": tf.io.encode_png(example.pop("image")), **example}

    return encoded
