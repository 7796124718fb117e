"""Guards detection with odd annotated images: training goes on, and no number is NaN."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from image_files import encode

Cvpipe = Callable[..., tuple[int, str, str]]
PIPELINE = """\
task: detection
data: {source: {kind: voc, path: DATA}, max_objects: 50, max_bad_share: 0.2}
augment: [{op: expand}, {op: iou_crop}, {op: mosaic}, {op: flip}]
prepare: {size: [32, 32]}
model: {backbone: resnet8, width: 0.25, head: HEAD}
loss: {kind: LOSS}
optimizer: {kind: adamw, learning_rate: 0.002}
train: {epochs: 1, batch_size: 4, pictures: false}
"""
HEADS = {
    "ssd": ("{kind: ssd, strides: [2, 4]}", "multibox"),
    "yolo_v1": ("{kind: yolo_v1, stride: 4}", "yolo"),
    "yolo_v3": ("{kind: yolo_v3, strides: [2, 4], anchors: [[0.1, 0.1], [0.4, 0.4]]}", "yolo"),
}


def xml(boxes: list[tuple[int, int, int, int]], height: int, width: int) -> str:
    """Return the XML of an image's annotations; boxes are xmin, ymin, xmax, ymax."""
    objects = "".join(
        "<object><name>square</name><bndbox>"
        f"<xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for a, b, c, d in boxes
    )
    size = f"<width>{width}</width><height>{height}</height><depth>3</depth>"
    return f"<annotation><size>{size}</size>{objects}</annotation>"


def squares(
    name: str,
    folder: Path,
    boxes: list[tuple[int, int, int, int]],
    size: tuple[int, int] = (64, 64),
    image: bool = True,
) -> None:
    """Write an image of light squares on dark noise, and its annotation file."""
    pixels = np.random.default_rng(len(name)).integers(0, 60, (*size, 3)).astype(np.uint8)
    for left, top, right, bottom in boxes:
        pixels[top - 1 : bottom, left - 1 : right] = 230
    (folder / "Annotations" / f"{name}.xml").write_text(xml(boxes, *size))
    if image:
        (folder / "JPEGImages" / f"{name}.jpg").write_bytes(encode(pixels, "JPEG"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write twelve plain images and five odd ones: without objects, with 1000 objects, missing,
    with a repeated object, and one pixel high.
    """
    folder = tmp_path / "data"
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for number in range(12):
        squares(f"plain{number}", folder, [(5 + number, 10, 25 + number, 30)])
    squares("empty", folder, [])
    squares(
        "crowded",
        folder,
        [
            (1 + 2 * (n % 32), 1 + 2 * (n // 32), 2 + 2 * (n % 32), 2 + 2 * (n // 32))
            for n in range(1000)
        ],
    )
    squares("missing", folder, [(5, 5, 30, 30)], image=False)
    squares("twice", folder, [(5, 5, 30, 30), (5, 5, 30, 30), (40, 40, 60, 60)])
    squares("line", folder, [(100, 1, 2000, 1)], size=(1, 5000))
    names = [file.stem for file in sorted((folder / "Annotations").iterdir())]
    (folder / "ImageSets" / "Main" / "train.txt").write_text("\n".join(names))
    (folder / "ImageSets" / "Main" / "val.txt").write_text("empty")
    (folder / "ImageSets" / "Main" / "test.txt").write_text("\n".join(names))
    return folder


@pytest.mark.soak
@pytest.mark.parametrize("head", ["ssd", "yolo_v3"])
def test_odd_images_train_and_evaluate_without_nan(
    head: str, data: Path, tmp_path: Path, cvpipe: Cvpipe, caplog: pytest.LogCaptureFixture
) -> None:
    before = {file: file.read_bytes() for file in data.rglob("*") if file.is_file()}
    chosen, loss = HEADS[head]
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(
        PIPELINE.replace("DATA", str(data)).replace("HEAD", chosen).replace("LOSS", loss)
    )
    epochs = f"--set=train.epochs={1 if head == 'ssd' else 2}"
    code, out, err = cvpipe("train", pipeline, "--run", tmp_path / "run", "--json", epochs)
    assert code == 0, err
    assert (
        "crowded.jpg (1900 beyond data.max_objects" in caplog.text
        and "twice.xml (2 repeated" in caplog.text
    )
    scores = json.loads(out)
    assert scores["images"] == 16 and scores["quarantined"] == 1
    # Objects of the missing image and objects without area aren't counted.
    assert scores["objects"] == 12 + 50 + 2
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert all(
        np.isfinite(value) for row in rows for value in row.values() if isinstance(value, float)
    )
    validation = [row for row in rows if row["split"] == "validation"]
    assert validation and all(row["objects"] == 0 and row["ap50"] is None for row in validation)
    (noted,) = [
        json.loads(line)
        for line in (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()
        if '"test"' in line
    ]
    assert "missing.jpg" in noted["record"]
    assert {file: file.read_bytes() for file in data.rglob("*") if file.is_file()} == before


@pytest.mark.soak
def test_a_training_split_without_objects_is_refused(tmp_path: Path, cvpipe: Cvpipe) -> None:
    folder = tmp_path / "data"
    for part in ("Annotations", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    for number in range(12):
        squares(f"empty{number}", folder, [])
    pipeline, overrides = (
        tmp_path / "pipeline.yaml",
        ("data.source.classes=[square]", "train.epochs=1"),
    )
    pipeline.write_text(
        PIPELINE.replace("DATA", str(folder))
        .replace("HEAD", HEADS["ssd"][0])
        .replace("LOSS", "multibox")
    )
    changes = [f"--set={change}" for change in overrides]
    code, _, err = cvpipe("train", pipeline, "--run", tmp_path / "run", *changes)
    assert code == 1 and "nothing to learn in 12 training images: no object is left" in err
    assert not (tmp_path / "run").exists()
