"""Base class of augmentations, and the types and checks that they share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cvpipe.config.section import Range, Section

Degrees = Annotated[float, Field(ge=0, le=180)]
Fill = Literal["constant", "reflect", "nearest"]


class Augmentation(Section):
    """A random change to a training image."""

    op: str
    """Kind of operation."""


def check_area_aspect(area: Range, aspect: Range) -> None:
    """Raise ValueError unless both ranges are [smallest, largest], with areas of at most 1."""
    if area[0] > area[1] or area[1] > 1:
        raise ValueError("area must be [smallest, largest] with largest at most 1")
    check_ordered(aspect=aspect)


def check_ordered(**ranges: Range) -> None:
    """Raise ValueError unless each range, given by its key, is [smallest, largest]."""
    for key, (smallest, largest) in ranges.items():
        if smallest > largest:
            raise ValueError(f"{key} must be [smallest, largest]")
