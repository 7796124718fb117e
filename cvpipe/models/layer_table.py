"""A network's layers as a table: shape, parameters, multiply-adds, memory, receptive field.

A row is a convolution, a fully connected layer, a pooling, an upsampling, an addition, a
concatenation or a product. Norms, activations, paddings and dropout count as part of the row before
them, as if they were computed in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod
from typing import Any, NamedTuple

import keras

from cvpipe.models.cost import layer_multiply_adds
from cvpipe.models.fractional import FractionalMaxPooling

BYTES = 4
"""Bytes of an activation in float32."""
HEAD = ("pool", "hidden", "logits", "auxiliary", "head")
"""Name prefixes of rows that aren't part of a backbone's receptive field."""

_COMPUTES = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.Dense,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.Add,
    keras.layers.Concatenate,
    keras.layers.Multiply,
    keras.layers.UpSampling2D,
    FractionalMaxPooling,
)

_SEES_ALL = (keras.layers.GlobalAveragePooling2D, keras.layers.Flatten)

Field = tuple[float, float] | None
"""Rows and columns of the image; None: all of it."""


class Row(NamedTuple):
    """One row of the table."""

    name: str
    kind: str
    """Class of the layer, "Input" for the image."""
    shape: tuple[int, ...]
    """Shape of the output, without the batch."""
    parameters: int
    """Parameters of the layer and of the norms and activations that follow, moving statistics
    included.
    """
    macs: int
    """Multiply-adds per image."""
    receptive_field: tuple[int, int] | None
    """Rows and columns of the image that a pixel depends on, which may exceed the image; None: the
    whole image. Gates computed from the whole image are ignored.
    """
    inputs: tuple[str, ...] = ()
    """Names of the rows whose outputs this row reads."""

    @property
    def activations(self) -> int:
        """Number of output values per image."""
        return prod(self.shape)


class _View(NamedTuple):
    """A tensor's row, receptive field and stride."""

    row: int
    field: Field
    step: tuple[float, float]
    """Stride in pixels of the image, vertical and horizontal."""


def layer_table(model: keras.Model) -> list[Row]:
    """Return the rows of a functional model with fixed shapes, in the order of the graph."""
    rows: list[Row] = []
    views: dict[int, _View] = {}
    for operation in model.operations:
        outputs = keras.tree.flatten(operation.output)
        if isinstance(operation, keras.layers.InputLayer):
            view = _View(len(rows), (1, 1), (1, 1))
            rows.append(Row(operation.name, "Input", _shape(outputs[0]), 0, 0, (1, 1)))
        else:
            input_views = [
                views[id(x)] for x in keras.tree.flatten(operation.input) if id(x) in views
            ]
            view = _look(operation, input_views)
            parameters = sum(prod(v.shape) for v in getattr(operation, "weights", ()))
            if isinstance(operation, _COMPUTES) or len(input_views) > 1:
                view = view._replace(row=len(rows))
                kind, macs = type(operation).__name__, layer_multiply_adds(operation)
                field = None if view.field is None else (int(view.field[0]), int(view.field[1]))
                shape, read = _shape(outputs[0]), sorted({view.row for view in input_views})
                inputs = tuple(rows[row].name for row in read)
                rows.append(Row(operation.name, kind, shape, parameters, macs, field, inputs))
            elif parameters:
                row = rows[view.row]
                rows[view.row] = row._replace(parameters=row.parameters + parameters)
        views.update({id(x): view for x in outputs})
    return rows


def receptive_field(rows: Sequence[Row], head: tuple[str, ...] = HEAD) -> list[int] | None:
    """Return the receptive field of the backbone, which is the largest of its rows; None if it is
    the whole image.

    Names of the head's rows begin with one of `head`.
    """
    backbone = [row for row in rows if row.kind != "Input" and not row.name.startswith(head)]
    fields = [row.receptive_field for row in backbone]
    known = [field for field in fields if field is not None]
    return [max(field[axis] for field in known) for axis in (0, 1)] if known else None


def as_json(row: Row) -> dict[str, Any]:
    """Return a row as plain JSON values, with its number of activations."""
    return {
        **row._asdict(),
        "shape": list(row.shape),
        "inputs": list(row.inputs),
        "activations": row.activations,
        "activation_bytes": BYTES * row.activations,
        "receptive_field": row.receptive_field and list(row.receptive_field),
    }


def _shape(x: keras.KerasTensor) -> tuple[int, ...]:
    return tuple(x.shape[1:])


def _look(operation: Any, inputs: Sequence[_View]) -> _View:
    """Return the view of an operation's output, given those of its inputs."""
    # In products with gates, ignore the gates, which depend on the whole image.
    local = [view for view in inputs if view.field is not None]
    if not local or isinstance(operation, _SEES_ALL):
        return inputs[0]._replace(field=None)
    field = tuple(max(view.field[axis] for view in local) for axis in (0, 1))  # type: ignore[index]
    step = tuple(max(view.step[axis] for view in local) for axis in (0, 1))
    kernel, stride, dilation = window_of(operation)
    field = tuple(
        size + (pixels - 1) * spacing * length
        for size, pixels, spacing, length in zip(field, kernel, dilation, step, strict=True)
    )
    step = tuple(length * factor for length, factor in zip(step, stride, strict=True))
    return _View(inputs[0].row, field, step)  # type: ignore[arg-type]


def window_of(operation: Any) -> tuple[Sequence[int], Sequence[float], Sequence[int]]:
    """Return an operation's window, stride and dilation, each for rows and columns."""
    if isinstance(operation, keras.layers.Conv2DTranspose):
        pairs = zip(operation.kernel_size, operation.strides, strict=True)
        kernel = [ceil(size / stride) for size, stride in pairs]
        return kernel, [1 / stride for stride in operation.strides], (1, 1)
    if isinstance(operation, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
        return operation.kernel_size, operation.strides, operation.dilation_rate
    if isinstance(operation, (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)):
        return operation.pool_size, operation.strides, (1, 1)
    if isinstance(operation, FractionalMaxPooling):
        return (2, 2), (operation.ratio, operation.ratio), (1, 1)
    if isinstance(operation, keras.layers.UpSampling2D):
        return (1, 1), [1 / factor for factor in operation.size], (1, 1)
    return (1, 1), (1, 1), (1, 1)
