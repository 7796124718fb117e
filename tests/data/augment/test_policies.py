"""Guards RandAugment and AutoAugment: their published tables, magnitudes and frequencies."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.augment.policies import AutoAugment, RandAugment
from cvpipe.data.augment import augment
from cvpipe.data.augment.operations import (
    color,
    identity,
    invert,
    posterize,
    solarize,
    translate_x,
    translate_y,
)
from cvpipe.data.augment.policies import (
    POLICIES,
    RAND_AUGMENT,
    RANGES,
    SIGNED,
    Amount,
    amount,
    auto_augment,
    rand_augment,
)
from cvpipe.data.order import example_seed

# More than 255 pixels, with values inside 0…255, so that equalizing and stretching change it.
IMAGE = np.random.default_rng(0).integers(10, 240, (17, 16, 3), dtype=np.uint8)
BOTH = [RandAugment(op="rand_augment"), AutoAugment(op="auto_augment")]


def name(operation: Any) -> str:
    """Return the operation's name in the papers and in Model Garden."""
    return "Color" if operation is color else operation.__name__.title().replace("_", "")


@pytest.fixture(scope="module")
def model_garden() -> ModuleType:
    from official.vision.ops import augment

    return augment


def key(index: Any) -> tf.Tensor:
    return example_seed(0, tf.constant(0, tf.int64), tf.cast(index, tf.int64))


def images(
    op: RandAugment | AutoAugment, count: int, image: np.ndarray = IMAGE
) -> list[np.ndarray]:
    """The image as examples 0 … count − 1, inside Dataset.map, with unknown static size."""

    @tf.autograph.experimental.do_not_convert
    def one(index: tf.Tensor) -> tf.Tensor:
        unknown = tf.ensure_shape(
            tf.py_function(lambda: image, [], image.dtype), [None, None, image.shape[-1]]
        )
        return augment({"image": unknown}, key(index), [op], (1, 1))["image"]

    return list(tf.data.Dataset.range(count).map(one).as_numpy_iterator())


def outcomes(
    operation: Any, level: float, strength_of: Amount = amount
) -> list[tuple[float, Callable[[np.ndarray], np.ndarray]]]:
    """Return the possible changes of an operation as (probability, function of an image): both
    signs with 1/2 each, or a single change.
    """
    ways = [1, -1] if operation in SIGNED else [1]
    strengths = [tf.constant(way * strength_of(operation, level), tf.float32) for way in ways]
    return [
        (
            1 / len(ways),
            lambda image, strength=strength: operation(tf.constant(image), strength).numpy(),
        )
        for strength in strengths
    ]


def assert_as_frequent(found: list[np.ndarray], expected: dict[bytes, float]) -> None:
    """Assert that only expected images occur, with the expected frequencies: Pearson's statistic is
    within four standard deviations of its mean.
    """
    counts = Counter(image.tobytes() for image in found)
    assert counts.keys() <= expected.keys(), "an image that no operations of the policy lead to"
    assert sum(expected.values()) == pytest.approx(1)
    means = {image: share * len(found) for image, share in expected.items() if share}
    statistic, freedom = (
        sum((counts[image] - mean) ** 2 / mean for image, mean in means.items()),
        len(means) - 1,
    )
    assert abs(statistic - freedom) < 4 * np.sqrt(2 * freedom)


def test_a_policy_is_25_pairs_of_operations_with_probabilities_and_levels() -> None:
    for policy, _ in POLICIES.values():
        assert len(policy) == 25
        for steps in policy:
            assert len(steps) == 2
            for operation, probability, level in steps:
                assert operation in (*RAND_AUGMENT, invert) and operation is not identity
                assert probability in [tenths / 10 for tenths in range(11)] and level in range(10)


@pytest.mark.parametrize(
    "ours, theirs",
    [
        ("imagenet", "policy_reduced_imagenet"),
        ("cifar10", "policy_reduced_cifar10"),
        ("svhn", "policy_svhn"),
    ],
)
def test_policies_equal_model_gardens(ours: str, theirs: str, model_garden: ModuleType) -> None:
    policy, _ = POLICIES[ours]
    listed = [[(name(operation), *numbers) for operation, *numbers in steps] for steps in policy]
    assert listed == getattr(model_garden.AutoAugment, theirs)()


