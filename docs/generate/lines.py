"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cvpipe import markdown


def shown(text: str) -> str:
    """Return a text whose angle brackets are shown, not read as HTML."""
    return text.replace("<", "&lt;")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    return "".join(f"| {line} |\n" for line in markdown.table(head, list(rows)))
