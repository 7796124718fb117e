"""Make Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cvpipe import markdown


def shown(text: str) -> str:
    """Escape `<`, so that it isn't parsed as the start of an HTML tag."""
    return text.replace("<", "&lt;")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "".join(f"| {line} |\n" for line in markdown.table(head, list(rows)))
