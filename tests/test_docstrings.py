"""Guards the first words of docstrings: a verb or a noun, not a clause."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT

FILES = sorted(
    path for name in ("cvpipe", "benchmarks", "docs") for path in (ROOT / name).rglob("*.py")
)
CLAUSE = re.compile(r"(What|Whether|How|Those|Where|Which|Whoever|When)\b")


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the strings that are statements of their own, with their lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.lineno, node.value.value.strip()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_docstring_begins_with_a_clause(path: Path) -> None:
    assert [line for line, text in docstrings(path) if CLAUSE.match(text)] == []