def test_rand_augment_has_the_papers_14_operations() -> None:
    assert len(set(RAND_AUGMENT)) == 14
    assert {name(operation) for operation in RAND_AUGMENT} == {
        "Identity",
        "AutoContrast",
        "Equalize",
        "Rotate",
        "Solarize",
        "Color",
        "Posterize",
        "Contrast",
        "Brightness",
        "Sharpness",
        "ShearX",
        "ShearY",
        "TranslateX",
        "TranslateY",
    }


def test_levels_have_the_same_strengths_as_in_model_garden(
    model_garden: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_garden, "_randomly_negate_tensor", lambda level: level)
    theirs = model_garden.level_to_arg(cutout_const=40.0, translate_const=150.0)
    for operation, level in itertools.product(RANGES, range(1, 31)):
        [argument] = theirs[name(operation)](float(level))
        if operation is posterize:
            # The paper's range is 4…8 bits, Model Garden's 0…4.
            argument += 4
        if operation in (translate_x, translate_y):
            argument = np.clip(argument, -150, 150) / 331
        ours = amount(operation, level)
        # The operations themselves truncate thresholds and bits.
        assert (int(ours) if operation in (solarize, posterize) else ours) == pytest.approx(
            argument
        )


def test_the_ends_of_the_ranges_are_those_of_the_papers_table() -> None:
    ends = {name(operation): (amount(operation, 0), amount(operation, 10)) for operation in RANGES}
    enhanced = {
        kind: pytest.approx((0.1, 1.9)) for kind in ("Color", "Contrast", "Brightness", "Sharpness")
    }
    assert ends == enhanced | {
        "Rotate": (0, 30),
        "ShearX": (0, 0.3),
        "ShearY": (0, 0.3),
        "Solarize": (0, 256),
        "Posterize": (4, 8),
        "TranslateX": (0, 150 / 331),
        "TranslateY": (0, 150 / 331),
    }


@pytest.mark.parametrize("policy", ["cifar10", "svhn"])
def test_policies_for_small_images_have_the_strengths_of_the_authors_code(policy: str) -> None:
    table, strength_of = POLICIES[policy]
    # "int_parameter" and "float_parameter" of that code; translations are in pixels of 32.
    formulas: dict[str, Callable[[int], float]] = {
        "Rotate": lambda level: int(level * 30 / 10),
        "ShearX": lambda level: level * 0.3 / 10,
        "ShearY": lambda level: level * 0.3 / 10,
        "TranslateX": lambda level: int(level * 10 / 10) / 32,
        "TranslateY": lambda level: int(level * 10 / 10) / 32,
        "Solarize": lambda level: 256 - int(level * 256 / 10),
        "Posterize": lambda level: 4 - int(level * 4 / 10),
        **dict.fromkeys(
            ("Color", "Contrast", "Brightness", "Sharpness"), lambda level: level * 1.8 / 10 + 0.1
        ),
        **dict.fromkeys(("AutoContrast", "Equalize", "Invert"), lambda level: 0),
    }
    tried = {step[0] for steps in table for step in steps}
    for operation, level in itertools.product(tried, range(11)):
        expected = formulas[name(operation)](level)
        assert strength_of(operation, level) == pytest.approx(expected), (operation, level)


def test_higher_levels_change_images_more_but_less_in_the_policy_for_imagenet() -> None:
    image = tf.constant(np.arange(256, dtype=np.uint8).reshape(16, 16, 1))
    for (_, strength_of), sign in zip(POLICIES.values(), (-1, 1, 1), strict=True):
        for operation in (solarize, posterize):
            weak, strong = (
                np.abs(
                    operation(image, tf.constant(strength_of(operation, level), tf.float32)).numpy()
                    - np.float32(image)
                ).mean()
                for level in (2, 8)
            )
            assert sign * (strong - weak) > 0
    wide = np.full((32, 50, 1), 200, np.uint8)
    _, strength_of = POLICIES["cifar10"]
    moved = translate_x(tf.constant(wide), tf.constant(strength_of(translate_x, 9), tf.float32))
    assert (moved.numpy() != 200).mean() == 0.28


