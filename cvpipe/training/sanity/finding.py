"""The result of one sanity check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from matplotlib.figure import Figure


class Finding(NamedTuple):
    """Result of one check, as text and as numbers."""

    name: str
    """Name of the check, such as "initial loss"."""
    ok: bool
    """False if the result is suspicious."""
    says: str
    """The measurement and its meaning: a sentence without the final period."""
    advice: str = ""
    """Advice for a suspicious result: a sentence without the final period."""
    measured: Mapping[str, Any] = {}
    """Measured numbers, as plain JSON values."""
    table: tuple[tuple[str, ...], ...] = ()
    """Rows for the report; the first row holds the headings."""
    figure: Figure | None = None
    """The plot for the report."""

    def line(self) -> str:
        """Return the line to print."""
        return (
            f"{'ok' if self.ok else 'suspicious':<11} {self.name:<18}"
            f" {self.says}{'' if self.ok else f'. {self.advice}'}"
        )
