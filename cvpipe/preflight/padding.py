"""Share of arithmetic that is padding, because matrix units pad channels to full lanes."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from cvpipe.preflight.program import Program

MOST_LAYERS = 5


class Layer(NamedTuple):
    """An operation whose channels don't fill the lanes."""

    name: str
    channels: tuple[int, int]
    """Numbers of input and output channels."""
    share: float
    """This operation's padding as a share of all arithmetic, including padding."""


class Padding(NamedTuple):
    """Padding of a program if channels are mapped to lanes. A compiler may instead map images or
    pixels to lanes, and pad less.
    """

    lanes: int
    share: float
    """Padding as a share of all arithmetic, including padding."""
    layers: tuple[Layer, ...]
    """The layers with the most padding."""


def padding_of(program: Program, lanes: int) -> Padding:
    """Return the padding of a program's convolutions and matrix products."""
    lost: dict[tuple[str, tuple[int, int]], float] = {}
    whole = 0.0
    for own, work, summed, made in program.products():
        used = _used(summed, lanes) * _used(made, lanes)
        key = (own.metadata.op_name, (summed, made))
        lost[key] = lost.get(key, 0.0) + work / used - work
        whole += work / used
    if not whole:
        return Padding(lanes, 0.0, ())
    most = sorted(lost, key=lambda key: -lost[key])[:MOST_LAYERS]
    layers = tuple(Layer(*key, lost[key] / whole) for key in most if lost[key])
    return Padding(lanes, sum(lost.values()) / whole, layers)


def _used(channels: int, lanes: int) -> float:
    return channels / (lanes * ceil(channels / lanes)) if channels else 1.0
