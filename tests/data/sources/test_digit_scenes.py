"""Guards scenes of digits: the same every time, boxes and masks exact to the pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError
from scipy.ndimage import find_objects

from cvpipe.config.digits import DigitScenes
from cvpipe.data.sources.digit_scenes import HANDWRITING, compose, digit_scenes, handwriting


def section(**settings: Any) -> DigitScenes:
    return DigitScenes(
        **{"kind": "digit_scenes", "train": 60, "validation": 10, "test": 20, **settings}
    )


def test_splits_have_the_configured_sizes_and_contain_images_with_boxes() -> None:
    splits = digit_scenes(section(size=(96, 128), channels=1))
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 60,
        "validation": 10,
        "test": 20,
    }
    for split in splits.values():
        assert split.classes == tuple("0123456789")
        for example in tf.data.Dataset.range(len(split)).map(split.read).as_numpy_iterator():
            assert example["image"].shape == (96, 128, 1) and example["image"].dtype == np.uint8
            assert (
                1 <= len(example["boxes"]) == len(example["labels"]) <= 6
                and not example["crowd"].any()
            )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_scene_depends_only_on_seed_split_and_number(channels: int) -> None:
    few, many = (compose(section(train=count, channels=channels), "train") for count in (5, 9))
    np.testing.assert_array_equal(few.images, many.images[:5])
    np.testing.assert_array_equal(few.masks, many.masks[:5])
    np.testing.assert_array_equal(few.boxes.boxes, many.boxes.boxes[: few.boxes.starts[5]])
    other = compose(section(train=5, channels=channels, seed=1), "train")
    assert (few.images != other.images).any((1, 2, 3)).all()
    assert len({image.tobytes() for image in many.images}) == 9


def test_a_box_is_the_smallest_around_the_mask_of_its_digit() -> None:
    # With one digit per scene, all labeled pixels of the mask are its ink.
    scenes = compose(section(most_digits=1), "train")
    boxes = np.rint(scenes.boxes.boxes * 128).astype(int)
    np.testing.assert_allclose(scenes.boxes.boxes * 128, boxes, atol=1e-4)
    for mask, box, label in zip(scenes.masks, boxes, scenes.boxes.labels):
        assert set(np.unique(mask)) == {0, label + 1}
        [rows, columns] = find_objects(mask.clip(0, 1))[0]
        assert [rows.start, columns.start, rows.stop, columns.stop] == box.tolist()


def test_digits_of_a_scene_hardly_overlap_and_the_mask_contains_all_of_them() -> None:
    scenes = compose(section(), "train")
    for number, mask in enumerate(scenes.masks):
        rows = scenes.boxes.rows(number)
        boxes, labels = scenes.boxes.boxes[rows] * 128, scenes.boxes.labels[rows]
        assert set(np.unique(mask)) - {0} == set(labels + 1)
        corner, end = (
            np.maximum(boxes[:, None, :2], boxes[:, :2]),
            np.minimum(boxes[:, None, 2:], boxes[:, 2:]),
        )
        shared = np.maximum(end - corner, 0).prod(-1) - np.diag(
            (boxes[:, 2:] - boxes[:, :2]).prod(-1)
        )
        assert (shared <= 0.3 * (boxes[:, 2:] - boxes[:, :2]).prod(-1)).all()


def test_digits_are_clearly_lighter_or_darker_than_the_background() -> None:
    scenes = compose(section(channels=1, most_digits=1), "train")
    differences = []
    for image, mask in zip(scenes.images[..., 0].astype(float), scenes.masks > 0):
        near = np.zeros_like(mask)
        rows, columns = find_objects(mask.astype(int))[0]
        near[rows, columns] = True
        differences.append(image[mask].mean() - image[near & ~mask].mean())
    assert min(map(abs, differences)) > 15 and min(differences) < -40 and max(differences) > 40


def test_no_handwriting_is_in_two_splits() -> None:
    patches = {
        split: {patch.tobytes() for patch in handwriting(split, 0)[0]} for split in HANDWRITING
    }
    assert sum(map(len, patches.values())) == len(set.union(*patches.values())) > 1700
    assert all(set(handwriting(split, 0)[1]) == set(range(10)) for split in HANDWRITING)


def test_a_digit_can_be_as_large_as_the_scene() -> None:
    scenes = compose(section(size=(20, 24), digit_sizes=(20, 20), train=5), "train")
    assert len(scenes.boxes.starts) == 6 and (np.diff(scenes.boxes.starts) >= 1).all()


def test_digits_larger_than_the_scene_are_refused() -> None:
    with pytest.raises(
        ValidationError, match="digit_sizes must be .* up to the scenes' shorter side, 40"
    ):
        section(size=(40, 80))
