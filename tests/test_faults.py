"""Guards training with faulty data or disks: each fault is a sentence, and nothing is lost."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from image_files import black_png, encode

Cvpipe = Callable[..., tuple[int, str, str]]
TRAIN, TEST = 200, 100
PIPELINE = """\
task: classification
data:
  source:
    {kind: csv, path: PHOTOS, train: train.csv, test: test.csv, path_column: file,
     label_column: color}
  validation: 0
prepare: {size: [16, 16], channels: 1}
model: {backbone: two_layer}
optimizer: {kind: sgd, learning_rate: 0.05}
train: {epochs: 1, batch_size: 20, pictures: false}
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write dark and bright images with their tables; return the folder."""
    folder = tmp_path / "photos"
    random = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("test", TEST)):
        (folder / split).mkdir(parents=True)
        rows = ["file,color"]
        for number in range(count):
            name, low = f"{split}/{number:03}.png", (0, 128)[number % 2]
            (folder / name).write_bytes(
                encode(random.integers(low, low + 128, (8, 8, 1), np.uint8), "PNG")
            )
            rows.append(f"{name},{('dark', 'bright')[number % 2]}")
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "pipeline.yaml").write_text(PIPELINE.replace("PHOTOS", str(folder)))
    return folder


@pytest.fixture
def train(cvpipe: Cvpipe, photos: Path) -> Cvpipe:
    """Return a function that runs `cvpipe train` on the photos with more arguments, and returns
    exit code, stdout, stderr.

    The function also checks that no photo or table changes.
    """

    def run(*arguments: Any) -> tuple[int, str, str]:
        before = {file: file.read_bytes() for file in photos.rglob("*") if file.is_file()}
        done = cvpipe(
            "train",
            photos.parent / "pipeline.yaml",
            "--run",
            photos.parent / "run",
            "--json",
            *arguments,
        )
        assert {file: file.read_bytes() for file in photos.rglob("*") if file.is_file()} == before
        return done

    return run


def quarantined(photos: Path) -> dict[str, str]:
    """Return the reasons in quarantine.jsonl by file path inside the folder."""
    rows = [
        json.loads(line)
        for line in (photos.parent / "run" / "quarantine.jsonl").read_text().splitlines()
    ]
    assert len({row["record"] for row in rows}) == len(rows)
    return {str(Path(row["record"]).relative_to(photos)): row["reason"] for row in rows}


@pytest.mark.soak
def test_one_percent_of_broken_files_is_counted_exactly(train: Cvpipe, photos: Path) -> None:
    broken = ["train/017.png", "train/160.png", "test/050.png"]
    for name in broken:
        (photos / name).write_bytes((photos / name).read_bytes()[:-30])
    code, out, err = train()
    result = json.loads(out)
    assert code == 0, err
    assert result["ended"] == "finished"
    assert (result["images"], result["quarantined"]) == (TEST - 1, 1)
    assert quarantined(photos) == dict.fromkeys(
        broken, "the PNG is damaged, cut off or of an unusual kind"
    )


@pytest.mark.soak
def test_thirty_percent_of_broken_files_stop_the_run_with_an_error(
    train: Cvpipe, photos: Path
) -> None:
    for number in range(0, TRAIN, 10):
        for name in (f"train/{number + n:03}.png" for n in range(3)):
            (photos / name).write_bytes(b"garbage")
    code, out, err = train()
    assert (code, out) == (1, "")
    assert "of the train split's 200 records can't be read" in err
    assert "data.max_bad_share allows 5.0%" in err and "Correct or remove them" in err
    assert len(quarantined(photos)) > 10


def test_a_row_whose_file_is_missing_is_left_out_and_named(train: Cvpipe, photos: Path) -> None:
    (photos / "test" / "003.png").unlink()
    code, out, _ = train()
    assert code == 0
    assert json.loads(out)["quarantined"] == 1
    assert quarantined(photos) == {"test/003.png": "the file is missing"}


def test_a_label_that_occurs_only_in_the_test_split_is_refused_with_its_line(
    train: Cvpipe, photos: Path
) -> None:
    (photos / "test" / "green.png").write_bytes((photos / "test" / "000.png").read_bytes())
    with (photos / "test.csv").open("a") as table:
        table.write("test/green.png,green\n")
    code, out, err = train()
    assert (code, out) == (1, "")
    assert f"test.csv:{TEST + 2}" in err and "'green'" in err and "bright, dark" in err
    assert not (photos.parent / "run").exists()


def test_files_with_a_wrong_extension_are_read_and_files_of_other_types_are_left_out(
    train: Cvpipe, photos: Path
) -> None:
    (photos / "train" / "000.png").write_bytes(encode(np.zeros((8, 8, 3), np.uint8), "JPEG"))
    (photos / "train" / "001.png").write_bytes(b"I am a text file in disguise.\n")
    (photos / "train" / "002.png").write_bytes(encode(np.zeros((8, 8, 1), np.uint8), "GIF"))
    assert train()[0] == 0
    refused = "not a JPEG, PNG, BMP or WebP image (GIF and other formats are refused)"
    assert quarantined(photos) == {"train/001.png": refused, "train/002.png": refused}


@pytest.mark.soak
def test_an_image_with_a_huge_size_in_its_header_is_refused_before_decoding(
    train: Cvpipe, photos: Path
) -> None:
    small = black_png(1, 1)
    (photos / "train" / "000.png").write_bytes(
        small[:16] + (20_000).to_bytes(4, "big") * 2 + small[24:]
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert train()[0] == 0
    # Decoded, the image would take 400 MB in gray.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 350_000
    assert quarantined(photos) == {
        "train/000.png": "the header says 20000 x 20000 pixels, but 1 to 100,000,000 are allowed"
    }


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(
    train: Cvpipe, photos: Path
) -> None:
    code, out, err = train("--set", "optimizer.learning_rate=1e30")
    assert (code, out) == (1, "")
    assert "the loss is not finite at step" in err and "Lower optimizer.learning_rate" in err
    named = json.loads((photos.parent / "run" / "not_finite.json").read_text())
    assert len(named["examples"]) == 20 and all(Path(name).is_file() for name in named["examples"])


@pytest.mark.soak
def test_a_full_disk_keeps_the_previous_checkpoint_and_the_run_resumes_later(
    train: Cvpipe, photos: Path
) -> None:
    longer = ("--set", "train.epochs=2", "--set", "train.evaluate_every=1")
    whole = photos.parent / "whole"
    assert train(*longer)[0] == 0
    (photos.parent / "run").rename(whole)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The first checkpoint larger than the limit fails as on a full disk, with an OSError during the
    # write.
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        code, _, err = train(*longer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1
    assert (
        "the checkpoint can't be written" in err
        and "Free disk space and run the same command" in err
    )
    assert not list((photos.parent / "run" / "checkpoints").glob("*partial*"))
    assert train(*longer)[0] == 0
    with (
        np.load(whole / "checkpoints" / "last.npz") as expected,
        np.load(photos.parent / "run" / "checkpoints" / "last.npz") as arrays,
    ):
        assert all((arrays[key] == expected[key]).all() for key in expected)
