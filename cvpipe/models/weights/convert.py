"""Conversion of tensors by another library's names to weights by the paths of cvpipe's variables.

PyTorch's kernels are [out, in, rows, columns], Keras's [rows, columns, in, out].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cvpipe.errors import DataError
from cvpipe.models.weights.names import Kind, Table

OF_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
"""Tensors of a BatchNorm by PyTorch's names, and its variables by Keras's."""
COUNTED = "num_batches_tracked"
"""PyTorch's count of batches in each BatchNorm, which isn't needed here."""
HEAD = "logits"
"""Name of the layer that a file may lack."""


def convert(
    tensors: Mapping[str, np.ndarray], tables: Sequence[Table], backbone: str, origin: str
) -> dict[str, np.ndarray]:
    """Return weights by path, float32, converted by the table that fits the file best.

    Raises:
        DataError: no table fits; the message names the first tensor that is missing, unknown or of
            another rank.
    """
    table = max(tables, key=lambda own: len(tensors.keys() & _names(own)))
    _check_names(tensors, table, backbone, origin)
    weights = {}
    for layer in table.layers:
        for name, variable in _variables(layer.kind).items():
            tensor = tensors.get(f"{layer.theirs}.{name}")
            if tensor is None:
                continue
            try:
                array = _kernel(tensor, layer.kind) if variable == "kernel" else tensor
            except ValueError:
                raise DataError(
                    f"model.weights: {origin}: {layer.theirs}.{name} has the shape"
                    f" {list(tensor.shape)}, which is not that of {backbone}; give a file of the"
                    " same network"
                ) from None
            if table.bgr and variable == "kernel" and array.shape[2] == 3:
                array = array[:, :, ::-1]
            weights[f"{layer.ours}/{variable}"] = np.ascontiguousarray(array, np.float32)
    return weights


def _check_names(
    tensors: Mapping[str, np.ndarray], table: Table, backbone: str, origin: str
) -> None:
    known = _names(table) | {f"{layer.theirs}.{COUNTED}" for layer in table.layers}
    needed = _names(table._replace(layers=[own for own in table.layers if own.ours != HEAD]))
    missing = sorted(needed - tensors.keys())
    more = sorted(
        name for name in tensors.keys() - known if not name.startswith(table.unused or ("\0",))
    )
    if missing or more:
        wrong = f"lacks {missing[0]}" if missing else f"has {more[0]}, which no layer takes"
        raise DataError(
            f"model.weights: {origin}: {wrong}, by {table.library}'s names of {backbone}; give a"
            " file of the same network"
        )


def _names(table: Table) -> set[str]:
    return {f"{layer.theirs}.{name}" for layer in table.layers for name in _variables(layer.kind)}


def _variables(kind: Kind) -> dict[str, str]:
    """Return the variables of a layer by the other library's names."""
    match kind:
        case "norm":
            return OF_NORM
        case "keras conv":
            return {"0": "kernel", "1": "bias"}
        case "tensorflow norm":
            return {name: name for name in OF_NORM.values()}
        case "tensorflow conv":
            return {"kernel": "kernel"}
        case "tensorflow depthwise":
            return {"depthwise_kernel": "kernel"}
        case "tensorflow biased" | "tensorflow 1×1 as dense":
            return {"kernel": "kernel", "bias": "bias"}
        case "conv" | "depthwise":
            # No bias, because a norm with a shift follows.
            return {"weight": "kernel"}
        case _:
            return {"weight": "kernel", "bias": "bias"}


def _kernel(tensor: np.ndarray, kind: Kind) -> np.ndarray:
    match kind:
        case "conv" | "biased conv":
            return tensor.transpose(2, 3, 1, 0)
        case "depthwise":
            return tensor.transpose(2, 3, 0, 1)
        case "dense as 7×7" | "dense as 1×1":
            side = 7 if kind == "dense as 7×7" else 1
            return tensor.reshape(len(tensor), -1, side, side).transpose(2, 3, 1, 0)
        case "dense":
            return tensor.transpose(1, 0)
        case "tensorflow 1×1 as dense":
            return tensor.reshape(-1, tensor.shape[-1])
        case _:
            return tensor
