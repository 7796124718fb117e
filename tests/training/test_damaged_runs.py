"""Guards that a damaged JSON file in a run gives an error with the file's name, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvpipe.errors import UserError
from cvpipe.training.run import Run

DAMAGED = [b"", b"[]", b"7", b"{", b"\xff\xfe{}", b"[" * 200_000, b"{}"]


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: repr(content[:6]))
def test_a_damaged_file_of_a_run_is_named(tmp_path: Path, content: bytes) -> None:
    for name in ("run.json", "config.json"):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="run.json"):
        _ = Run(tmp_path).known
    with pytest.raises(UserError, match="config.json"):
        _ = Run(tmp_path).config
