"""Guards frames: the stated size decides if annotations refer to the stored or upright photo."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from conftest import small_config, soaked
from cvpipe.config.coco import Coco, CocoMasks, CocoSplit
from cvpipe.config.keypoint_sources import CocoKeypoints, KeypointCsv
from cvpipe.config.voc import Voc
from cvpipe.config.yolo import Yolo
from cvpipe.data.annotations import upright
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.check import check
from cvpipe.data.decode import decode_image
from cvpipe.data.example import Example
from cvpipe.data.quarantine import why_unreadable
from cvpipe.data.sources import Source
from cvpipe.data.sources.coco import coco
from cvpipe.data.sources.keypoint_csv import keypoint_csv
from cvpipe.data.sources.merge import merge
from cvpipe.data.sources.voc import voc
from cvpipe.data.sources.yolo import yolo
from cvpipe.data.stream import encoded_batches, evaluation_batches

HEIGHT, WIDTH = 24, 40
# Top, left, bottom, right on the stored photo, far from the middle.
STORED = (4, 24, 12, 36)
SQUARE = "square"


def photo(orientation: int, height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    """A stored photo with a bright rectangle and an Exif orientation."""
    pixels = np.zeros((height, width, 3), np.uint8)
    top, left, bottom, right = STORED
    pixels[top:bottom, left:right] = 250
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    return image


def saved(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind, exif=image.getexif())
    return file.getvalue()


def bright(image: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of the bright pixels."""
    rows, columns = np.nonzero(image[..., 0] > 128)
    return int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1


def drawn(orientation: int, frame: str, times: float) -> tuple[list[int], tuple[float, ...]]:
    """The size of the stored or upright photo and its bright rectangle, multiplied by `times`."""
    image = photo(orientation)
    shown = ImageOps.exif_transpose(image) if frame == "upright" else image
    size = [round(side * times) for side in (shown.height, shown.width)]
    return size, tuple(side * times for side in bright(np.asarray(shown)))


def write(root: Path, orientation: int, kind: str = "PNG") -> None:
    (root / "images").mkdir(parents=True)
    (root / "images" / "a.png").write_bytes(saved(photo(orientation), kind))


def as_voc(root: Path, size: list[int], box: tuple[float, ...], **settings: Any) -> Source:
    sides = "".join(
        f"<{name}>{value}</{name}>" for name, value in zip(("ymin", "xmin", "ymax", "xmax"), box)
    )
    stated = f"<size><height>{size[0]}</height><width>{size[1]}</width></size>" if size else ""
    (root / "xml").mkdir()
    (root / "xml" / "a.xml").write_text(
        f"<annotation>{stated}<object><name>x</name><bndbox>{sides}</bndbox></object></annotation>"
    )
    section = Voc(
        kind="voc", path=str(root), images="images", annotations="xml", one_based=False, **settings
    )
    return voc(section)["all"]


def as_coco(
    root: Path, size: list[int], box: tuple[float, ...], kind: type[Coco] = Coco, **settings: Any
) -> Source:
    top, left, bottom, right = box
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": size[0], "width": size[1]}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
                # The centers of the pixels at two corners.
                "keypoints": [left, top, 2, right - 1, bottom - 1, 2],
            }
        ],
        "categories": [{"id": 1, "name": SQUARE, "keypoints": ["first", "last"]}],
    }
    (root / "a.json").write_text(json.dumps(content))
    split = CocoSplit(annotations="a.json", images="images")
    return coco(kind(kind="coco", path=str(root), train=split, **settings))["train"]


