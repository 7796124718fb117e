"""Guards the length of lines: 100 columns, in files that ruff doesn't check."""

from __future__ import annotations

import subprocess

import pytest

from conftest import ROOT

COLUMNS = 100
ENDINGS = (".md", ".yaml", ".yml", ".sh", ".cfg", ".toml", "Makefile", ".ci/run")
LISTED = subprocess.run(
    ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
).stdout
FILES = [name for name in LISTED.split("\0") if name.endswith(ENDINGS)]


@pytest.mark.skipif(not FILES, reason="this is no clone")
def test_no_line_is_longer_than_100_columns() -> None:
    long = [
        f"{name}:{number}"
        for name in FILES
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1)
        # A row of a table can't be wrapped.
        if len(line) > COLUMNS and not (name.endswith(".md") and line.startswith("|"))
    ]
    assert not long
