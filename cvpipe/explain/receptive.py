"""Receptive fields: the part of the image that a position of a feature map depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from cvpipe.models.layer_table import window_of

Pair = tuple[float, float]
"""A number along rows and one along columns."""

_SEES_ALL = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)


class Receptive(NamedTuple):
    """Receptive fields of a feature map, in pixels of the image."""

    begin: Pair
    """First pixel of the receptive field of the map's first position; negative in the padding."""
    step: Pair
    """Distance in pixels between the fields of neighboring positions."""
    size: Pair
    """Size of a field in pixels, including parts beyond the image."""

    def box(self, place: Sequence[int], image: Sequence[int]) -> tuple[int, int, int, int]:
        """Return the field of a position within an image of the given size: ymin, xmin, ymax, xmax
        in pixels, the last two excluded.
        """
        first = [int(b + s * n) for b, s, n in zip(self.begin, self.step, place, strict=True)]
        last = [begin + round(size) for begin, size in zip(first, self.size, strict=True)]
        ymax, xmax = (min(end, length) for end, length in zip(last, image, strict=True))
        return max(first[0], 0), max(first[1], 0), ymax, xmax


def receptive_fields(network: keras.Model) -> dict[str, Receptive | None]:
    """Return the receptive field of each layer's output by the layer's name, for a functional model
    with one image of fixed size; None if the field is the whole image. Factors computed from the
    whole image, as in squeeze-and-excitation, are ignored.
    """
    fields: dict[int, Receptive | None] = {}
    found = {}
    for operation in network.operations:
        if isinstance(operation, keras.layers.InputLayer):
            field: Receptive | None = Receptive((0, 0), (1, 1), (1, 1))
        else:
            inputs = [fields.get(id(x)) for x in keras.tree.flatten(operation.input)]
            field = _after(operation, [known for known in inputs if known is not None])
        fields |= {id(x): field for x in keras.tree.flatten(operation.output)}
        found[operation.name] = field
    return found


def _after(operation: Any, inputs: Sequence[Receptive]) -> Receptive | None:
    """Return the field of an operation's output, given those of its inputs."""
    shape = getattr(operation.output, "shape", ())
    if not inputs or len(shape) != 4 or isinstance(operation, _SEES_ALL):
        return None
    pairs = [_axis(operation, inputs, axis) for axis in (0, 1)]
    begin, step, size = zip(*pairs, strict=True)
    return Receptive(begin, step, size)


def _axis(operation: Any, inputs: Sequence[Receptive], axis: int) -> tuple[float, float, float]:
    """Return begin, step and size along rows or columns."""
    begin = min(field.begin[axis] for field in inputs)
    end = max(field.begin[axis] + field.size[axis] for field in inputs)
    step = max(field.step[axis] for field in inputs)
    kernel, stride, dilation = (part[axis] for part in window_of(operation))
    reach = (kernel - 1) * dilation
    before = _before(operation, axis, reach, stride)
    return begin - before * step, step * stride, end - begin + reach * step


def _before(operation: Any, axis: int, reach: float, stride: float) -> float:
    """Return the padding before the first row or column, in positions of the input."""
    if isinstance(operation, keras.layers.ZeroPadding2D):
        return operation.padding[axis][0]
    if getattr(operation, "padding", None) != "same":
        return 0
    length, outputs = (x.shape[axis + 1] for x in (operation.input, operation.output))
    return max((outputs - 1) * stride + reach + 1 - length, 0) // 2
