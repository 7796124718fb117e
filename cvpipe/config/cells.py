"""Genotypes of the backbone `cells`: networks in the space of NASNet, as plain YAML."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from cvpipe.config.section import Length, Repeats, Section, Whole

State = Whole
Operation = Literal[
    "identity", "average_3x3", "max_3x3", "separable_3x3", "separable_5x5", "separable_7x7"
]


class CellBlock(Section):
    """Two operations on two maps, whose results are added (Zoph et al. 2018, section 3)."""

    inputs: tuple[State, State]
    """The maps that the operations read. 0: the output of the previous cell. 1: the output of the
    cell before that. 2, 3 and so on: the first, second, … block of the same cell.
    """
    operations: tuple[Operation, Operation]
    """The operation on each input. average and max: pooling. separable: two separable convolutions.
    In a reduction cell, operations on the inputs 0 and 1 have a stride of 2.
    """


Blocks = Annotated[tuple[CellBlock, ...], Field(min_length=1, max_length=16)]


def _block(left: int, left_does: Operation, right: int, right_does: Operation) -> CellBlock:
    return CellBlock(inputs=(left, right), operations=(left_does, right_does))


class Cells(Section):
    """A network of repeated cells: stages of normal cells, with a reduction cell between two. A
    cell returns every block and every input that no block of the cell reads.

    The defaults are the blocks of NASNet-A (Zoph et al. 2018, figure 4).
    """

    normal: Blocks = (
        _block(0, "separable_5x5", 1, "separable_3x3"),
        _block(1, "separable_5x5", 1, "separable_3x3"),
        _block(0, "average_3x3", 1, "identity"),
        _block(1, "average_3x3", 1, "average_3x3"),
        _block(0, "separable_3x3", 0, "identity"),
    )
    """Blocks of the cell that keeps the size of the maps."""
    reduction: Blocks = (
        _block(0, "separable_5x5", 1, "separable_7x7"),
        _block(0, "max_3x3", 1, "separable_7x7"),
        _block(0, "average_3x3", 1, "separable_5x5"),
        _block(3, "identity", 2, "average_3x3"),
        _block(2, "separable_3x3", 0, "max_3x3"),
    )
    """Blocks of the cell that halves height and width and doubles the channels."""
    stages: Annotated[int, Field(ge=1, le=6)] = 3
    """Number of stages. Their maps have the strides 1, 2, 4, 8, 16 and 32."""
    repeats: Repeats = 2
    """Number of normal cells in each stage, N in the paper."""
    filters: Length = 16
    """Channels of each block in the first stage. `model.width` multiplies them."""

    @model_validator(mode="after")
    def _blocks_read_earlier_maps(self) -> Self:
        for cell in ("normal", "reduction"):
            for number, block in enumerate(getattr(self, cell)):
                for state in block.inputs:
                    if state > number + 1:
                        raise ValueError(
                            f"{cell}.{number}.inputs: {state} is no earlier map; give numbers from"
                            f" 0 to {number + 1}"
                        )
        return self

    def choices(self) -> dict[str, tuple[str, ...]]:
        """Return the allowed values, as text, of each input and operation of both cells. They are
        keyed by location in this section, such as "normal.0.inputs.1".
        """
        found = {}
        for cell in ("normal", "reduction"):
            for number in range(len(getattr(self, cell))):
                states = tuple(map(str, range(number + 2)))
                for side in (0, 1):
                    found[f"{cell}.{number}.inputs.{side}"] = states
                    found[f"{cell}.{number}.operations.{side}"] = get_args(Operation)
        return found
