"""Types of the tables of layer names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from cvpipe.models.catalog import Conventions

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
    "tensorflow conv",
    "tensorflow depthwise",
    "tensorflow biased",
    "tensorflow 1×1 as dense",
    "tensorflow norm",
]
"""Layout of a layer's weights, in PyTorch unless the name contains keras or tensorflow; see
`convert`.
"""

SLIM = 1e-3
"""Epsilon of BatchNorms in TensorFlow-Slim, and of networks that follow it."""


class Layer(NamedTuple):
    """A layer by its names in cvpipe and in another library."""

    ours: str
    theirs: str
    kind: Kind


class Table(NamedTuple):
    """All layers of a network, by their names in one library."""

    library: str
    layers: Sequence[Layer]
    unused: tuple[str, ...] = ()
    """Prefixes of names in the file for which cvpipe's network has no layer."""
    bgr: bool = False
    """True if the first layer's input is blue, green, red."""
    conventions: tuple[Conventions, ...] = ("papers", "torch")
    """Values of `model.conventions` with which cvpipe's network computes the same results."""
    epsilon: float = 1e-5
    """Epsilon of the library's BatchNorms."""
    cvpipe_epsilon: float | None = None
    """Epsilon of cvpipe's BatchNorms; None: `model.norm_epsilon`."""


ANY: tuple[Conventions, ...] = ("papers", "torch", "tensorflow")
"""Conventions of networks that don't depend on them."""


def normed(ours: str, conv: str, norm: str, kind: Kind = "conv") -> Iterator[Layer]:
    """Yield a convolution and its norm, called `conv` and `norm` in the library."""
    yield Layer(ours, conv, kind)
    yield Layer(f"{ours}_norm", norm, "norm")


def gates(ours: str, reduce: str, expand: str) -> Iterator[Layer]:
    """Yield the two layers of a squeeze-and-excitation."""
    yield Layer(f"{ours}_se_reduce", reduce, "biased conv")
    yield Layer(f"{ours}_se_expand", expand, "biased conv")
