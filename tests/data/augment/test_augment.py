"""Operations in a row: in the pipeline's order, each with randomness of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cvpipe.config.augment import Augmentation, ColourJitter, Flip, PadCrop, RandomResizedCrop
from cvpipe.data.augment import augment
from cvpipe.data.augment.geometry import flip, pad_crop
from cvpipe.data.order import example_seed

IMAGE = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
FLIP, PAD_CROP = Flip(op="flip"), PadCrop(op="pad_crop", padding=2)
ALL = [FLIP, PAD_CROP, RandomResizedCrop(op="random_resized_crop"), ColourJitter(op="colour_jitter", brightness=0.5, hue=0.1), FLIP]


def key(index: int) -> tf.Tensor:
    return example_seed(0, tf.constant(0, tf.int64), tf.constant(index, tf.int64))


def augmented(ops: Sequence[Augmentation], count: int) -> list[np.ndarray]:
    """The image as examples 0 … count − 1 of epoch 0, inside Dataset.map."""

    @tf.autograph.experimental.do_not_convert
    def one(index: tf.Tensor) -> tf.Tensor:
        return augment({"image": tf.constant(IMAGE)}, example_seed(0, tf.constant(0, tf.int64), index), ops, (5, 5))["image"]

    return list(tf.data.Dataset.range(count).map(one).as_numpy_iterator())


def test_no_operations_change_nothing() -> None:
    [image] = augmented([], 1)
    np.testing.assert_array_equal(image, IMAGE)


def test_operations_are_applied_in_order_each_with_the_next_seed() -> None:
    expected = pad_crop(flip({"image": tf.constant(IMAGE)}, key(3), FLIP), key(3) + tf.constant([0, 1], tf.int64), PAD_CROP)["image"]
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


def test_examples_are_changed_in_different_ways_and_each_always_in_the_same() -> None:
    first, again = ([image.tobytes() for image in augmented(ALL, 30)] for _ in range(2))
    assert first == again
    assert len(set(first)) == 30


def test_labels_pass_through() -> None:
    changed = augment({"image": tf.constant(IMAGE), "label": tf.constant(4)}, key(0), ALL, (5, 5))
    assert changed.keys() == {"image", "label"} and int(changed["label"]) == 4
