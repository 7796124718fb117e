"""Types of the tables of layer names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from cvpipe.models.catalog import Padding
from cvpipe.models.norms import Norm

Kind = Literal[
    "conv",
    "biased conv",
    "depthwise",
    "dense",
    "dense as 7×7",
    "dense as 6×6",
    "dense as 1×1",
    "conv as dense",
    "norm",
    "keras conv",
    "keras dense",
    "keras dense as 7×7",
    "keras dense as 1×1",
]
"""Layout of a layer's weights, in PyTorch unless the name contains keras; see `convert`."""

SLIM = 1e-3 - Norm().epsilon
"""The epsilon of TensorFlow-Slim's BatchNorms, minus that of cvpipe's."""


class Layer(NamedTuple):
    """A layer here and in another library."""

    ours: str
    theirs: str
    kind: Kind


class Table(NamedTuple):
    """All layers of a network, by their names in one library."""

    library: str
    layers: Sequence[Layer]
    unused: tuple[str, ...] = ()
    """Name prefixes in the file without a layer in cvpipe's network."""
    bgr: bool = False
    """True if the first layer's input is blue, green, red."""
    paddings: tuple[Padding | None, ...] = (None, "torch")
    """Values of `model.padding` with which cvpipe's network computes the same."""
    more_epsilon: float = 0.0
    """Epsilon of the library's BatchNorms minus that of cvpipe's."""


ANY: tuple[Padding | None, ...] = (None, "torch", "tensorflow")
"""The paddings of networks that give the same with each."""


def normed(ours: str, conv: str, norm: str, kind: Kind = "conv") -> Iterator[Layer]:
    """Yield a convolution and its norm, called `conv` and `norm` in the library."""
    yield Layer(ours, conv, kind)
    yield Layer(f"{ours}_norm", norm, "norm")


def gates(ours: str, reduce: str, expand: str) -> Iterator[Layer]:
    """Yield the two layers of a squeeze-and-excitation."""
    yield Layer(f"{ours}_se_reduce", reduce, "biased conv")
    yield Layer(f"{ours}_se_expand", expand, "biased conv")
