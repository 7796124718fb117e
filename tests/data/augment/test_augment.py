"""Guards operations in a row: in the pipeline's order, each with its own randomness."""

from __future__ import annotations

import typing
from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter

from cvpipe.config.augment.augmentation import Augmentation
from cvpipe.config.augment.color import ColorJitter, PcaLighting
from cvpipe.config.augment.crops import PadCrop, RandomResizedCrop
from cvpipe.config.augment.geometry import Flip
from cvpipe.config.classification import ClassificationAugmentation
from cvpipe.data.augment import augment
from cvpipe.data.augment.geometry import flip, pad_crop
from cvpipe.data.order import example_seed

IMAGE = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
FLIP, PAD_CROP = Flip(op="flip"), PadCrop(op="pad_crop", padding=2)
ALL = [
    FLIP,
    PAD_CROP,
    RandomResizedCrop(op="random_resized_crop"),
    ColorJitter(op="color_jitter", brightness=0.5, hue=0.1),
    FLIP,
]

# Each operation alone, strong and frequent enough to change the image. test_policies.py tests the
# policies, and test_boxes.py tests expand.
EVERY: list[dict[str, typing.Any]] = [
    {"op": "flip", "probability": 1},
    {"op": "flip", "direction": "vertical", "probability": 1},
    {"op": "pad_crop"},
    {"op": "pad_crop", "mode": "reflect"},
    {"op": "random_resized_crop"},
    {"op": "short_side_crop", "sides": [5, 9]},
    {"op": "rotate", "degrees": 90},
    {"op": "rotate", "fill": "reflect"},
    {"op": "translate", "share": 1, "fill": "nearest"},
    {"op": "shear", "degrees": 60},
    {"op": "lens", "strength": 0.5},
    {"op": "lens", "strength": 0.5, "fill": "reflect"},
    {"op": "color_jitter", "brightness": 1, "contrast": 1, "saturation": 1, "hue": 0.5},
    {"op": "pca_lighting", "std": 5},
    {"op": "grayscale", "probability": 1},
    {"op": "erase", "probability": 1},
    {"op": "erase", "probability": 1, "fill": "mean"},
    {"op": "cutout"},
    {"op": "scale_jitter"},
    {"op": "scale_crop"},
    {"op": "elastic", "share": 0.2},
    {"op": "elastic", "share": 0.1, "points": 4, "fill": "reflect"},
]


def key(index: int) -> tf.Tensor:
    return example_seed(0, tf.constant(0, tf.int64), tf.constant(index, tf.int64))


def augmented(ops: Sequence[Augmentation], count: int) -> list[np.ndarray]:
    """Return the image, augmented as examples 0 … count − 1 of epoch 0, inside Dataset.map."""

    @tf.autograph.experimental.do_not_convert
    def one(index: tf.Tensor) -> tf.Tensor:
        return augment(
            {"image": tf.constant(IMAGE)},
            example_seed(0, tf.constant(0, tf.int64), index),
            ops,
            (5, 5),
        )["image"]

    return list(tf.data.Dataset.range(count).map(one).as_numpy_iterator())


def test_nothing_changes_without_operations() -> None:
    [image] = augmented([], 1)
    np.testing.assert_array_equal(image, IMAGE)


def test_operations_are_applied_in_order_each_with_the_next_seed() -> None:
    expected = pad_crop(
        flip({"image": tf.constant(IMAGE)}, key(3), FLIP),
        key(3) + tf.constant([0, 1], tf.int64),
        PAD_CROP,
    )["image"]
    np.testing.assert_array_equal(augmented([FLIP, PAD_CROP], 4)[3], expected)


def test_two_flips_in_a_row_dont_always_cancel() -> None:
    mirrored = sum((image == IMAGE[:, ::-1]).all() for image in augmented([FLIP, FLIP], 400))
    assert abs(mirrored - 200) < 4 * np.sqrt(100)


def test_the_first_and_second_of_the_same_operation_are_independent() -> None:
    both = [Flip(op="flip", probability=0.5)] * 2
    one = [(image == IMAGE[:, ::-1]).all() for image in augmented(both[:1], 400)]
    two = [(image == IMAGE[:, ::-1]).all() for image in augmented(both, 400)]
    second = np.not_equal(one, two)
    assert abs(np.corrcoef(one, second)[0, 1]) < 4 / np.sqrt(400)


