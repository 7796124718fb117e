"""Reader for Keras's weights in HDF5: `.h5` of Keras 2 and `.weights.h5` of Keras 3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from cvpipe.errors import DataError


def read_hdf5_file(path: Path) -> dict[str, np.ndarray]:
    """Return the weights as "LAYER.NUMBER", in the order of the layer's weights.

    In files of Keras 3, layers are named by class and number; a nested layer is "OUTER.LAYER".

    Raises:
        DataError: the file is damaged, or has content other than numbers.
    """
    try:
        with h5py.File(path, "r") as file:
            old = "layer_names" in file.get("model_weights", file).attrs
            return dict(_of_keras_2(file) if old else _of_keras_3(file))
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{path}: damaged, or not weights saved by Keras ({error}); copy it again"
        ) from None


def _of_keras_2(file: h5py.File) -> Iterator[tuple[str, np.ndarray]]:
    root = file.get("model_weights", file)
    for layer in _texts(root.attrs["layer_names"]):
        for number, name in enumerate(_texts(root[layer].attrs["weight_names"])):
            yield f"{layer}.{number}", _numbers(file, root[layer][name])


def _of_keras_3(file: h5py.File) -> Iterator[tuple[str, np.ndarray]]:
    found: list[str] = []
    file.visit(found.append)
    for path in found:
        *layers, last, number = ["", *path.split("/")]
        if last == "vars":
            name = ".".join(part for part in layers if part not in ("", "layers"))
            yield f"{name}.{number}", _numbers(file, file[path])


def _texts(values: np.ndarray) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _numbers(file: h5py.File, dataset: h5py.Dataset) -> np.ndarray:
    # A file may contain links to other files, which must not be read.
    inside = isinstance(dataset, h5py.Dataset) and dataset.file.filename == file.filename
    if not inside or dataset.external or dataset.is_virtual:
        raise ValueError(f"{dataset.name} is not an array within the file")
    if dataset.dtype.kind not in "fiu":
        raise ValueError(f"{dataset.name} contains no numbers")
    return np.asarray(dataset[()])
