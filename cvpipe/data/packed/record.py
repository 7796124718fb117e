"""Records: a `tf.train.Example` with the image and the tensors stored with it.

"bytes" is stored as it is, any other tensor as its zlib-compressed bytes and its shape.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.data.example import Example
from cvpipe.data.packed.manifest import Spec

BYTES = "bytes"


def spec_of(tensor: tf.TensorSpec) -> Spec:
    """Return the manifest's description of a tensor of known rank."""
    return Spec(tensor.dtype.name, tuple(tensor.shape.as_list()))


def to_record(tensors: Mapping[str, Any]) -> bytes:
    """Serialize arrays, and bytes under "bytes", to a record. Deterministic."""
    features = tf.train.Features()
    for name in sorted(tensors):
        if name == BYTES:
            features.feature[name].bytes_list.value.append(tensors[name])
            continue
        array = np.ascontiguousarray(tensors[name])
        features.feature[name].bytes_list.value.append(zlib.compress(array.tobytes()))
        features.feature[_shape(name)].int64_list.value.extend(array.shape)
    record: bytes = tf.train.Example(features=features).SerializeToString(deterministic=True)
    return record


def from_record(record: tf.Tensor, specs: Mapping[str, Spec]) -> Example:
    """Parse a record, a scalar string. Graph code."""
    wanted: dict[str, Any] = {name: tf.io.FixedLenFeature([], tf.string) for name in specs}
    for name, spec in specs.items():
        if name != BYTES:
            wanted[_shape(name)] = tf.io.FixedLenFeature([len(spec.shape)], tf.int64)
    parsed = tf.io.parse_single_example(record, wanted)
    return {
        name: parsed[name] if name == BYTES else _tensor(parsed[name], parsed[_shape(name)], spec)
        for name, spec in specs.items()
    }


def _tensor(compressed: tf.Tensor, shape: tf.Tensor, spec: Spec) -> tf.Tensor:
    values = tf.io.decode_raw(tf.io.decode_compressed(compressed, "ZLIB"), tf.as_dtype(spec.dtype))
    return tf.ensure_shape(tf.reshape(values, shape), spec.shape)


def _shape(name: str) -> str:
    return f"{name}/shape"
