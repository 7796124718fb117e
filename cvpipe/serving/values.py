"""Conversion between JSON values and arrays.

Source: TF Serving, RESTful API, "JSON mapping" and "Encoding binary values". As in TF Serving and
unlike NumPy, types are not coerced: "1" is not a number, true is not 1, and 1.5 is not an integer.
"""

from __future__ import annotations

import base64
from itertools import chain
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.serving.errors import RequestError

_JSON_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a decimal number",
    str: "a string",
    dict: "an object",
    type(None): "null",
}


def to_tensor(name: str, value: Any, spec: tf.TensorSpec) -> tf.Tensor:
    """Convert nested lists to the tensor of an input; see `to_array`."""
    return tf.constant(to_array(name, value, spec), spec.dtype)


def to_array(name: str, value: Any, spec: tf.TensorSpec) -> np.ndarray:
    """Convert nested lists to the array of an input. Strings become bytes objects.

    Args:
        name: name of the input, for errors.
        value: a scalar or nested lists of one shape; a string is UTF-8 text or {"b64": base64}.
        spec: dtype and shape in the signature; dimensions of the shape may be unknown.

    Returns:
        An array of `spec.dtype` with the shape of the lists.

    Raises:
        RequestError: 400 for ragged lists, a wrong shape or type, or a number out of range; 501 for
            a dtype without a JSON representation.
    """
    shape = _shape(value)
    try:
        leaves = _leaves(value, shape)
        if not spec.shape.is_compatible_with(shape):
            raise ValueError(f"has shape {shape}, but the model takes {spec.shape}")
        return _to_array(leaves, spec.dtype).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise RequestError(400, f'input "{name}" {error}') from error


def to_json(name: str, value: tf.Tensor | np.ndarray) -> Any:
    """Convert an output to nested lists, or to a single value if it is a scalar.

    Strings become UTF-8 text, with invalid bytes as U+FFFD, or {"b64": base64} if `name` ends in
    `_bytes`.

    Raises:
        RequestError: 501 for a dtype without a JSON representation.
    """
    array = value if isinstance(value, np.ndarray) else value.numpy()
    if isinstance(array, bytes):  # a scalar string in TensorFlow
        array = np.array(array, dtype=object)
    if array.dtype == object:
        return to_strings(name, array).tolist()
    if array.dtype.kind in "biu":
        return array.tolist()
    # NumPy doesn't know that bfloat16 is floating.
    if array.dtype.kind == "f" or tf.as_dtype(array.dtype).is_floating:
        return array.astype(np.float64).tolist()  # exact; bfloat16 arrays have no tolist
    raise RequestError(501, f'output "{name}" is {array.dtype}, which JSON cannot represent')


def to_strings(name: str, array: np.ndarray) -> np.ndarray:
    """Convert bytes objects to text, or to {"b64": base64} if `name` ends in `_bytes`."""
    encode = _to_base64 if name.endswith("_bytes") else _to_text
    strings = np.empty(array.size, dtype=object)
    strings[:] = [encode(string) for string in array.flat]
    return strings.reshape(array.shape)


def is_base64(value: Any) -> bool:
    """Return True for a base64 string object, {"b64": …}, as opposed to an object of named
    inputs.
    """
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _shape(value: Any) -> tuple[int, ...]:
    """Return the shape of nested lists, from their first elements."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _leaves(value: Any, shape: tuple[int, ...]) -> list[Any]:
    """Return the values inside nested lists in row-major order. Works on whole levels for speed."""
    level = [value]
    for depth, size in enumerate(shape):
        if not all(isinstance(item, list) and len(item) == size for item in level):
            raise ValueError(
                f"is ragged: the lists at level {depth + 1} don't all have {size} elements"
            )
        level = list(chain.from_iterable(level))
    if any(isinstance(item, list) for item in level):
        raise ValueError(f"is ragged: some lists are nested deeper than {len(shape)} levels")
    return level


def _to_array(leaves: list[Any], dtype: tf.DType) -> np.ndarray:
    kinds = set(map(type, leaves))
    if dtype == tf.string:
        return np.array([_to_bytes(leaf) for leaf in leaves], dtype=object)
    if dtype.is_bool:
        _check_kinds(kinds, {bool}, "true or false")
        return np.array(leaves, dtype=bool)
    if dtype.is_integer:
        _check_kinds(kinds, {int}, "whole numbers")
        if leaves and not dtype.min <= min(leaves) <= max(leaves) <= dtype.max:
            raise ValueError(f"has a number out of the range of {dtype.name}")
        return np.array(leaves, dtype=dtype.as_numpy_dtype)
    if dtype.is_floating:
        _check_kinds(kinds, {int, float}, "numbers")
        return _to_floats(leaves, dtype)
    raise RequestError(501, f"this signature takes {dtype.name}, which JSON cannot represent")


def _to_floats(leaves: list[Any], dtype: tf.DType) -> np.ndarray:
    wide = np.array(leaves, dtype=np.float64)
    with np.errstate(over="ignore"):
        floats = wide.astype(dtype.as_numpy_dtype)
    if np.any(np.isinf(floats) != np.isinf(wide)):
        raise ValueError(f"has a number too large for {dtype.name}")
    return floats


def _check_kinds(kinds: set[type], allowed: set[type], wanted: str) -> None:
    wrong = sorted(_JSON_WORDS[kind] for kind in kinds - allowed)
    if wrong:
        raise ValueError(f"takes {wanted}, not {' or '.join(wrong)}")


def _to_bytes(leaf: Any) -> bytes:
    if is_base64(leaf):
        return _from_base64(leaf["b64"])
    if not isinstance(leaf, str):
        raise ValueError('takes strings: text, or {"b64": "..."} for binary values such as images')
    return leaf.encode("utf-8")


def _to_text(string: bytes) -> str:
    return string.decode("utf-8", errors="replace")


def _to_base64(string: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(string).decode("ascii")}


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        # The command base64 wraps lines, and some clients leave out the padding.
        text = "".join(text.split())
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        raise ValueError('has a "b64" value that is not base64') from error
