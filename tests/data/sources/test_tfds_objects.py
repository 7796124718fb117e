"""Guards objects of TensorFlow Datasets, against the library's own loading code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets

from cvpipe.config.data import Data
from cvpipe.config.tfds import TfdsObjects
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.sources.tfds import tfds
from cvpipe.errors import DataError

COUNTS = {"train": 9, "test": 3}
NAMES = ("cup", "plate", "spoon")


def objects_of(split: str, number: int) -> list[dict[str, Any]]:
    """Return number % 4 objects, so that some images have none."""
    random = np.random.default_rng([len(split), number])
    corners = random.uniform(0, 0.5, (number % 4, 2)).astype(np.float32)
    box = tensorflow_datasets.features.BBox
    return [
        {
            "bbox": box(ymin=y, xmin=x, ymax=y + np.float32(0.25), xmax=x + np.float32(0.5)),
            "label": int(random.integers(3)),
            "is_crowd": bool(n == 2),
            "area": 7 + n,
        }
        for n, (y, x) in enumerate(corners)
    ]


class SmallTables(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
    """Images with objects, in the features of the data set coco."""

    VERSION = tensorflow_datasets.core.Version("1.0.0")

    def _info(self) -> Any:
        kinds = tensorflow_datasets.features
        return tensorflow_datasets.core.DatasetInfo(
            builder=self,
            features=kinds.FeaturesDict(
                {
                    "image": kinds.Image(shape=(None, None, 3), encoding_format="png"),
                    "objects": kinds.Sequence(
                        {
                            "bbox": kinds.BBoxFeature(),
                            "label": kinds.ClassLabel(names=NAMES),
                            "is_crowd": np.bool_,
                            "area": np.int64,
                        }
                    ),
                    "faces": kinds.Sequence({"bbox": kinds.BBoxFeature()}),
                    "numbers": kinds.Sequence(np.int64),
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> Any:
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split: str) -> Iterator[Any]:
        for number in range(COUNTS[split]):
            image = np.full((20, 30, 3), number, np.uint8)
            yield (
                number,
                {"image": image, "objects": objects_of(split, number), "faces": [], "numbers": [1]},
            )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tfds")
    SmallTables(data_dir=place).download_and_prepare()
    return place


def section(folder: Path, **settings: Any) -> TfdsObjects:
    return TfdsObjects.model_validate(
        {
            "kind": "tfds",
            "name": "small_tables",
            "data_dir": str(folder),
            "objects": "objects",
            **settings,
        }
    )


def read(source: Source, index: int) -> dict[str, np.ndarray]:
    return {
        name: value.numpy() for name, value in source.read(tf.constant(index, tf.int64)).items()
    }


def test_objects_are_those_that_the_library_reads(folder: Path) -> None:
    source = tfds(section(folder))["train"]
    assert source.classes == NAMES and len(source) == 9
    theirs = tensorflow_datasets.load(
        "small_tables", split="train", data_dir=str(folder)
    ).as_numpy_iterator()
    for index, expected in enumerate(theirs):
        given = read(source, index)
        np.testing.assert_array_equal(tf.io.decode_png(given["bytes"]), expected["image"])
        np.testing.assert_allclose(
            given["boxes"], expected["objects"]["bbox"].reshape(-1, 4), atol=1e-6
        )
        np.testing.assert_array_equal(given["labels"], expected["objects"]["label"])
        np.testing.assert_array_equal(given["crowd"], expected["objects"]["is_crowd"])
        np.testing.assert_array_equal(given["area"], expected["objects"]["area"])


def test_splits_have_boxes_and_expressions_choose_records(folder: Path) -> None:
    chosen = section(folder, train="train[2:7]")
    splits = open_splits(Data(source=chosen, validation=0.2))
    assert len(splits["train"]) + len(splits["validation"]) == 5 and len(splits["test"]) == 3
    assert all("boxes" in splits[split].read(tf.constant(0, tf.int64)) for split in splits)


@pytest.mark.parametrize(
    "feature, message",
    [
        ("faces", "has to be a sequence with a bbox .* and a label"),
        ("numbers", "has to be a sequence"),
        ("image", "no feature 'image' of the"),
        ("things", "no feature 'things' of the type Sequence; it has .*objects"),
    ],
)
def test_a_feature_without_objects_is_an_error(folder: Path, feature: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        tfds(section(folder, objects=feature))
