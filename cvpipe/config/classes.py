"""Checks of class names, and of the values that represent classes in masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field


def all_different(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the class names unchanged; raise ValueError if two are equal."""
    if len(set(names)) < len(names):
        raise ValueError("two classes have the same name")
    return names


ClassList = Annotated[tuple[str, ...], AfterValidator(all_different)]
# Value of a mask with up to 16 bits.
Index = Annotated[int, Field(ge=0, lt=2**16)]


def check_mask_classes(names: Sequence[str], ignored: Sequence[int], first: int = 0) -> None:
    """Raise ValueError if a mask can't represent the classes. The first class has the value
    `first`.
    """
    all_different(tuple(names))
    # 255 means ignored.
    if len(names) > 255:
        raise ValueError(f"{len(names)} classes; a mask can represent at most 255")
    both = [index for index in ignored if first <= index < first + len(names)]
    if both:
        raise ValueError(
            f"{both[0]} is the value of the class {names[both[0] - first]} and in ignore_indices;"
            " remove it from ignore_indices"
        )
