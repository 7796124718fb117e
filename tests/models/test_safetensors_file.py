"""Guards safetensors files: their tensors are read, and damaged files refused."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvpipe.errors import DataError
from cvpipe.models.weights.safetensors_file import read_safetensors_file

TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.arange(4, dtype=np.int64),
    "c": np.float16([0.5]),
}
KINDS = {"<f4": "F32", "<i8": "I64", "<f2": "F16"}


def file_bytes(header: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def written(**changes: Any) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, array in TENSORS.items():
        content = array.tobytes()
        offsets = [len(data), len(data) + len(content)]
        header[name] = {
            "dtype": KINDS[array.dtype.str],
            "shape": list(array.shape),
            "data_offsets": offsets,
        }
        data += content
    header["a"].update(changes)
    return file_bytes(header, data)


def read(tmp_path: Path, data: bytes) -> dict[str, np.ndarray]:
    (tmp_path / "a.safetensors").write_bytes(data)
    return read_safetensors_file(tmp_path / "a.safetensors")


def test_saved_tensors_are_read_back(tmp_path: Path) -> None:
    found = read(tmp_path, written())
    assert found.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    header = {"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    # The upper 16 bits of the float32 numbers 1 and −2.5.
    found = read(tmp_path, file_bytes(header, bytes.fromhex("803f20c0")))
    assert found["a"].tolist() == [1.0, -2.5]


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2, 4]},
        {"shape": [-2, -3]},
        {"shape": [2.0, 3]},
        {"shape": [True, 6]},
        {"data_offsets": [0, 10**12]},
        {"data_offsets": [24, 0]},
        {"data_offsets": [-24, 0]},
        {"dtype": "F4"},
        {"dtype": None},
    ],
)
def test_a_header_that_contradicts_the_data_is_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match="damaged, or not a safetensors file"):
        read(tmp_path, written(**change))


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = written()
    for length in range(len(whole)):
        with pytest.raises(DataError, match="damaged"):
            read(tmp_path, whole[:length])


def test_changed_bytes_give_tensors_or_a_data_error(tmp_path: Path) -> None:
    whole, draw = written(), np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        data[draw.integers(len(data))] = draw.integers(256)
        with contextlib.suppress(DataError):
            read(tmp_path, bytes(data))


def test_what_safetensors_saves_is_read(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    numpy.save_file(TENSORS, tmp_path / "a.safetensors")
    found = read_safetensors_file(tmp_path / "a.safetensors")
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(found[name], array)