def as_yolo(root: Path, size: list[int], box: tuple[float, ...], **settings: Any) -> Source:
    top, left, bottom, right = (side / length for side, length in zip(box, size * 2))
    (root / "labels").mkdir()
    row = (0, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    (root / "labels" / "a.txt").write_text(" ".join(map(str, row)))
    return yolo(Yolo(kind="yolo", path=str(root), classes=("x",), **settings))["all"]


def shown(source: Source) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the upright image, and its annotations converted to the upright image."""
    assert why_unreadable(source, 0) == "the file could be read on a second try"
    example = source.read(tf.constant(0, tf.int64))
    image = decode_image(example["bytes"], 3)
    turned = upright(example, lambda: tf.shape(image)[:2])
    return image.numpy(), {key: value.numpy() for key, value in turned.items()}


def assert_on_the_bright_rectangle(source: Source) -> None:
    image, annotations = shown(source)
    assert "frame_size" not in annotations
    [box] = annotations["boxes"] * np.tile(image.shape[:2], 2)
    np.testing.assert_allclose(box, bright(image), atol=1e-3)


FRAMES = [("stored", 1), ("stored", 2), ("upright", 1), ("upright", 3), ("upright", 0.5)]


@pytest.mark.parametrize("frame, times", FRAMES)
@pytest.mark.parametrize("orientation", [6, 7])
@pytest.mark.parametrize("make", [as_voc, as_coco])
def test_boxes_refer_to_the_frame_that_the_stated_size_fits(
    tmp_path: Path, make: Any, orientation: int, frame: str, times: float
) -> None:
    write(tmp_path, orientation)
    assert_on_the_bright_rectangle(make(tmp_path, *drawn(orientation, frame, times)))


@pytest.mark.parametrize("frame, times", FRAMES)
def test_areas_are_those_of_the_image(tmp_path: Path, frame: str, times: float) -> None:
    write(tmp_path, 8)
    source = as_coco(tmp_path, *drawn(8, frame, times))
    np.testing.assert_allclose(shown(source)[1]["area"], [8 * 12], rtol=1e-5)


@pytest.mark.parametrize("frame, times", FRAMES)
def test_outlines_refer_to_the_frame_that_the_stated_size_fits(
    tmp_path: Path, frame: str, times: float
) -> None:
    write(tmp_path, 5)
    image, annotations = shown(as_coco(tmp_path, *drawn(5, frame, times), CocoMasks))
    np.testing.assert_array_equal(annotations["mask"][..., 0] == 1, image[..., 0] > 128)


@pytest.mark.parametrize("frame", ["stored", "upright"])
@pytest.mark.parametrize("orientation", [6, 8])
def test_points_refer_to_the_frame_that_the_stated_size_fits(
    tmp_path: Path, orientation: int, frame: str
) -> None:
    write(tmp_path, orientation)
    image, annotations = shown(as_coco(tmp_path, *drawn(orientation, frame, 1), CocoKeypoints))
    [points] = annotations["keypoints"] * image.shape[:2]
    top, left, bottom, right = bright(image)
    np.testing.assert_allclose(points.min(0), [top + 0.5, left + 0.5], atol=1e-4)
    np.testing.assert_allclose(points.max(0), [bottom - 0.5, right - 0.5], atol=1e-4)


@pytest.mark.parametrize("make", [as_voc, as_coco])
@pytest.mark.parametrize("on_upright", [False, True])
def test_the_key_upright_decides_if_a_size_fits_both_frames(
    tmp_path: Path, make: Any, on_upright: bool
) -> None:
    write(tmp_path, 3)
    frame = drawn(3, "upright" if on_upright else "stored", 1)
    assert_on_the_bright_rectangle(make(tmp_path, *frame, upright=on_upright))


def test_a_size_that_fits_both_frames_is_that_of_the_stored_photo(tmp_path: Path) -> None:
    write(tmp_path, 2)
    assert_on_the_bright_rectangle(as_coco(tmp_path, *drawn(2, "stored", 1)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_without_sizes_annotations_refer_to_the_upright_photo(tmp_path: Path, kind: str) -> None:
    for name, make in (("yolo", as_yolo), ("voc", as_voc)):
        write(tmp_path / name, 6, kind)
        size, box = drawn(6, "upright", 1)
        source = make(tmp_path / name, size if make is as_yolo else [], box)
        image, annotations = shown(source)
        [found] = annotations["boxes"] * np.tile(image.shape[:2], 2)
        np.testing.assert_allclose(found, bright(image), atol=1)


def test_upright_false_makes_fractions_refer_to_the_stored_photo(tmp_path: Path) -> None:
    write(tmp_path, 8)
    assert_on_the_bright_rectangle(as_yolo(tmp_path, *drawn(8, "stored", 1), upright=False))


@pytest.mark.parametrize("on_upright", [False, True])
def test_the_key_upright_selects_the_photo_that_points_of_a_table_refer_to(
    tmp_path: Path, on_upright: bool
) -> None:
    write(tmp_path, 6)
    _, (top, left, _, _) = drawn(6, "upright" if on_upright else "stored", 1)
    (tmp_path / "a.csv").write_text(f"file,p_x,p_y\na.png,{left + 0.5},{top + 0.5}\n")
    section = KeypointCsv(
        kind="keypoint_csv", path=str(tmp_path), train="a.csv", images="images", upright=on_upright
    )
    image, annotations = shown(keypoint_csv(section)["train"])
    y, x = (annotations["keypoints"][0, 0] * image.shape[:2]).astype(int)
    assert image[y, x, 0] == 250


@pytest.mark.parametrize("size", [[HEIGHT + 4, WIDTH], *soaked([100, 100], [HEIGHT, 2 * WIDTH])])
@pytest.mark.parametrize("kind", [None, Coco, CocoMasks])
def test_a_size_of_another_aspect_ratio_makes_a_bad_record(
    tmp_path: Path, kind: type[Coco] | None, size: list[int]
) -> None:
    write(tmp_path, 6)
    box = (1.0, 1.0, 9.0, 9.0)
    source = as_coco(tmp_path, size, box, kind) if kind else as_voc(tmp_path, size, box)
    result = check({"train": source}, 3)
    assert not result["clean"] and result["splits"]["train"]["broken"] == 1
    [row] = result["broken"]
    assert row["record"].endswith("images/a.png")
    assert row["reason"] == (
        f"the image has {HEIGHT} x {WIDTH} pixels, but its annotations are for an image of"
        f" {size[1]} x {size[0]} pixels"
    )


def test_a_size_rounded_to_whole_pixels_fits(tmp_path: Path) -> None:
    write(tmp_path, 6)
    # Seven times 40 × 24 is 280 × 168; the stated size is slightly larger.
    source = as_coco(tmp_path, [283, 169], (1.0, 1.0, 9.0, 9.0))
    assert check({"train": source}, 3)["clean"]


@pytest.mark.parametrize("frame", ["stored", "upright"])
def test_encoded_images_have_the_targets_of_decoded_images(tmp_path: Path, frame: str) -> None:
    write(tmp_path, 6, "JPEG")
    source = as_voc(tmp_path, *drawn(6, frame, 1))

    def encode(example: Example) -> Example:
        return {"boxes": example["boxes"]}

    decoded = evaluation_batches(source, small_config(), encode, None, 1)
    encoded = encoded_batches(source, small_config(), encode, 1)
    one, other = (next(iter(each))["targets"] for each in (decoded, encoded))
    np.testing.assert_array_equal(one["boxes"], other["boxes"])
    assert np.any(one["boxes"])


def test_merged_sources_keep_their_frames(tmp_path: Path) -> None:
    for name, orientation in (("yolo", 6), ("coco", 8)):
        write(tmp_path / name, orientation)
    parts = [
        as_yolo(tmp_path / "yolo", *drawn(6, "upright", 1)),
        as_coco(tmp_path / "coco", *drawn(8, "stored", 2)),
    ]
    plain = parts[0].annotation(Boxes)
    merged = merge([{"train": part} for part in parts])["train"]
    for index in range(2):
        assert_on_the_bright_rectangle(merged.subset(np.array([index])))
    # Boxes without frames lie on the stored image.
    joined = Boxes.join([plain, dataclasses.replace(plain, frames=None)], [1, 1])
    assert joined.frames is not None and joined.frames.upright.tolist() == [True, False]
