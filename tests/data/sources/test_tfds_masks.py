"""Guards masks of TensorFlow Datasets, against the library's own loading code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets
from pydantic import ValidationError

from cvpipe.config.data import Data
from cvpipe.config.tfds import TfdsMasks
from cvpipe.data.annotations.mask import Mask
from cvpipe.data.quarantine import why_unreadable
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.sources.tfds import tfds
from cvpipe.errors import DataError
from cvpipe.geometry.masks import IGNORED
from image_files import encode, noise

COUNTS = {"train": 12, "test": 4}
NAMES = ("pet", "background", "border")


def mask_of(split: str, number: int) -> np.ndarray:
    """Labels from 1 on, uint8 [H, 6, 1]."""
    return np.random.default_rng([len(split), number]).integers(
        1, 4, (5 + number % 4, 6, 1), dtype=np.uint8
    )


class SmallPets(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
    """Images with masks whose labels begin at 1."""

    VERSION = tensorflow_datasets.core.Version("1.0.0")

    def _info(self) -> Any:
        kinds = tensorflow_datasets.features
        return tensorflow_datasets.core.DatasetInfo(
            builder=self,
            features=kinds.FeaturesDict(
                {
                    "image": kinds.Image(shape=(None, None, 3), encoding_format="png"),
                    "label": kinds.ClassLabel(names=["cat", "dog"]),
                    "segmentation_mask": kinds.Image(shape=(None, None, 1), use_colormap=True),
                    "named": kinds.LabeledImage(labels=["nothing", *NAMES], shape=(None, None, 1)),
                    "heat": kinds.Image(shape=(2, 2, 1), dtype=np.float32),
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> Any:
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split: str) -> Iterator[Any]:
        for number in range(COUNTS[split]):
            mask = mask_of(split, number)
            yield (
                number,
                {
                    "image": np.repeat(mask, 3, -1),
                    "label": number % 2,
                    "segmentation_mask": mask,
                    "named": mask,
                    "heat": np.zeros((2, 2, 1), np.float32),
                },
            )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tfds")
    SmallPets(data_dir=place).download_and_prepare()
    return place


def section(folder: Path, **settings: Any) -> TfdsMasks:
    given = {"mask": "segmentation_mask", "classes": NAMES, "first_value": 1}
    return TfdsMasks(
        **{"kind": "tfds", "name": "small_pets", "data_dir": str(folder), **given, **settings}
    )


def check_masks(source: Source, labels: list[int]) -> None:
    """Check that the masks are those of the library, with labels[v] for the value v."""
    images = iter(
        tensorflow_datasets.builder(
            "small_pets", data_dir=source.locate_record(0).split("/small_pets")[0]
        ).as_dataset("train")
    )
    expected = sorted(
        np.array(labels)[row["segmentation_mask"].numpy()].tobytes() for row in images
    )
    found = tf.data.Dataset.range(len(source)).map(source.read)
    assert found.element_spec == {
        "bytes": tf.TensorSpec([], tf.string),
        "mask": tf.TensorSpec([None, None, 1], tf.uint8),
    }
    assert (
        sorted(row["mask"].astype(np.int64).tobytes() for row in found.as_numpy_iterator())
        == expected
    )


def test_masks_equal_those_of_the_library_with_labels_from_0(folder: Path) -> None:
    source = tfds(section(folder))["train"]
    assert source.classes == NAMES and len(source) == 12
    check_masks(source, [-1, 0, 1, 2])


def test_values_can_be_ignored(folder: Path) -> None:
    source = tfds(section(folder, classes=NAMES[:2], ignore_indices=(3,)))["train"]
    assert source.classes == NAMES[:2]
    check_masks(source, [-1, 0, 1, IGNORED])


def test_classes_may_come_from_the_names_of_a_features_values(folder: Path) -> None:
    source = tfds(section(folder, mask="named", classes=(), first_value=0))["train"]
    assert source.classes == ("nothing", *NAMES)
    check_masks(source, [0, 1, 2, 3])


def test_splits_are_read_or_held_out(folder: Path) -> None:
    given = open_splits(Data(source=section(folder), validation=0.25))
    assert {name: len(split) for name, split in given.items()} == {
        "train": 9,
        "validation": 3,
        "test": 4,
    }
    assert all(split.annotation(Mask) for split in given.values())


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"mask": "mask"},
            (
                "data.source.mask: small_pets/1.0.0 has no feature 'mask' of the type Image; it has"
                " heat"
            ),
        ),
        ({"mask": "label"}, "no feature 'label' of the type Image"),
        ({"mask": "image"}, "has 'image' as uint8 of 3 channels; a mask has one"),
        (
            {"mask": "heat"},
            "has 'heat' as float32 of 1 channels; a mask has one, of uint8 or uint16",
        ),
        (
            {"classes": ()},
            (
                "names 0 classes of 'segmentation_mask', not 1 to 255; name them in the order of"
                " their values"
            ),
        ),
        (
            {"first_value": 0},
            (
                r"12 of 12 masks inspected, such as .*train\[0\], have a value that no class has:"
                r" 3.*ignore_indices: \[255, 3\]"
            ),
        ),
    ],
)
def test_the_error_of_a_mistake_lists_the_available_names(
    folder: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        tfds(section(folder, **settings))


def test_an_ignored_value_must_not_belong_to_a_class(folder: Path) -> None:
    with pytest.raises(
        ValidationError, match="1 is the value of the class pet and in ignore_indices"
    ):
        section(folder, ignore_indices=(1,))


class TurnedPets(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
    """One photo with an Exif orientation, and a mask in the stored (unrotated) orientation."""

    VERSION = tensorflow_datasets.core.Version("1.0.0")
    # Orientation 6: the left edge of the stored photo is the top edge of the upright photo, and its
    # top edge is the right edge.
    TURNED = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"

    def _info(self) -> Any:
        kinds = tensorflow_datasets.features
        return tensorflow_datasets.core.DatasetInfo(
            builder=self,
            features=kinds.FeaturesDict(
                {
                    "image": kinds.Image(shape=(None, None, 3)),
                    "segmentation_mask": kinds.Image(shape=(None, None, 1), use_colormap=True),
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> Any:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[Any]:
        mask = mask_of("train", 0)
        yield (
            0,
            {
                "image": encode(noise(*mask.shape[:2]), "JPEG", exif=self.TURNED),
                "segmentation_mask": mask,
            },
        )


def test_masks_are_rotated_upright_with_their_images(tmp_path: Path) -> None:
    TurnedPets(data_dir=tmp_path).download_and_prepare()
    source = tfds(section(tmp_path, name="turned_pets", test=None))["train"]
    # The library returns photo and mask as stored, without rotation.
    [stored] = (
        tensorflow_datasets.builder("turned_pets", data_dir=tmp_path)
        .as_dataset("train")
        .as_numpy_iterator()
    )
    assert stored["image"].shape[:2] == stored["segmentation_mask"].shape[:2] == (5, 6)
    [example] = tf.data.Dataset.range(1).map(source.read).as_numpy_iterator()
    np.testing.assert_array_equal(example["mask"], np.rot90(stored["segmentation_mask"], -1) - 1)
    assert why_unreadable(source, 0) == "the file could be read on a second try"
