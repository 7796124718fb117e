"""Tables and numbers in the Markdown files that cvpipe writes."""

from __future__ import annotations

import math
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, without the outer bars."""
    lines = [head, ["---"] * len(head), *rows]
    # A line break or an unescaped bar would end the cell.
    return [
        " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in line) for line in lines
    ]


def number(value: float) -> str:
    """Return a score as text, floats with four decimals; "–" for NaN."""
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4f}"
    return str(value)


def interval_text(low: float, high: float) -> str:
    """Return an interval of scores as text."""
    return f"{low:.4f} to {high:.4f}"
