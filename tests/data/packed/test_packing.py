"""Guards packing: any number of workers and interruptions gives the same files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import DIGITS, ROOT, small_config
from cvpipe.cli import main
from cvpipe.data.packed.reduce import Reduction
from cvpipe.data.packed.shard import ShardWriter
from cvpipe.errors import ConfigError
from image_files import encode
from packed_data import pack_all, write_labeled


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_files_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    for workers in (1, 3):
        pack_all(small_config(), tmp_path / str(workers), shard_bytes=40_000, workers=workers)
    first, second = contents(tmp_path / "1"), contents(tmp_path / "3")
    assert len(first) > 6 and first == second


def test_only_shards_that_failed_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, written = write_labeled(tmp_path / "photos"), []
    write = ShardWriter.write

    def counted(shard_writer: ShardWriter, index: np.ndarray, file: Path) -> Any:
        written.append(file.name)
        if len(written) in (3, 4):
            file.write_bytes(b"half")
            raise KeyboardInterrupt
        return write(shard_writer, index, file)

    pack_all(config, tmp_path / "whole")
    monkeypatch.setattr(ShardWriter, "write", counted)
    with pytest.raises(KeyboardInterrupt):
        pack_all(config, tmp_path / "packed")
    there = contents(tmp_path / "packed")
    assert "manifest.json" not in there and not [name for name in there if "partial" in name]
    tried = len(written)
    pack_all(config, tmp_path / "packed")
    whole = contents(tmp_path / "whole")
    assert contents(tmp_path / "packed") == whole
    finished = [name for name in there if name.endswith(".npz")]
    assert len(finished) == 2 and len(written) == tried + len(whole) // 2 - 2
    # Once packing is complete, nothing is written again.
    written.clear()
    pack_all(config, tmp_path / "packed")
    assert not written


@pytest.mark.soak
def test_a_folder_with_other_content_is_refused(tmp_path: Path) -> None:
    config = small_config()
    pack_all(config, tmp_path / "packed")
    with pytest.raises(ConfigError, match="was packed with other options"):
        pack_all(config, tmp_path / "packed", Reduction(longest_side=4))
    with pytest.raises(ConfigError, match="was packed from other data"):
        pack_all(write_labeled(tmp_path / "photos"), tmp_path / "packed")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    with pytest.raises(ConfigError, match="not empty and holds something else; .*--to"):
        pack_all(config, tmp_path / "other")


def test_the_command_prints_what_it_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["data", "pack", str(DIGITS), "--to", str(tmp_path / "packed")]
    assert main([*arguments, "--shard-size", "0.05", "--json"]) == 0
    message = json.loads(capsys.readouterr().out)
    assert message["splits"]["all"]["examples"] == 1797 and message["splits"]["all"]["shards"] > 2
    size = sum(path.stat().st_size for path in (tmp_path / "packed").glob("*.array_record"))
    assert message["splits"]["all"]["bytes"] == size
    assert main(arguments) == 0
    assert f"kind: packed, path: {tmp_path / 'packed'}" in capsys.readouterr().out


def test_files_that_changed_since_they_were_packed_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for n in range(2):
            file = tmp_path / "data" / folder / f"{n}.png"
            file.write_bytes(encode(np.zeros((8, 8, 1), np.uint8), "PNG"))
    source = (
        f"data.source={{kind: masks, path: {tmp_path / 'data'},"
        " classes: [{name: a}, {name: b}], train: [{images: images, masks: masks}]}"
    )
    pipeline = ROOT / "pipelines" / "segmentation" / "digit_scenes_fcn.yaml"
    words = ["data", "pack", str(pipeline), "--to", str(tmp_path / "packed"), "--set", source]
    assert main(words) == 0 and main(words) == 0
    corrected = tmp_path / "data" / "masks" / "1.png"
    corrected.write_bytes(encode(np.ones((8, 8, 1), np.uint8), "PNG"))
    capsys.readouterr()
    assert main(words) == 2
    assert "was packed from files that have changed since" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    [["--quality", "0"], ["--quality", "101"], ["--longest-side", "0"], ["--workers", "0"]],
)
def test_numbers_out_of_range_are_refused(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "pack", str(DIGITS), "--to", str(tmp_path / "x"), *option]) == 2
    assert f"{option[0]} {option[1]}: give a number" in capsys.readouterr().err


@pytest.mark.soak
def test_packing_that_is_killed_again_and_again_ends_with_the_same_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cvpipe", "data", "pack", str(DIGITS)]
    options = ["--shard-size", "0.02", "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [*command, "--to", str(tmp_path / "whole"), *options], check=True, env=environment
    )
    packed, finished = tmp_path / "packed", []
    for _ in range(6):
        process = subprocess.Popen(
            [*command, "--to", str(packed), *options], env=environment, stderr=subprocess.DEVNULL
        )
        before = len(list(packed.glob("*.npz")))
        # Wait until the process has written more files.
        while process.poll() is None and len(list(packed.glob("*.npz"))) < before + 2:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        finished.append(process.wait())
        if finished[-1] == 0:
            break
    assert finished.count(-signal.SIGKILL) >= 3, finished
    subprocess.run([*command, "--to", str(packed), *options], check=True, env=environment)
    shutil.rmtree(tmp_path / "again", ignore_errors=True)
    assert contents(packed) == contents(tmp_path / "whole")
