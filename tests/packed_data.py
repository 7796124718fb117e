"""Sources of every kind of annotation, and functions that pack them, for tests of packed data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from conftest import ROOT, small_config
from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.data.packed.manifest import Manifest
from cvpipe.data.packed.pack import pack
from cvpipe.data.packed.reduce import Reduction
from cvpipe.data.sources import Source, open_source
from image_files import encode, smooth, write_classes

DRAWN = (
    "data.source.size=[48, 64]",
    "data.source.train=6",
    "data.source.validation=2",
    "data.source.test=3",
    "prepare.size=[32, 32]",
    "model.width=0.125",
    "train.batch_size=3",
)
DIGITS = "data.source.digit_sizes=[16, 32]"
AS_THEY_ARE = Reduction()
# Exif orientations of the photos; 6 and 8 are quarter turns.
TURNS = [1, 6, 3, 8]


def photo(number: int, height: int = 30, width: int = 44) -> bytes:
    """Return a JPEG photo in one of four Exif orientations; every fifth photo is an upright PNG."""
    image = smooth(height, width, seed=number)
    if number % 5 == 4:
        return encode(image, "PNG")
    exif = Image.Exif()
    exif[0x0112] = TURNS[number % 4]
    return encode(image, "JPEG", exif=exif, quality=95)


def write_labeled(folder: Path) -> Config:
    """Write photos of two classes, of which one photo is truncated; return a pipeline for them."""
    classes = {"cat": [photo(n) for n in range(5)], "dog": [photo(n) for n in range(5, 12)]}
    classes["dog"][3] = classes["dog"][3][:300]
    write_classes(folder, classes)
    return small_config(
        f"data.source={{kind: folder, path: {folder}}}",
        "prepare.size=[12, 10]",
        "prepare.channels=3",
        "train.batch_size=4",
        "data.max_bad_share=0.5",
        "augment=[{op: flip}, {op: random_resized_crop}]",
    )


def write_keypoints(folder: Path) -> Config:
    """Write rotated photos with keypoints in COCO's JSON, of which one photo is missing; return a
    pipeline for them.
    """
    (folder / "photos").mkdir(parents=True)
    images, objects = [], []
    for number in range(10):
        if number != 7:
            (folder / "photos" / f"{number}.jpg").write_bytes(photo(number))
        images.append({"id": number, "file_name": f"{number}.jpg", "height": 30, "width": 44})
        for each in range(number % 3 if number else 1):
            x, y = 2 + 3 * each + number, 3 + each
            objects.append(
                {
                    "id": len(objects),
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [x, y, 20, 14],
                    "area": 200 + each,
                    "iscrowd": 0,
                    "keypoints": [x + 1, y + 2, 2, x + 9, y + 3, 1, 0, 0, 0],
                    "num_keypoints": 2,
                }
            )
    category = {"id": 1, "name": "cat", "keypoints": ["left_eye", "right_eye", "tail"]}
    instances = {"images": images, "annotations": objects, "categories": [category]}
    (folder / "train.json").write_text(json.dumps(instances))
    return config_file.load(
        ROOT / "pipelines/pose/stick_figures.yaml",
        [
            f"data.source={{kind: coco, path: {folder}, train: {{annotations: train.json,"
            " images: photos}}",
            "prepare.size=[32, 32]",
            "model.width=0.125",
            "train.batch_size=3",
            "data.max_bad_share=0.5",
        ],
    )


def drawn(pipeline: str, *overrides: str) -> Callable[[Path], Config]:
    """Return a function that makes a pipeline with drawn images, which need no folder."""
    return lambda folder: config_file.load(ROOT / "pipelines" / pipeline, [*DRAWN, *overrides])


# Functions that make a pipeline for each kind of annotation, with its files in a given folder.
CASES: dict[str, Callable[[Path], Config]] = {
    "labels of arrays": lambda folder: small_config("train.batch_size=3", "data.limit=40"),
    "labels of photos": write_labeled,
    "boxes": drawn("detection/digit_scenes_ssd.yaml", DIGITS),
    "masks": drawn("segmentation/digit_scenes_fcn.yaml", DIGITS),
    "keypoints": drawn("pose/stick_figures.yaml"),
    "keypoints of photos": write_keypoints,
}


def splits_of(config: Config) -> dict[str, Source]:
    """Return the splits of a pipeline's source."""
    return open_source(config.data.source, config.data)


def pack_all(
    config: Config, place: Path | str, reduction: Reduction = AS_THEY_ARE, **options: Any
) -> Manifest:
    """Pack the data of a pipeline."""
    return pack(splits_of(config), str(place), {}, reduction, **{"shard_bytes": 4_000, **options})


def packed_config(config: Config, place: Path | str, **keys: Any) -> Config:
    """Return the pipeline with packed data in place of its source."""
    data = config.data.model_dump(mode="json")
    data["source"] = {"kind": "packed", "path": str(place), **keys}
    return config.model_copy(update={"data": type(config.data).model_validate(data)})


def assert_same(first: Any, second: Any) -> None:
    """Check that two nested values have the same arrays, bit for bit."""
    tf.nest.assert_same_structure(first, second)
    for values in zip(tf.nest.flatten(first), tf.nest.flatten(second), strict=True):
        one, other = map(np.asarray, values)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        if one.dtype == object:
            assert one.tolist() == other.tolist()
        else:
            assert one.tobytes() == other.tobytes()
