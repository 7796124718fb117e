"""What a check found out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from matplotlib.figure import Figure


class Finding(NamedTuple):
    """One check's result, for people and for programs."""

    name: str
    """What was checked, such as "initial loss"."""
    ok: bool
    """False where it is suspicious."""
    says: str
    """What was measured and what it means: a sentence without its full stop."""
    advice: str = ""
    """What to do where it is suspicious."""
    measured: Mapping[str, Any] = {}
    """The numbers, as plain JSON values."""
    table: tuple[tuple[str, ...], ...] = ()
    """Rows for the report, the first of them the headings."""
    figure: Figure | None = None
    """The plot for the report."""

    def line(self) -> str:
        """The line that is printed."""
        return (
            f"{'ok' if self.ok else 'suspicious':<11} {self.name:<18}"
            f" {self.says}{'' if self.ok else f'. {self.advice}'}"
        )
