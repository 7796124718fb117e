"""Guards segmentation against odd masks: each fault gives an error, and no score is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Cvpipe = Callable[..., tuple[int, str, str]]
PIPELINE = """\
task: segmentation
data:
  source: {kind: masks, path: DATA, train: [{images: images, masks: masks}], classes: CLASSES}
  validation: 0
  test: 0.3
  max_bad_share: 0.3
augment: [{op: scale_crop, balance: 0.5}, {op: flip}]
prepare: {size: [32, 32]}
model: {backbone: resnet8, width: 0.25, head: {kind: fcn, output_stride: 4}}
loss: {kind: softmax, dice_weight: 1, hard_pixels: 0.5}
optimizer: {kind: adamw, learning_rate: 0.002}
train: {epochs: 2, batch_size: 2, pictures: false}
"""
NAMES = "[{name: ground}, {name: square}]"
COLORS = "[{name: ground, color: '#102030'}, {name: square, color: '#F0F0F0'}]"


def write(folder: Path, name: str, mask: np.ndarray, height: int = 40, width: int = 48) -> None:
    """Write an image of noise of this size, and its mask."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(name)).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "images" / f"{name}.jpg")
    Image.fromarray(mask).save(folder / "masks" / f"{name}.png")


def square(number: int) -> np.ndarray:
    mask = np.zeros((40, 48), np.uint8)
    mask[5 + number % 8 : 20 + number % 8, 10:30] = 1
    return mask


def train(folder: Path, cvpipe: Cvpipe, classes: str = NAMES, *more: str) -> tuple[int, str, str]:
    """Run `cvpipe train` on the images in `folder`; check that it changes none of the files."""
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    pipeline = folder.parent / "pipeline.yaml"
    pipeline.write_text(PIPELINE.replace("DATA", str(folder)).replace("CLASSES", classes))
    done = cvpipe("train", pipeline, "--run", folder.parent / "run", "--json", *more)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    return done


def odd_masks(folder: Path) -> Path:
    """Fourteen plain images, three with odd masks, and two without a partner."""
    for number in range(14):
        write(folder, f"plain{number:02}", square(number))
    # A mask without labels, a mask of 16 bits, a mask of another size, and two files without a
    # partner.
    write(folder, "blank", np.full((40, 48), 255, np.uint8))
    write(folder, "deep", square(0).astype(np.uint16))
    write(folder, "smaller", square(0)[:30])
    (folder / "masks" / "plain00.png").unlink()
    (folder / "images" / "plain01.jpg").unlink()
    return folder


@pytest.mark.soak
def test_odd_masks_train_and_evaluate_without_nan(
    tmp_path: Path, cvpipe: Cvpipe, caplog: pytest.LogCaptureFixture
) -> None:
    folder = odd_masks(tmp_path / "data")
    code, out, err = train(folder, cvpipe)
    assert code == 0, err
    scores: dict[str, Any] = json.loads(out)
    assert np.isfinite(scores["mean_iou"])
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert rows and all(
        value is not None and np.isfinite(value)
        for row in rows
        for value in row.values()
        if not isinstance(value, str)
    )
    noted = [
        json.loads(line)
        for line in (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()
    ]
    assert {Path(row["record"]).name for row in noted} == {"smaller.jpg"}
    assert "48 x 30" in noted[0]["reason"] and "48 x 40" in noted[0]["reason"]
    assert "left out 1 image without a mask, such as" in caplog.text
    assert "plain00.jpg" in caplog.text
    assert "left out 1 mask without an image, such as" in caplog.text
    assert "plain01.png" in caplog.text


@pytest.mark.soak
def test_a_run_and_its_artifact_leave_out_the_same_odd_masks(
    tmp_path: Path, cvpipe: Cvpipe
) -> None:
    code, _, err = train(odd_masks(tmp_path / "data"), cvpipe)
    assert code == 0, err
    code, _, err = cvpipe("export", tmp_path / "run", "--to", tmp_path / "model", "--json")
    assert code == 0, err
    quarantined = []
    for split in ("train", "test"):
        of_run, of_model = (
            json.loads(cvpipe("evaluate", tmp_path / what, "--split", split, "--json")[1])
            for what in ("run", "model")
        )
        for key in ("images", "pixels", "quarantined"):
            assert of_run[key] == of_model[key], (split, key)
        quarantined.append(of_model["quarantined"])
    assert sum(quarantined) == 1


def test_masks_without_any_label_are_refused_before_a_run_begins(
    tmp_path: Path, cvpipe: Cvpipe
) -> None:
    folder = tmp_path / "data"
    for number in range(8):
        write(folder, f"blank{number}", np.full((40, 48), 255, np.uint8))
    code, _, err = train(folder, cvpipe)
    assert code == 1 and "all pixels of" in err and "are ignored, by data.source.ignore" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.soak
def test_an_unknown_color_is_reported_with_its_share_and_the_nearest_class(
    tmp_path: Path, cvpipe: Cvpipe
) -> None:
    folder, table = tmp_path / "data", np.array([[0x10, 0x20, 0x30], [0xF0, 0xF0, 0xF0]], np.uint8)
    for number in range(8):
        mask = table[square(number)]
        mask[-10:, :12] = (0xF0, 0xF0, 0xE0)
        write(folder, f"colored{number}", mask)
    code, _, err = train(folder, cvpipe, COLORS)
    assert code == 1
    for part in (
        "#F0F0E0",
        "6.25% of the pixels",
        "nearest: square, #F0F0F0",
        "data.source.ignore_colors: ['#F0F0E0']",
    ):
        assert part in err, err
    code, _, err = train(folder, cvpipe, COLORS, "--set", "data.source.ignore_colors=['#F0F0E0']")
    assert code == 0, err


def test_16_bit_values_above_the_classes_are_reported(tmp_path: Path, cvpipe: Cvpipe) -> None:
    folder = tmp_path / "data"
    for number in range(8):
        write(folder, f"deep{number}", square(number).astype(np.uint16) * 1000)
    code, _, err = train(folder, cvpipe)
    assert code == 1 and "1000" in err and "data.source.ignore_indices: [255, 1000]" in err
