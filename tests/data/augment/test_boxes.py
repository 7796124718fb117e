"""Guards boxes under augmentation: they move with their objects."""

from __future__ import annotations

import typing
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter

from cvpipe.config.augment.augmentation import Augmentation
from cvpipe.config.detection import DetectionAugmentation
from cvpipe.data.annotations.boxes import LEAST_VISIBLE
from cvpipe.data.augment import augment
from cvpipe.data.augment.partners import copy_paste, mosaic, object_mixup
from cvpipe.data.sources import Example

SHAPE, SIZE, SEEDS = (60, 80), (56, 72), 40
# Top, left, bottom, right in pixels: in the middle, at an edge, and from side to side.
RECTANGLES = [(20, 25, 44, 58), (0, 50, 30, 80), (5, 3, 30, 75)]
MOVES: list[dict[str, Any]] = [
    {"op": "flip"},
    {"op": "flip", "direction": "vertical"},
    {"op": "pad_crop", "padding": 25},
    {"op": "random_resized_crop", "area": [0.3, 1]},
    {"op": "short_side_crop", "sides": [72, 100]},
    {"op": "translate", "share": 0.6},
    {"op": "scale_crop"},
    {"op": "expand", "probability": 0.8, "ratio": 3},
    {"op": "iou_crop"},
    {"op": "scale_jitter"},
    {"op": "color_jitter", "brightness": 0.1},
    {"op": "cutout", "size": 0.1},
]
TURNS: list[dict[str, Any]] = [{"op": "rotate", "degrees": 40}, {"op": "shear", "degrees": 30}]


def operation(given: dict[str, Any]) -> Augmentation:
    op: Augmentation = TypeAdapter(DetectionAugmentation).validate_python(given)
    return op


def painted(
    rectangle: tuple[int, ...], shape: tuple[int, int] = SHAPE, channel: int = 0, label: int = 3
) -> Example:
    """An image with a filled rectangle in one channel, and the rectangle's box."""
    image = np.random.default_rng(0).integers(0, 200, (*shape, 3), dtype=np.uint8)
    image[..., channel] = 0
    top, left, bottom, right = rectangle
    image[top:bottom, left:right, channel] = 255
    box = np.array([rectangle], np.float32) / np.tile(shape, 2).astype(np.float32)
    return {
        "image": tf.constant(image),
        "boxes": tf.constant(box),
        "labels": tf.constant([label]),
        "crowd": tf.constant([False]),
    }


def unknown(example: Example) -> Example:
    """Return the example with unknown static shapes, as after decoding."""
    image = tf.py_function(lambda: example["image"], [], tf.uint8)
    boxes = tf.py_function(lambda: example["boxes"], [], tf.float32)
    return {
        **example,
        "image": tf.ensure_shape(image, [None, None, 3]),
        "boxes": tf.ensure_shape(boxes, [None, 4]),
    }


def seed(number: Any) -> tf.Tensor:
    return tf.stack([tf.cast(number, tf.int64), tf.constant(0, tf.int64)])


def in_map(function: Any, count: int = SEEDS) -> list[dict[str, np.ndarray]]:
    """Return the outputs of the function for seeds 0 … count − 1, mapped inside a Dataset."""
    function = tf.autograph.experimental.do_not_convert(function)
    return list(
        tf.data.Dataset.range(count).map(lambda number: function(seed(number))).as_numpy_iterator()
    )


def found(image: np.ndarray, channel: int = 0) -> np.ndarray:
    """The smallest box, in pixels, around the painted pixels; zeros if there are none."""
    values = image[..., channel].astype(float)
    rows, columns = np.nonzero(values > 127.5)
    return (
        np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
        if len(rows)
        else np.zeros(4)
    )


def in_pixels(changed: dict[str, np.ndarray], row: int = 0) -> np.ndarray:
    pixels: np.ndarray = changed["boxes"][row] * np.tile(changed["image"].shape[:2], 2)
    return pixels


