"""Guards the manifest: every changed, missing or added byte of an artifact is found."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cvpipe.errors import DataError
from cvpipe.export.manifest import MANIFEST, check_manifest, write_manifest
from flip_bit import flip_bit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a small folder with its manifest."""
    for name in ("saved_model.pb", "variables/variables.index", "assets.extra/a file.json"):
        file = tmp_path / "model" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode() * 3)
    write_manifest(tmp_path / "model")
    return tmp_path / "model"


def test_an_unchanged_folder_passes_the_manifest(folder: Path) -> None:
    assert check_manifest(folder) == 3


def test_sha256sum_reads_the_manifest(folder: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", MANIFEST], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.count(": OK") == 3


def test_every_single_bit_flip_is_found_also_in_the_manifest(folder: Path) -> None:
    for file in (file for file in folder.rglob("*") if file.is_file()):
        for bit in range(8 * file.stat().st_size):
            flip_bit(file, bit)
            with pytest.raises(DataError):
                check_manifest(folder)
            flip_bit(file, bit)
    assert check_manifest(folder) == 3


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda folder: (folder / "saved_model.pb").unlink(), "saved_model.pb is missing"),
        (lambda folder: (folder / "assets").write_text("x"), "assets is not in .*; remove the"),
        (
            lambda folder: (folder / "saved_model.pb").write_text("x"),
            "differs from the exported file",
        ),
        (lambda folder: (folder / MANIFEST).write_text("nothing"), "SHA256SUMS is damaged"),
        (lambda folder: (folder / MANIFEST).write_bytes(b""), "is not in"),
        (lambda folder: (folder / MANIFEST).unlink(), "is missing, so the files can't be verified"),
    ],
)
def test_the_error_says_what_differs(
    folder: Path, change: Callable[[Path], object], said: str
) -> None:
    change(folder)
    with pytest.raises(DataError, match=said):
        check_manifest(folder)


@pytest.mark.soak
def test_a_thousand_bit_flips_over_an_artifact_are_all_found(
    artifact: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(artifact, tmp_path / "1"))
    files = sorted(file for file in copy.rglob("*") if file.is_file())
    sizes = np.array([file.stat().st_size for file in files])
    random = np.random.default_rng(0)
    for position in random.integers(0, sizes.sum(), 1000):
        number = int(np.searchsorted(np.cumsum(sizes), position, side="right"))
        content = files[number].read_bytes()
        flipped = bytearray(content)
        flipped[int(position - sizes[:number].sum())] ^= 1 << int(random.integers(8))
        files[number].write_bytes(flipped)
        with pytest.raises(DataError):
            check_manifest(copy)
        files[number].write_bytes(content)
    check_manifest(copy)
