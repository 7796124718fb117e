"""Guards that damaged files in a run give an error with the file's name, no traceback and no new
start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import small_config
from cvpipe.errors import DataError, UserError
from cvpipe.training.checkpoints import read_newest
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


def test_a_run_with_only_damaged_checkpoints_starts_again_only_when_told_to(tmp_path: Path) -> None:
    config, run = small_config(), Run(tmp_path / "run")
    known: Any = {"facts": {}, "examples": {}, "digests": {}, "images": {}}
    assert not run.start(config, known, fresh=False)
    last = run.checkpoint("last")
    last.parent.mkdir()
    last.write_bytes(b"garbage")
    assert run.start(config, known, fresh=False)
    with pytest.raises(DataError, match="damaged"):
        read_newest(last, writes=True, note=lambda message: None)
    for _ in range(2):
        with pytest.raises(DataError, match=r"all .*damaged \(damaged-1\.npz\).*--fresh"):
            run.start(config, known, fresh=False)
    assert not run.start(config, known, fresh=True)
    assert (tmp_path / "run.old-1/checkpoints/damaged-1.npz").read_bytes() == b"garbage"