def side_area(box: np.ndarray) -> float:
    return float((box[2:] - box[:2]).prod())


@pytest.mark.parametrize("rectangle", RECTANGLES, ids=str)
@pytest.mark.parametrize("given", MOVES, ids=lambda given: "-".join(map(str, given.values())))
def test_a_box_is_where_its_rectangle_is_within_a_pixel(
    given: dict[str, Any], rectangle: tuple[int, ...]
) -> None:
    op, example = operation(given), painted(rectangle)
    stayed = 0
    for changed in in_map(lambda key: augment(unknown(example), key, [op], SIZE)):
        assert len(changed["boxes"]) == len(changed["labels"]) == len(changed["crowd"])
        if len(changed["boxes"]):
            stayed += 1
            np.testing.assert_allclose(found(changed["image"]), in_pixels(changed), atol=1)
            assert (
                changed["labels"].tolist() == [3]
                and changed["boxes"].min() >= 0
                and changed["boxes"].max() <= 1
            )
    assert stayed > SEEDS / 3


@pytest.mark.parametrize("rectangle", RECTANGLES, ids=str)
@pytest.mark.parametrize("given", TURNS, ids=lambda given: given["op"])
def test_a_box_encloses_its_slanted_rectangle_tightly_if_it_is_inside(
    given: dict[str, Any], rectangle: Any
) -> None:
    op, example, inside = operation(given), painted(rectangle), 0
    for changed in in_map(lambda key: augment(unknown(example), key, [op], SIZE)):
        if len(changed["boxes"]):
            box, seen = in_pixels(changed), found(changed["image"])
            assert (
                seen.any() and (box[:2] <= seen[:2] + 1).all() and (box[2:] >= seen[2:] - 1).all()
            )
            if (box[:2] > 0).all() and (box[2:] < SHAPE).all():
                inside += 1
                # The tip of a corner covers less than half of its last pixels.
                np.testing.assert_allclose(seen, box, atol=1.5)
    assert inside > SEEDS / 2 or rectangle != RECTANGLES[0]


@pytest.mark.parametrize(
    "given", [*MOVES, *TURNS], ids=lambda given: "-".join(map(str, given.values()))
)
def test_boxes_are_the_same_eagerly_and_in_a_graph(given: dict[str, Any]) -> None:
    op, example = operation(given), painted(RECTANGLES[0])
    for number, changed in enumerate(
        in_map(lambda key: augment(unknown(example), key, [op], SIZE), 5)
    ):
        eager = augment(example, seed(number), [op], SIZE)
        np.testing.assert_allclose(changed["boxes"], eager["boxes"], atol=1e-6)
        np.testing.assert_allclose(changed["image"], eager["image"], atol=1e-2)


@pytest.mark.parametrize(
    "given", [*MOVES, *TURNS], ids=lambda given: "-".join(map(str, given.values()))
)
def test_an_image_without_objects_passes(given: dict[str, Any]) -> None:
    example = {
        **painted(RECTANGLES[0]),
        "boxes": tf.zeros([0, 4]),
        "labels": tf.zeros([0], tf.int32),
        "crowd": tf.zeros([0], tf.bool),
    }
    for changed in in_map(lambda key: augment(unknown(example), key, [operation(given)], SIZE), 8):
        assert changed["boxes"].shape == (0, 4) and np.isfinite(changed["image"]).all()


def test_an_object_mostly_outside_is_dropped_with_all_its_annotations() -> None:
    example = painted((10, 10, 30, 30), (40, 40))
    example = {**example, "area": tf.constant([7.0]), "name": tf.constant("x")}
    for changed in in_map(
        lambda key: augment(example, key, [operation({"op": "translate", "share": 1})], SIZE)
    ):
        visible = side_area(found(changed["image"])) / 400
        kept = len(changed["boxes"])
        assert kept == len(changed["area"]) == len(changed["labels"]) and changed["name"] == b"x"
        if abs(visible - LEAST_VISIBLE) > 0.08:
            assert kept == (visible > LEAST_VISIBLE)


