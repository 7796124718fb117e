"""Conversion of another library's tensors to weights for cvpipe's networks.

Tensors have the library's names; weights have the paths of cvpipe's variables.

PyTorch's kernels are [out, in, rows, columns], Keras's [rows, columns, in, out].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cvpipe.errors import ConfigError, DataError
from cvpipe.models.catalog import Conventions
from cvpipe.models.norms import Norm
from cvpipe.models.weights.names.layers import Kind, Table

OF_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
"""PyTorch's names of a BatchNorm's tensors, and Keras's names of the same variables."""
COUNTED = "num_batches_tracked"
"""PyTorch's count of batches in each BatchNorm, which isn't needed here."""
OPTIONAL = ("logits", "auxiliary")
"""Name prefixes of the layers that a file may lack."""


def convert(
    tensors: Mapping[str, np.ndarray],
    tables: Sequence[Table],
    backbone: str,
    origin: str,
    conventions: Conventions = "papers",
    epsilon: float = Norm().epsilon,
) -> dict[str, np.ndarray]:
    """Return weights by path, float32, converted by the table that fits the file best.

    If the library's epsilon differs from cvpipe's, the moving variance of BatchNorms is changed by
    the difference, so inference gives the same results.

    Args:
        tensors: tensors of the file by name.
        tables: layer names of the network in other libraries.
        backbone: name of the network.
        origin: name of the file.
        conventions: `model.conventions`.
        epsilon: `model.norm_epsilon`.

    Raises:
        DataError: no table fits; the message names the first tensor that is missing, unknown or of
            another rank.
        ConfigError: the file belongs to a network with other conventions.
    """
    known = [len(tensors.keys() & _names(table)) for table in tables]
    fitting = [table for table, count in zip(tables, known, strict=True) if count == max(known)]
    _check_names(tensors, fitting[0], backbone, origin)
    table = table_for(conventions, fitting, backbone, origin)
    more = table.epsilon - (table.cvpipe_epsilon or epsilon)
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
            if table.bgr and variable == "kernel" and array.shape[2:3] == (3,):
                array = array[:, :, ::-1]
            if variable == "moving_variance" and more:
                array = array + more
            weights[f"{layer.ours}/{variable}"] = np.ascontiguousarray(array, np.float32)
    return weights


def table_for(
    conventions: Conventions, tables: Sequence[Table], backbone: str, origin: str
) -> Table:
    """Return the table of the network with the conventions of `model.conventions`.

    Raises:
        ConfigError: there is no such table. With another table the weights would load but give
            wrong answers.
    """
    for table in tables:
        if conventions in table.conventions:
            return table
    needed = {name for table in tables for name in table.conventions if name != "papers"}
    which = (
        ", to tensorflow if timm's name of the network begins with tf_, which the file doesn't show"
        if len(needed) > 1
        else ""
    )
    raise ConfigError(
        f"model.conventions: {conventions} doesn't fit {origin}, which has weights of"
        f" {tables[0].library}'s {backbone}; set it to"
        f" {' or '.join(sorted(needed, reverse=True))}{which}"
    )


def _check_names(
    tensors: Mapping[str, np.ndarray], table: Table, backbone: str, origin: str
) -> None:
    known = _names(table) | {f"{layer.theirs}.{COUNTED}" for layer in table.layers}
    needed = _names(
        table._replace(layers=[x for x in table.layers if not x.ours.startswith(OPTIONAL)])
    )
    missing = sorted(needed - tensors.keys())
    more = sorted(
        name for name in tensors.keys() - known if not name.startswith(table.unused or ("\0",))
    )
    if missing or more:
        wrong = f"lacks {missing[0]}" if missing else f"has {more[0]}, which fits no layer"
        raise DataError(
            f"model.weights: {origin}: {wrong}, according to {table.library}'s names for"
            f" {backbone}; give a file of the same network"
        )


def _names(table: Table) -> set[str]:
    return {f"{layer.theirs}.{name}" for layer in table.layers for name in _variables(layer.kind)}


def _variables(kind: Kind) -> dict[str, str]:
    """Return the variables of a layer by the other library's names."""
    match kind:
        case "norm":
            return OF_NORM
        case "keras conv" | "keras dense" | "keras dense as 7×7" | "keras dense as 1×1":
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
        case "dense as 7×7" | "dense as 6×6" | "dense as 1×1":
            side = int(kind[-1])
            return tensor.reshape(len(tensor), -1, side, side).transpose(2, 3, 1, 0)
        case "conv as dense":
            return tensor.reshape(len(tensor), -1).transpose(1, 0)
        case "keras dense as 7×7" | "keras dense as 1×1":
            side = int(kind[-1])
            return tensor.reshape(side, side, -1, tensor.shape[-1])
        case "dense":
            return tensor.transpose(1, 0)
        case "tensorflow 1×1 as dense":
            return tensor.reshape(-1, tensor.shape[-1])
        case _:
            return tensor
