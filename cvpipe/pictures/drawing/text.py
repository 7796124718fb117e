"""Text in pictures: escaped, broken into lines, and along axes."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from typing import Literal

from matplotlib.axes import Axes

from cvpipe.pictures.drawing import LABEL, NAMED_CLASSES, TITLE

# Longer names are broken into lines along an axis.
NAME_LETTERS = 24


def literal(text: str) -> str:
    """Escape text so that matplotlib draws it unchanged, without formulas. Unprintable characters
    except line breaks become escape sequences.
    """
    visible = "".join(
        letter
        if letter.isprintable() or letter == "\n"
        else letter.encode("unicode_escape").decode()
        for letter in text
    )
    # matplotlib reads text between two dollar signs as a formula, unless they are escaped.
    return visible.replace("$", r"\$")


def wrap_title(title: str, width: float) -> str:
    """Break a title into lines that fit into `width` inches, without shortening it."""
    # The average width of a letter is about 0.6 of the font size; of a Chinese or Japanese
    # character, 1.
    wide = any(ord(letter) > 0x2E80 for letter in title)
    letters = max(int(72 * width / (TITLE * (1.0 if wide else 0.62))), 1)
    lines = [textwrap.wrap(line, letters) or [""] for line in title.split("\n")]
    return "\n".join(line for own in lines for line in own)


def legend_name(name: str) -> str:
    """Return the label of an entry of a legend."""
    # matplotlib leaves names that begin with _ out of the legend.
    return f" {literal(name)}"


def room_for(names: Collection[str]) -> float:
    """Return the room in inches for the longest of some names, drawn perpendicular to an axis; 0 if
    there are too many names to draw.
    """
    if len(names) > NAMED_CLASSES:
        return 0.0
    return 0.09 * min(max(map(len, names), default=0), NAME_LETTERS)


def rotation_of(names: Sequence[str]) -> int:
    """Return the rotation of names along an axis, in degrees.

    Short names stay upright, because a rotated 6 could be read as a 9.
    """
    return 90 if max(map(len, names)) > 3 else 0


def name_ticks(
    axes: Axes, axis: Literal["x", "y"], names: Collection[str], rotation: int = 0
) -> None:
    """Write names at 0, 1, 2 … along the "x" or "y" axis."""
    set_ticks = axes.set_xticks if axis == "x" else axes.set_yticks
    wrapped = ["\n".join(textwrap.wrap(name, NAME_LETTERS)) or name for name in names]
    size = "medium" if all(name == own for name, own in zip(names, wrapped, strict=True)) else LABEL
    set_ticks(
        range(len(names)), [literal(name) for name in wrapped], rotation=rotation, fontsize=size
    )