def test_iou_crops_contain_the_center_of_an_object_and_reach_the_smallest_iou() -> None:
    op = operation({"op": "iou_crop", "ious": [0.5]})
    example, cropped = painted(RECTANGLES[0]), 0
    object_area = side_area(np.array(RECTANGLES[0]))
    for changed in in_map(lambda key: augment(example, key, [op], SIZE), 100):
        patch = np.prod(changed["image"].shape[:2])
        cropped += int(patch < np.prod(SHAPE))
        assert len(changed["boxes"]) == 1, "the only object's center is in every patch"
        seen = side_area(found(changed["image"]))
        assert (
            changed["image"].shape[0] >= 0.3 * SHAPE[0] - 1
            and 0.45 < changed["image"].shape[1] / changed["image"].shape[0] < 2.2
        )
        assert seen / (patch + object_area - seen) > 0 and seen > 0.2 * object_area
    # A third each: the whole image, any patch, and a patch with an IoU of at least one half.
    assert 50 < cropped < 85


def torchvisions_patch(
    boxes: np.ndarray, shape: tuple[int, int], random: np.random.Generator
) -> tuple[int, int] | None:
    """Height and width of a patch by the rule of torchvision's RandomIoUCrop, reimplemented; None
    for the whole image. `boxes` are in pixels.
    """
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    while True:
        least = random.choice([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
        if least == 1:
            return None
        size = (np.array(shape) * random.uniform(0.3, 1, (40, 2))).astype(int)
        low = ((shape - size) * random.random((40, 2))).astype(int)
        high, aspect = low + size, size[:, 1] / size[:, 0]
        inside = (low[:, None] < centers).all(-1) & (centers < high[:, None]).all(-1)
        top, bottom = (
            np.maximum(low[:, None], boxes[:, :2]),
            np.minimum(high[:, None], boxes[:, 2:]),
        )
        shared = np.maximum(bottom - top, 0).prod(-1)
        union = size.prod(-1)[:, None] + (boxes[:, 2:] - boxes[:, :2]).prod(-1) - shared
        suits = (inside & (shared / union >= least)).any(1) & (aspect >= 0.5) & (aspect <= 2)
        if suits.any():
            height, width = size[suits.argmax()].tolist()
            return height, width


@pytest.mark.parametrize(
    "boxes, shape",
    [
        ([(20, 30, 90, 140)], (120, 160)),
        ([(5, 5, 35, 45), (60, 80, 100, 150), (40, 20, 60, 40)], (120, 160)),
        ([(50, 70, 62, 84)], (120, 160)),
    ],
    ids=["large", "several", "small"],
)
def test_images_stay_whole_as_often_as_in_torchvision(
    boxes: list[tuple[int, ...]], shape: tuple[int, int]
) -> None:
    op, count = operation({"op": "iou_crop"}), 400
    pixels = np.array(boxes, float)
    example = {
        "image": tf.zeros([*shape, 3], tf.uint8),
        "boxes": tf.constant(pixels / np.tile(shape, 2), tf.float32),
        "labels": tf.range(len(boxes)),
        "crowd": tf.zeros(len(boxes), tf.bool),
    }
    areas = [
        np.prod(changed["image"].shape[:2]) / np.prod(shape)
        for changed in in_map(lambda key: augment(unknown(example), key, [op], SIZE), count)
    ]
    random, drawn = np.random.default_rng(0), 2000
    theirs = [torchvisions_patch(pixels, shape, random) or shape for _ in range(drawn)]
    their_areas = [np.prod(size) / np.prod(shape) for size in theirs]
    whole, expected = np.mean(np.equal(areas, 1)), np.mean(np.equal(their_areas, 1))
    # Four standard deviations of the difference of two shares, and of two means: a correct rule
    # fails once in 16,000 runs.
    spread = 4 * np.sqrt(1 / count + 1 / drawn)
    assert abs(whole - expected) < spread * np.sqrt(expected * (1 - expected))
    assert abs(np.mean(areas) - np.mean(their_areas)) < spread * np.std(their_areas)


def test_an_iou_that_no_patch_reaches_is_replaced_by_another_draw() -> None:
    # No patch is as small as the object, so the option 0.9 is impossible. "any" and the whole image
    # are left.
    op = operation({"op": "iou_crop", "ious": [0.9]})
    example, count = painted((28, 38, 34, 44)), 100
    whole = sum(
        changed["image"].shape[:2] == SHAPE
        for changed in in_map(lambda key: augment(unknown(example), key, [op], SIZE), count)
    )
    assert 30 < whole < 70


def test_images_without_objects_are_cropped_but_images_of_one_pixel_stay() -> None:
    example = {
        "boxes": tf.zeros([0, 4]),
        "labels": tf.zeros([0], tf.int32),
        "crowd": tf.zeros([0], tf.bool),
    }
    op = operation({"op": "iou_crop"})
    for shape in ((60, 80), (1, 1)):
        image = tf.zeros([*shape, 3], tf.uint8)
        shapes = {
            changed["image"].shape[:2]
            for changed in in_map(
                lambda key, image=image: augment(
                    unknown({**example, "image": image}), key, [op], SIZE
                )
            )
        }
        assert shapes == {(1, 1)} if shape == (1, 1) else len(shapes) > 20


def test_one_object_with_the_smallest_iou_is_enough() -> None:
    example = {
        **painted(RECTANGLES[0]),
        "boxes": tf.constant([[0.1, 0.1, 0.9, 0.9], [0.0, 0.0, 0.1, 0.1]]),
    }
    example = {**example, "labels": tf.constant([0, 1]), "crowd": tf.constant([False, False])}
    op, kept = operation({"op": "iou_crop", "ious": [0.9]}), []
    for changed in in_map(lambda key: augment(example, key, [op], SIZE), 60):
        kept.append(changed["labels"].tolist())
    assert [0, 1] in kept and [0] in kept


def test_expand_fills_a_canvas_of_a_random_size_with_the_mean_color() -> None:
    image = np.full([10, 20, 3], [10, 100, 200], np.uint8)
    example = {**painted((0, 0, 10, 20), (10, 20)), "image": tf.constant(image)}
    sizes = []
    for changed in in_map(
        lambda key: augment(example, key, [operation({"op": "expand", "probability": 1})], SIZE),
        100,
    ):
        assert (changed["image"] == [10, 100, 200]).all() and changed["image"].dtype == np.uint8
        height, width = changed["image"].shape[:2]
        assert 10 <= height <= 40 and abs(width - 2 * height) <= 1
        sizes.append(height)
    assert min(sizes) < 13 and max(sizes) > 37


# -- several examples in one

# Operations, each with the number of other examples that it needs.
PARTNERS: list[tuple[dict[str, Any], int]] = [
    ({"op": "mosaic", "probability": 1}, 3),
    ({"op": "copy_paste", "probability": 1, "share": 1}, 1),
    ({"op": "object_mixup", "probability": 1}, 1),
]
SHAPES = [(60, 80), (40, 90), (100, 50), (64, 64)]


@pytest.mark.parametrize("painted_one", range(4))
def test_boxes_of_all_four_images_of_a_mosaic_enclose_their_objects(painted_one: int) -> None:
    def four(key: tf.Tensor) -> Example:
        examples = []
        for number, shape in enumerate(SHAPES):
            middle = tuple(
                int(share * length) for share, length in zip((0.3, 0.35, 0.7, 0.65), 2 * shape)
            )
            one = painted(middle, shape, label=number)
            silent = tf.constant([0 if number != painted_one else 1, 1, 1], tf.uint8)
            examples.append({**one, "image": one["image"] * silent})
        return mosaic(examples, key, (96, 128))

    seen = 0
    for changed in in_map(four, 30):
        assert changed["image"].shape == (96, 128, 3) and len(changed["labels"]) == len(
            changed["boxes"]
        )
        for row in np.flatnonzero(changed["labels"] == painted_one).tolist():
            np.testing.assert_allclose(found(changed["image"]), in_pixels(changed, row), atol=1.2)
            seen += 1
    assert seen > 8


def test_pasted_objects_are_visible_and_covered_objects_are_left_out() -> None:
    example, other = (
        painted((10, 10, 40, 40), channel=1, label=1),
        painted((30, 30, 90, 45), (120, 60), label=2),
    )
    example = {**example, "image": example["image"] * tf.constant([0, 1, 1], tf.uint8)}
    given, missing = 0, 0
    for changed in in_map(lambda key: copy_paste(example, other, key, 0.5)):
        pasted = 2 in changed["labels"]
        assert changed["labels"].tolist() == ([1, 2] if pasted else [1])
        if pasted:
            np.testing.assert_allclose(found(changed["image"], 0), in_pixels(changed, 1), atol=1)
        given, missing = given + pasted, missing + (not pasted)
    assert given > 10 and missing > 10
    covering = painted((5, 5, 45, 45), label=2)
    assert copy_paste(example, covering, seed(0), 1.0)["labels"].numpy().tolist() == [2]
    crowd = {**covering, "crowd": tf.constant([True])}
    np.testing.assert_array_equal(
        copy_paste(example, crowd, seed(0), 1.0)["image"], example["image"]
    )


def test_blended_images_keep_the_objects_of_both() -> None:
    one, other = (
        painted((10, 20, 50, 70), (60, 80), label=1),
        painted((30, 5, 90, 45), (100, 50), 1, label=2),
    )
    one = {**one, "image": one["image"] * tf.constant([1, 0, 1], tf.uint8)}
    other = {**other, "image": other["image"] * tf.constant([0, 1, 1], tf.uint8)}
    for changed in in_map(lambda key: object_mixup(one, other, key)):
        assert changed["image"].shape == (100, 80, 3) and changed["labels"].tolist() == [1, 2]
        shares = [changed["image"][..., channel].max() / 255 for channel in (0, 1)]
        assert sum(shares) == pytest.approx(1, abs=1e-4)
        for row, share in enumerate(shares):
            np.testing.assert_allclose(
                found(changed["image"] / max(share, 1e-9), row), in_pixels(changed, row), atol=1e-3
            )


@pytest.mark.parametrize("given, others", PARTNERS, ids=["mosaic", "copy_paste", "object_mixup"])
def test_operations_request_partners_only_if_needed(given: dict[str, Any], others: int) -> None:
    op, requested, example = operation(given), set(), painted(RECTANGLES[0])

    def partner(number: int) -> Example:
        requested.add(number)
        return painted(RECTANGLES[1], label=number)

    in_a_graph = in_map(lambda key: augment(unknown(example), key, [op], SIZE, partner=partner), 3)
    assert requested == set(range(others)) and len(in_a_graph[0]["labels"]) >= 1
    eager = augment(example, seed(1), [op], SIZE, partner=partner)
    np.testing.assert_allclose(in_a_graph[1]["image"], eager["image"], atol=1e-2)
    np.testing.assert_allclose(in_a_graph[1]["boxes"], eager["boxes"], atol=1e-6)
    never = op.model_copy(update={"probability": 0})
    unchanged = augment(example, seed(1), [never], SIZE, partner=partner)
    np.testing.assert_array_equal(unchanged["image"], example["image"])
    with pytest.raises(AssertionError, match="needs other examples"):
        augment(example, seed(1), [op], SIZE)


def test_every_operation_that_moves_objects_is_tested_here() -> None:
    union, _ = typing.get_args(DetectionAugmentation)
    names = {
        typing.get_args(section.model_fields["op"].annotation)[0]
        for section in typing.get_args(union)
    }
    elsewhere = {"pca_lighting", "grayscale", "erase"}
    partners = [given for given, _ in PARTNERS]
    assert names == {given["op"] for given in [*MOVES, *TURNS, *partners]} | elsewhere
