"""Guards the layout of MVTec AD and VisA: splits, kinds of defects, masks and what is missing."""

from __future__ import annotations

import io
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cvpipe.config.defect_sources import Mvtec
from cvpipe.data.formats import find_formats
from cvpipe.data.sources.mvtec import mvtec
from cvpipe.errors import DataError
from cvpipe.geometry.masks import IGNORED


def picture(size: tuple[int, int], value: int = 90, marked: bool = False) -> bytes:
    pixels = np.full(size, value, np.uint8)
    if marked:
        pixels[2:5, 1:3] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def bottle(tmp_path: Path) -> Path:
    """A folder in MVTec's layout, bottle/ inside."""
    root = tmp_path / "mvtec" / "bottle"
    files = {
        "train/good/000.png": picture((8, 10)),
        "train/good/001.png": picture((8, 10), 91),
        "test/good/000.png": picture((8, 12)),
        "test/crack/000.png": picture((9, 10)),
        "test/crack/001.png": picture((9, 10), 70),
        "test/hole/000.png": picture((8, 10), 60),
        "ground_truth/crack/000_mask.png": picture((9, 10), 0, marked=True),
        "ground_truth/hole/000_mask.png": picture((8, 10), 0),
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return tmp_path / "mvtec"


def opened(path: Path, root: str = "bottle") -> Mvtec:
    return Mvtec(kind="mvtec", path=str(path), root=root)


@pytest.mark.parametrize("zipped", [False, True])
def test_splits_classes_and_masks_are_read(bottle: Path, zipped: bool) -> None:
    if zipped:
        bottle = Path(shutil.make_archive(str(bottle), "zip", bottle))
    splits = mvtec(opened(bottle))
    assert {name: len(split) for name, split in splits.items()} == {"train": 2, "test": 4}
    test = splits["test"]
    assert test.facts.class_names == ("good", "crack", "hole")
    examples = [test.read(tf.constant(n, tf.int64)) for n in range(4)]
    assert [int(each["label"]) for each in examples] == [0, 1, 1, 2]
    masks = [each["mask"].numpy() for each in examples]
    assert [mask.shape for mask in masks] == [(8, 12, 1), (9, 10, 1), (9, 10, 1), (8, 10, 1)]
    assert not masks[0].any()
    assert masks[1].sum() == 6 and (masks[1][2:5, 1:3] == 1).all()
    # The third image has no mask file, so the place of its defect is unknown.
    assert (masks[2] == IGNORED).all()
    # The fourth image has a mask file without a defect.
    assert not masks[3].any()


def test_masks_may_have_their_images_names_as_in_visa(bottle: Path) -> None:
    folder = bottle / "bottle" / "ground_truth" / "crack"
    (folder / "000_mask.png").rename(folder / "000.png")
    test = mvtec(opened(bottle))["test"]
    assert test.read(tf.constant(1, tf.int64))["mask"].numpy().sum() == 6


def test_an_image_without_a_mask_and_other_folders_of_train_are_named(
    bottle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    extra = bottle / "bottle" / "train" / "crack" / "9.png"
    extra.parent.mkdir()
    extra.write_bytes(picture((8, 8)))
    with caplog.at_level(logging.WARNING):
        mvtec(opened(bottle))
    assert "1 image without a mask, such as bottle/test/crack/001.png" in caplog.text
    assert "left out; of train, only the folder good is used" in caplog.text


@pytest.mark.parametrize(
    "gone, message",
    [
        ("train/good", "train/good: no image inside; put normal images there"),
        ("test", "test: no image inside; put normal images into the folder good"),
    ],
)
def test_missing_images_are_an_error_sentence(bottle: Path, gone: str, message: str) -> None:
    shutil.rmtree(bottle / "bottle" / gone)
    with pytest.raises(DataError, match=message):
        mvtec(opened(bottle))


def test_a_missing_root_is_an_error_sentence(bottle: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder; set data\.source\.root"):
        mvtec(opened(bottle, "cable"))


def test_the_layout_is_detected_from_its_files(bottle: Path) -> None:
    found = find_formats(str(bottle))[0]
    assert (found.task, found.source["kind"], found.source["root"]) == (
        "anomaly",
        "mvtec",
        "bottle",
    )
    assert "only the folder good, and test beside it has 2 kinds of defects" in found.why
