"""Tensors of the Open Inference Protocol (KServe V2) in JSON and as raw bytes.

Source: Open Inference Protocol, "Tensor Data" and "Binary tensor data extension".
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.serving.errors import RequestError

DATATYPES = {
    "BOOL": tf.bool,
    "UINT8": tf.uint8,
    "UINT16": tf.uint16,
    "UINT32": tf.uint32,
    "UINT64": tf.uint64,
    "INT8": tf.int8,
    "INT16": tf.int16,
    "INT32": tf.int32,
    "INT64": tf.int64,
    "FP16": tf.float16,
    "BF16": tf.bfloat16,
    "FP32": tf.float32,
    "FP64": tf.float64,
    "BYTES": tf.string,
}
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}


def datatype(dtype: tf.DType) -> str:
    """Return the protocol's name for a dtype.

    Raises:
        RequestError: 501 if the protocol has no name for the dtype.
    """
    if dtype not in _NAMES:
        raise RequestError(501, f"{dtype.name} has no datatype in this protocol")
    return _NAMES[dtype]


def datatype_of(array: np.ndarray) -> str:
    """Return the protocol's name for an array's dtype."""
    return datatype(tf.string if array.dtype == object else tf.as_dtype(array.dtype))


def check(name: str, given: str | None, shape: Sequence[int], spec: tf.TensorSpec) -> None:
    """Check the datatype and shape of an input against the signature.

    Raises:
        RequestError: 400 for a missing or wrong datatype, or a wrong shape.
    """
    if not given:
        raise RequestError(
            400, f'input "{name}" has no datatype; the model takes {datatype(spec.dtype)}'
        )
    if given != datatype(spec.dtype):
        raise RequestError(
            400, f'input "{name}" has datatype {given}, but the model takes {datatype(spec.dtype)}'
        )
    if not all(type(size) is int and size >= 0 for size in shape):
        raise RequestError(400, f'input "{name}" has a "shape" that isn\'t a list of lengths')
    if not spec.shape.is_compatible_with(tuple(shape)):
        raise RequestError(
            400, f'input "{name}" has shape {tuple(shape)}, but the model takes {spec.shape}'
        )


def from_raw(name: str, content: bytes, dtype: tf.DType, shape: Sequence[int]) -> np.ndarray:
    """Parse raw bytes: little-endian numbers in row-major order, or strings with a four-byte length
    before each.

    Raises:
        RequestError: 400 if the number of values doesn't match the shape.
    """
    count = math.prod(shape)
    if dtype == tf.string:
        return shaped(name, _strings(_split(name, content, count)), shape)
    size = dtype.size
    if len(content) != count * size:
        raise RequestError(
            400, f'input "{name}" has {len(content)} bytes; its shape takes {count * size}'
        )
    array = shaped(name, np.frombuffer(content, dtype.as_numpy_dtype), shape)
    if dtype == tf.bool and np.any(array.view(np.uint8) > 1):
        raise RequestError(400, f'input "{name}" has a BOOL that is neither 0 nor 1')
    return array


def shaped(name: str, flat: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Reshape values.

    Raises:
        RequestError: 400 for an impossible shape, such as one with no values and too many rows.
    """
    try:
        return flat.reshape(shape)
    except (ValueError, OverflowError):
        raise RequestError(400, f'input "{name}" has the impossible shape {[*shape]}') from None


def to_raw(array: np.ndarray) -> bytes:
    """Convert an array to raw bytes."""
    if array.dtype != object:
        return array.tobytes()
    return b"".join(struct.pack("<I", len(value)) + value for value in array.flat)


def to_data(array: np.ndarray) -> tuple[list[Any], dict[str, Any]]:
    """Return the values of an array as a flat list of JSON values, and the tensor's parameters."""
    if array.dtype == object:
        try:
            return [value.decode("utf-8") for value in array.flat], {}
        except UnicodeDecodeError:
            coded = [base64.b64encode(value).decode("ascii") for value in array.flat]
            return coded, {"content_type": "base64"}
    if tf.as_dtype(array.dtype).is_floating:
        array = array.astype(np.float64)
    return array.reshape(-1).tolist(), {}


def flat(value: Any, count: int) -> list[Any]:
    """Flatten nested lists in row-major order.

    Raises:
        ValueError: the number of values is not `count`.
    """
    level = value if isinstance(value, list) else [value]
    while level and all(isinstance(item, list) for item in level):
        level = [item for inner in level for item in inner]
    if len(level) != count:
        raise ValueError(f'has {len(level)} values in "data"; its shape takes {count}')
    return level


def _split(name: str, content: bytes, count: int) -> list[bytes]:
    """Split the raw bytes of strings, in which each string follows its length."""
    values, at = [], 0
    while at < len(content):
        end = at + 4 + int.from_bytes(content[at : at + 4], "little")
        if at + 4 > len(content) or end > len(content):
            raise RequestError(400, f'input "{name}" is cut off inside a string')
        values.append(content[at + 4 : end])
        at = end
    if len(values) != count:
        raise RequestError(
            400, f'input "{name}" has {len(values)} strings; its shape takes {count}'
        )
    return values


def _strings(values: Sequence[bytes]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
