"""Guards the temporary folder of exports: none is left by a killed export."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from cvpipe.export.unchecked import unchecked_folder

EXPORT = """
import pathlib, sys, time
from cvpipe.export.unchecked import unchecked_folder
with unchecked_folder(pathlib.Path(sys.argv[1])) as folder:
    folder.mkdir()
    print(folder, flush=True)
    time.sleep(60)
"""


def started(model: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a process that holds a temporary folder; return it and the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", EXPORT, str(model)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_an_export_that_sigterm_ends_removes_its_folder(tmp_path: Path) -> None:
    process, folder = started(tmp_path)
    assert folder.is_dir()
    process.send_signal(signal.SIGTERM)
    assert process.wait() != 0 and not folder.exists()


def test_the_next_export_removes_the_folder_of_a_killed_one_only(tmp_path: Path) -> None:
    (killed, left), (running, kept) = started(tmp_path), started(tmp_path)
    killed.kill()
    killed.wait()
    assert left.is_dir()
    other = tmp_path / "unchecked-other-machine-1"
    other.mkdir()
    with unchecked_folder(tmp_path):
        assert not left.exists() and kept.is_dir() and other.is_dir()
    running.kill()
    running.wait()
