"""Guards altered sources: their images change; annotations, order and names don't."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from conftest import small_config
from cvpipe.config.yolo import Yolo
from cvpipe.data.altered import altered
from cvpipe.data.annotations import upright
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.sources.yolo import yolo
from cvpipe.data.stream import encoded_batches, evaluation_batches
from cvpipe.tasks.classification import encode


def brighter(image: np.ndarray, record: int) -> np.ndarray:
    return np.minimum(image // 2 + record % 100, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def source() -> Source:
    return open_splits(small_config().data)["test"].subset(np.array([5, 3, 40]))


def test_only_the_images_are_altered_as_a_function_of_image_and_record(source: Source) -> None:
    changed = altered(source, brighter, 1)
    assert (
        len(changed) == 3
        and changed.digest() == source.digest()
        and changed.classes == source.classes
    )
    for index in range(3):
        before, after = (one.read(tf.constant(index, tf.int64)) for one in (source, changed))
        expected = brighter(before["image"].numpy(), int(source.records[index]))
        np.testing.assert_array_equal(after["image"], expected)
        assert after["label"] == before["label"]


def test_a_subset_of_an_altered_source_has_the_same_images(source: Source) -> None:
    changed = altered(source, brighter, 1)
    some = changed.subset(np.array([2, 0]))
    np.testing.assert_array_equal(
        some.read(tf.constant(0, tf.int64))["image"],
        changed.read(tf.constant(2, tf.int64))["image"],
    )


def test_evaluation_and_artifacts_get_the_altered_images(source: Source) -> None:
    config, changed = small_config("train.batch_size=3"), altered(source, brighter, 1)
    [batch] = evaluation_batches(changed, config, encode, None, 3)
    [encoded] = encoded_batches(changed, config, encode, 3)
    for index in range(3):
        image = changed.read(tf.constant(index, tf.int64))["image"]
        np.testing.assert_array_equal(tf.io.decode_png(encoded["bytes"][index]), image)
    np.testing.assert_array_equal(batch["targets"]["label"], encoded["targets"]["label"])
    [plain] = evaluation_batches(source, config, encode, None, 3)
    assert (batch["image"] != plain["image"]).numpy().any()


def test_annotations_of_rotated_photos_are_upright_as_the_image(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    pixels = np.zeros((24, 40, 3), np.uint8)
    pixels[4:12, 24:36] = 250
    photo = Image.fromarray(pixels)
    photo.getexif()[0x0112] = 6
    photo.save(tmp_path / "images" / "a.png", exif=photo.getexif())
    (tmp_path / "labels" / "a.txt").write_text(f"0 {30 / 40} {8 / 24} {12 / 40} {8 / 24}")
    plain = yolo(Yolo(kind="yolo", path=str(tmp_path), classes=("x",)))["all"]
    first = tf.constant(0, tf.int64)
    unchanged = altered(plain, lambda image, record: image, 3)
    example = tf.function(unchanged.read)(first)
    extent = tf.shape(example["image"])[:2]
    assert extent.numpy().tolist() == [40, 24]
    expected = upright(plain.read(first), lambda: extent)["boxes"]
    for boxes in (example["boxes"], upright(example, lambda: extent)["boxes"]):
        np.testing.assert_allclose(boxes, expected, atol=1e-6)
