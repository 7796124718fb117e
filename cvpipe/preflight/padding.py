"""Arithmetic lost to padding: matrix units multiply whole rows of lanes."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from cvpipe.preflight.program import Program

MOST_LAYERS = 5


class Layer(NamedTuple):
    """An operation whose channels don't fill the lanes."""

    name: str
    channels: tuple[int, int]
    """Summed over, and made."""
    share: float
    """Part of all arithmetic, padding included, that is this operation's padding."""


class Padding(NamedTuple):
    """Multiplications with padding, if channels are laid on lanes; a compiler that lays images or
    pixels there may lose less.
    """

    lanes: int
    share: float
    """Part of all arithmetic, padding included."""
    layers: tuple[Layer, ...]
    """The layers that lose most."""


def padding_of(program: Program, lanes: int) -> Padding:
    """Return what a program's convolutions and products lose."""
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
