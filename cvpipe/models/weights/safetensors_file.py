"""Reader for `safetensors` files: a length, a JSON header, and the values of all tensors."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from cvpipe.errors import DataError

MOST_HEADER = 100_000_000
"""Bytes of the longest header that the format allows."""
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


def read_safetensors_file(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file by name; bfloat16 becomes float32.

    Raises:
        DataError: the file is damaged or not a safetensors file.
    """
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            whole = path.stat().st_size
            if length > min(MOST_HEADER, whole - 8):
                raise ValueError("its header is longer than the file")
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            data = stream.read()
        return {name: _tensor(name, described, data) for name, described in header.items()}
    # Damaged bytes can raise any exception.
    except Exception as error:
        raise DataError(
            f"{path}: damaged, or not a safetensors file ({str(error) or type(error).__name__});"
            " copy it again"
        ) from None


def _tensor(name: str, described: dict[str, Any], data: bytes) -> np.ndarray:
    shape, (begin, end) = described["shape"], described["data_offsets"]
    numbers = [*shape, begin, end]
    if any(not isinstance(n, int) or isinstance(n, bool) or n < 0 for n in numbers):
        raise ValueError(f"{name} has a size that is not a number")
    kind = described["dtype"]
    dtype = np.dtype("<u2" if kind == "BF16" else DTYPES[kind])
    if begin > end or end > len(data) or end - begin != prod(shape) * dtype.itemsize:
        raise ValueError(
            f"{name} extends beyond the end of the file, or its length doesn't match its shape"
        )
    values = np.frombuffer(data[begin:end], dtype).reshape(shape)
    if kind == "BF16":
        # The upper half of a float32.
        return (values.astype("<u4") << 16).view("<f4")
    return values
