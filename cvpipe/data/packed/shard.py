"""Writing of one shard: a pure function of a source, a range of its order, and a reduction.

Dimensions: R records of the shard.
"""

from __future__ import annotations

import functools
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.data.annotations import KINDS
from cvpipe.data.annotations.columns import stack_columns
from cvpipe.data.example import Example
from cvpipe.data.guard import readable_or_zeros
from cvpipe.data.packed.columns_file import Beside, make_names
from cvpipe.data.packed.manifest import Spec
from cvpipe.data.packed.record import spec_of, to_record
from cvpipe.data.packed.reduce import Reduction, reduced
from cvpipe.data.quarantine import why_unreadable
from cvpipe.data.sources.source import Source
from cvpipe.errors import DataError

# One record a group, so that any is read alone; compressed they are already.
WRITER_OPTIONS = "group_size:1,uncompressed"
# Examples of a shard that are loaded at once.
PARALLEL = 4


class Layout(NamedTuple):
    """Tensors of the examples of a split, by where they go."""

    beside: dict[str, tf.TensorSpec]
    """Those of a record."""
    held: dict[str, tf.TensorSpec]
    """Those of the columns."""

    @property
    def specs(self) -> dict[str, Spec]:
        """Tensors of a record, for the manifest."""
        return {name: spec_of(spec) for name, spec in self.beside.items()}


def layout_of(source: Source, reduction: Reduction) -> Layout:
    """Return where the tensors of a source's examples go."""
    beside = _mapped(source.read_beside).element_spec
    every = _mapped(functools.partial(_load, source, reduction)).element_spec
    return Layout(
        {name: every[name] for name in beside},
        {name: spec for name, spec in every.items() if name not in beside},
    )


def write_shard(source: Source, index: np.ndarray, reduction: Reduction, file: Path) -> Beside:
    """Write the records of some examples, in order, to an ArrayRecord file.

    An example that can't be read becomes an empty record, with the reason beside it; one whose
    image can't be reduced is kept as it is.

    Args:
        source: the split.
        index: int64 [R], positions in the split, at least one.
        file: is replaced.

    Returns:
        Everything that the file of columns holds.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    layout = layout_of(source, reduction)
    columns, checksums, faults = [], [], {}
    writer = ArrayRecordWriter(str(file), WRITER_OPTIONS)
    try:
        for number, (example, fault) in enumerate(_examples(source, index, reduction)):
            if fault is None:
                record = to_record({name: example[name] for name in layout.beside})
            else:
                record, faults[number] = b"", fault
            writer.write(record)
            checksums.append(zlib.crc32(record))
            columns.append(
                {name: _held(example, name, spec) for name, spec in layout.held.items()}
            )
    finally:
        writer.close()
    content = file.read_bytes()
    return Beside(
        stack_columns(columns, {key for kind in KINDS for key in kind.per_object}),
        np.asarray(index, np.int64),
        np.array(checksums, np.uint32),
        make_names([source.name_record(record) for record in source.records[index].tolist()]),
        faults,
        hashlib.sha256(content).hexdigest(),
        len(content),
    )


def record_sizes(source: Source, index: np.ndarray, reduction: Reduction) -> list[int]:
    """Return the sizes of the records of those examples that can be read."""
    names = layout_of(source, reduction).beside
    return [
        len(to_record({name: example[name] for name in names}))
        for example, fault in _examples(source, index, reduction)
        if fault is None
    ]


def _load(source: Source, reduction: Reduction, number: tf.Tensor) -> Example:
    return reduced({**source.read_beside(number), **source.read_held(number)}, reduction)


def _mapped(load: Any) -> tf.data.Dataset:
    return tf.data.Dataset.range(1).map(tf.autograph.experimental.do_not_convert(load))


def _examples(
    source: Source, index: np.ndarray, reduction: Reduction
) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Yield examples as arrays, and None; or what is known of one, and why it can't be read."""
    indices = tf.data.Dataset.from_tensor_slices(np.asarray(index, np.int64))
    load = functools.partial(_load, source, reduction)
    # Without autotuning, which may take long to be told to end; see `stream.prefetch`.
    options = tf.data.Options()
    options.autotune.enabled = False
    loaded = readable_or_zeros(indices, load, PARALLEL).with_options(options)
    for number, example, is_loaded in loaded.as_numpy_iterator():
        yield (example, None) if is_loaded else _unreduced(source, number)


def _unreduced(source: Source, number: np.int64) -> tuple[dict[str, Any], str | None]:
    """Return an example as its source reads it, or what is held of it, and why there is no more."""
    position = tf.constant(number, tf.int64)
    held = {name: tensor.numpy() for name, tensor in source.read_held(position).items()}
    try:
        beside = {name: tensor.numpy() for name, tensor in source.read_beside(position).items()}
    except (DataError, tf.errors.OpError):
        return held, why_unreadable(source, int(number))
    return {**beside, **held}, None


def _held(example: dict[str, Any], name: str, spec: tf.TensorSpec) -> np.ndarray:
    """Return a tensor of the columns: as it is, or zeros where an example has no frame."""
    if name in example:
        return np.asarray(example[name])
    return np.zeros(spec.shape, spec.dtype.as_numpy_dtype)