def test_all_operations_together_are_the_same_bits_eagerly_and_in_a_graph() -> None:
    for index, image in enumerate(augmented(ALL, 5)):
        eager = augment({"image": tf.constant(IMAGE)}, key(index), ALL, (5, 5))["image"].numpy()
        assert image.shape == (5, 5, 3)
        np.testing.assert_allclose(image, eager, atol=1e-3)


def test_each_example_is_changed_in_a_different_but_reproducible_way() -> None:
    first, again = ([image.tobytes() for image in augmented(ALL, 30)] for _ in range(2))
    assert first == again
    assert len(set(first)) == 30


def test_every_operation_is_tested_here() -> None:
    union, _ = typing.get_args(ClassificationAugmentation)
    names = [
        typing.get_args(section.model_fields["op"].annotation)[0]
        for section in typing.get_args(union)
    ]
    assert {op["op"] for op in EVERY} | {"rand_augment", "auto_augment", "expand"} == set(names)


@pytest.mark.parametrize("given", EVERY, ids=lambda given: "-".join(map(str, given.values())))
def test_every_operation_works_on_any_image_and_is_the_same_eagerly_and_in_a_graph(
    given: dict[str, typing.Any],
) -> None:
    op: Augmentation = TypeAdapter(ClassificationAugmentation).validate_python(given)
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    # The last image is white: blending must not exceed 255.
    noise[8], shapes = 255, [(9, 9), (5, 8), (1, 1), (1, 9), (7, 1)]

    def variants(index: tf.Tensor, shape: tf.Tensor) -> dict[str, tf.Tensor]:
        changed = {}
        for channels in (1, 3):
            image = tf.ensure_shape(
                tf.constant(noise)[9 - shape[0] :, : shape[1], :channels], [None, None, channels]
            )
            colors = np.full(channels, 0.1), np.eye(channels)
            for dtype in (tf.uint8, tf.float32):
                example = {"image": tf.cast(image, dtype), "label": index}
                out = augment(
                    example, example_seed(0, tf.constant(0, tf.int64), index), [op], (5, 5), colors
                )
                assert out["label"] is index
                assert out["image"].shape[-1] == channels and out["image"].dtype in (
                    tf.uint8,
                    tf.float32,
                )
                changed[f"{channels} {dtype.name}"] = out["image"]
        return changed

    inputs = tf.data.Dataset.range(2 * len(shapes)), tf.data.Dataset.from_tensor_slices(2 * shapes)
    in_map = tf.data.Dataset.zip(inputs).map(tf.autograph.experimental.do_not_convert(variants))
    different = False
    for index, (one, shape) in enumerate(zip(in_map.as_numpy_iterator(), 2 * shapes)):
        eager = variants(tf.constant(index, tf.int64), tf.constant(shape))
        for name, image in one.items():
            np.testing.assert_array_equal(image, eager[name], err_msg=f"{name} {shape}")
            assert np.isfinite(image).all() and image.min() >= 0 and image.max() <= 255.001
            assert image.shape[:2] == (
                (5, 5) if "crop" in given["op"] and given["op"] != "pad_crop" else shape
            )
            # Fractions of a value are rounded where the operation works in integers.
            tolerance = 1 if one[f"{name[0]} uint8"].dtype == np.uint8 else 1e-3
            np.testing.assert_allclose(
                one[f"{name[0]} uint8"], one[f"{name[0]} float32"], atol=tolerance
            )
        different |= image.shape[:2] != shape or bool(
            (image != noise[9 - shape[0] :, : shape[1]]).any()
        )
    assert different, "nothing changes"


def test_lighting_without_colors_fails_an_assertion() -> None:
    with pytest.raises(AssertionError, match="pca_lighting"):
        augment({"image": tf.constant(IMAGE)}, key(0), [PcaLighting(op="pca_lighting")], (5, 5))


def test_labels_pass_through() -> None:
    changed = augment({"image": tf.constant(IMAGE), "label": tf.constant(4)}, key(0), ALL, (5, 5))
    assert changed.keys() == {"image", "label"} and int(changed["label"]) == 4
