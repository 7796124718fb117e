"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cvpipe import markdown


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    return "".join(f"| {line} |\n" for line in markdown.table(head, list(rows)))