def test_rand_augment_draws_every_operation_and_sign_equally_often() -> None:
    expected: Counter[bytes] = Counter()
    for operation in RAND_AUGMENT:
        for share, outcome in outcomes(operation, 9):
            expected[outcome(IMAGE).tobytes()] += share / 14
    assert len(expected) == 14 + len(SIGNED)
    assert_as_frequent(images(RandAugment(op="rand_augment", layers=1, magnitude=9), 800), expected)


def test_layers_of_rand_augment_are_drawn_independently() -> None:
    steps = [step for operation in RAND_AUGMENT for step in outcomes(operation, 9)]
    expected: Counter[bytes] = Counter()
    for share, first in steps:
        image = first(IMAGE)
        for other, second in steps:
            expected[second(image).tobytes()] += share * other / 14**2
    assert_as_frequent(images(RandAugment(op="rand_augment", layers=2, magnitude=9), 800), expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_auto_augment_follows_its_table_in_operations_probabilities_levels_and_order(
    policy: Any,
) -> None:
    expected: Counter[bytes] = Counter()
    table, strength_of = POLICIES[policy]
    for (first, p, level), (second, q, other) in table:
        for (one_share, one), (two_share, two) in itertools.product(
            outcomes(first, level, strength_of), outcomes(second, other, strength_of)
        ):
            image = one(IMAGE)
            for share, result in (
                (p * q, two(image)),
                (p * (1 - q), image),
                ((1 - p) * q, two(IMAGE)),
                ((1 - p) * (1 - q), IMAGE),
            ):
                expected[result.tobytes()] += share * one_share * two_share / 25
    assert len(expected) > 35
    assert_as_frequent(images(AutoAugment(op="auto_augment", policy=policy), 2000), expected)


@pytest.mark.parametrize("op", BOTH, ids=lambda op: op.op)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_seed_gives_the_same_bits_eagerly_and_in_a_map(op: Any, channels: int) -> None:
    image = IMAGE[..., :channels]
    eager = [
        augment({"image": tf.constant(image)}, key(index), [op], (1, 1))["image"].numpy()
        for index in range(12)
    ]
    assert [one.tobytes() for one in images(op, 12, image)] == [one.tobytes() for one in eager]
    assert len({one.tobytes() for one in eager}) > 5


@pytest.mark.parametrize("op", [*BOTH, RandAugment(op="rand_augment", magnitude=30)])
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5, 1)])
def test_images_of_any_size_keep_their_size(op: Any, shape: tuple[int, ...]) -> None:
    for changed in images(op, 60, np.full(shape, 200, np.uint8)):
        assert changed.shape == shape and changed.dtype == np.uint8


@pytest.mark.parametrize(
    "op, function", zip(BOTH, [rand_augment, auto_augment]), ids=["rand_augment", "auto_augment"]
)
def test_floats_are_rounded_first(op: Any, function: Any) -> None:
    floats = (IMAGE + np.random.default_rng(1).uniform(-0.4, 0.4, IMAGE.shape)).astype(np.float32)
    for index in range(8):
        of_floats, of_bytes = (
            function({"image": tf.constant(image)}, key(index), op)["image"]
            for image in (floats, IMAGE)
        )
        assert of_floats.dtype == tf.uint8
        np.testing.assert_array_equal(of_floats, of_bytes)


def test_no_magnitude_moves_all_pixels_out_of_the_image() -> None:
    bright = np.full((20, 20, 1), 255, np.uint8)
    for operation in SIGNED:
        for _, outcome in outcomes(operation, 30):
            assert (outcome(bright) == 255).mean() > 0.3


@pytest.mark.parametrize(
    "op, function", zip(BOTH, [rand_augment, auto_augment]), ids=["rand_augment", "auto_augment"]
)
def test_only_the_image_changes_and_its_shape_is_known(op: Any, function: Any) -> None:
    example = {"image": tf.constant(IMAGE), "label": tf.constant(3)}
    changed = function(example, key(0), op)
    assert changed.keys() == example.keys() and changed["label"] is example["label"]
    data = tf.data.Dataset.from_tensors(IMAGE).map(
        tf.autograph.experimental.do_not_convert(
            lambda image: function({"image": image}, key(0), op)["image"]
        )
    )
    assert data.element_spec == tf.TensorSpec(IMAGE.shape, tf.uint8)
