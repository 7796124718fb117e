"""Writing of shards: a pure function of a source, a selection of its examples, and a reduction.

Dimensions: R records of the shard.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.data.annotations import KINDS
from cvpipe.data.annotations.columns import stack_columns
from cvpipe.data.annotations.frame import KEYS
from cvpipe.data.example import Example
from cvpipe.data.guard import readable_or_zeros
from cvpipe.data.packed.columns_file import ColumnsFile, make_names
from cvpipe.data.packed.layout import find_records
from cvpipe.data.packed.manifest import Spec
from cvpipe.data.packed.record import spec_of, to_record
from cvpipe.data.packed.reduce import Reduction, reduced
from cvpipe.data.quarantine import why_unreadable
from cvpipe.data.sources.source import Source
from cvpipe.errors import DataError

# One record per group, for random access. The images are compressed already.
WRITER_OPTIONS = "group_size:1,uncompressed"
# Number of examples of a shard that are loaded in parallel.
PARALLEL = 4


class ShardWriter:
    """Writer of a split's shards. Loading is traced once, and many threads may use the writer."""

    def __init__(self, source: Source, reduction: Reduction):
        self._source, self._is_same = source, reduction.changes_nothing

        def load(number: tf.Tensor) -> Example:
            return reduced(source.read(number), reduction)

        signature = [tf.TensorSpec([], tf.int64)]
        self._load = tf.function(load, input_signature=signature, autograph=False)
        traced = self._load.get_concrete_function().structured_outputs
        held = {*source.read_held(tf.constant(0, tf.int64)), *KEYS}
        self._stored = [name for name in traced if name not in held]
        self._held = {name: spec for name, spec in traced.items() if name in held}
        self.specs: dict[str, Spec] = {name: spec_of(traced[name]) for name in self._stored}
        """Specs of a record's tensors, for the manifest."""

    def write(self, index: np.ndarray, file: Path) -> ColumnsFile:
        """Write the records of some examples, in order, to an ArrayRecord file.

        An unreadable example becomes an empty record with a reason in the columns file. An image
        that can't be reduced is kept as it is.

        Args:
            index: int64 [R], positions in the split, at least one.
            file: path of the file to write; an existing file is replaced.

        Returns:
            The content of the columns file.
        """
        from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

        columns, checksums, faults = [], [], {}
        writer = ArrayRecordWriter(str(file), WRITER_OPTIONS)
        try:
            for number, (example, fault) in enumerate(self._examples(index)):
                record = self._record(example) if fault is None else b""
                if fault is not None:
                    faults[number] = fault
                writer.write(record)
                checksums.append(zlib.crc32(record))
                columns.append(self._columns(example))
        finally:
            writer.close()
        content, source = file.read_bytes(), self._source
        reader = ArrayRecordReader(str(file))
        written = (reader.read([number])[0] for number in range(len(checksums)))
        return ColumnsFile(
            stack_columns(columns, {key for kind in KINDS for key in kind.per_object}),
            np.asarray(index, np.int64),
            np.array(checksums, np.uint32),
            source.digests[index] if self._is_same else np.zeros(0, np.uint64),
            find_records(content, written),
            make_names([source.name_record(record) for record in source.records[index].tolist()]),
            faults,
            hashlib.sha256(content).hexdigest(),
            len(content),
        )

    def sizes(self, index: np.ndarray) -> list[int]:
        """Return the record sizes of readable examples."""
        read = (example for example, fault in self._examples(index) if fault is None)
        return [len(self._record(example)) for example in read]

    def _examples(self, index: np.ndarray) -> Iterator[tuple[dict[str, Any], str | None]]:
        """Yield (example, None) for a readable example, else (its tensors in memory, reason)."""
        indices = tf.data.Dataset.from_tensor_slices(np.asarray(index, np.int64))
        # Without autotuning, which can take long to stop (`batching.prefetch`).
        options = tf.data.Options()
        options.autotune.enabled = False
        loaded = readable_or_zeros(indices, self._load, PARALLEL).with_options(options)
        for number, example, is_loaded in loaded.as_numpy_iterator():
            yield (example, None) if is_loaded else self._unreduced(int(number))

    def _unreduced(self, number: int) -> tuple[dict[str, Any], str | None]:
        """Return (unreduced example, None), or (tensors in memory, reason) if unreadable."""
        position = tf.constant(number, tf.int64)
        held = {name: value.numpy() for name, value in self._source.read_held(position).items()}
        try:
            example = self._source.read(position)
        except (DataError, tf.errors.OpError):
            return held, why_unreadable(self._source, number)
        return {name: value.numpy() for name, value in example.items()}, None

    def _record(self, example: Mapping[str, Any]) -> bytes:
        return to_record({name: example[name] for name in self._stored})

    def _columns(self, example: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the tensors of the columns; zeros for examples without a frame."""
        return {
            name: np.asarray(example[name])
            if name in example
            else np.zeros(spec.shape, spec.dtype.as_numpy_dtype)
            for name, spec in self._held.items()
        }
