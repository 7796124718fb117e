"""Guards stick figures: exact joints, the same images for the same seed, and hidden joints."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.keypoint_sources import StickFigures
from cvpipe.data.annotations.keypoints import HIDDEN, VISIBLE
from cvpipe.data.sources.stick_figures import JOINTS, draw_figure, stick_figures

SMALL = StickFigures(kind="stick_figures", train=12, validation=3, test=4)


def test_splits_have_the_configured_sizes_and_distinct_names() -> None:
    splits = stick_figures(SMALL)
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 12,
        "validation": 3,
        "test": 4,
    }
    names = [name for split in splits.values() for name in split.names()]
    assert len(set(names)) == 19 and names[0] == "stick_figures train[0]"
    facts = splits["train"].facts
    assert facts.keypoint_names == JOINTS and len(facts.flip_pairs) == 4
    for first, second in facts.flip_pairs:
        assert JOINTS[first].replace("left", "right") == JOINTS[second]
    assert len(facts.skeleton) == len(JOINTS) - 1


def test_an_image_is_a_function_of_seed_split_and_number() -> None:
    fewer = SMALL.model_copy(update={"train": 2})
    image, joints, visibility = draw_figure(fewer, "train", 1)
    again = stick_figures(SMALL)["train"].read(tf.constant(1, tf.int64))
    np.testing.assert_array_equal(again["image"], image)
    np.testing.assert_allclose(again["keypoints"][0] * SMALL.size, joints, rtol=1e-6)
    np.testing.assert_array_equal(again["visibility"][0], visibility)
    others = [
        draw_figure(SMALL, "test", 1),
        draw_figure(SMALL, "train", 2),
        draw_figure(SMALL.model_copy(update={"seed": 1}), "train", 1),
    ]
    assert not [other for other in others if np.array_equal(other[0], image)]


@pytest.mark.parametrize("size", [(96, 96), (64, 120)])
def test_joints_are_inside_and_their_box_is_exact(size: tuple[int, int]) -> None:
    config = SMALL.model_copy(update={"size": size})
    source = stick_figures(config)["train"]
    for index in range(len(source)):
        example = source.read(tf.constant(index, tf.int64))
        points = example["keypoints"][0].numpy()
        assert example["image"].shape == (*size, 3)
        assert (points > 0).all() and (points < 1).all()
        np.testing.assert_allclose(example["boxes"][0], [*points.min(0), *points.max(0)], atol=1e-6)


def test_the_joints_of_a_visible_figure_have_the_figures_colors() -> None:
    config = StickFigures(kind="stick_figures")
    seen = 0
    for number in range(30):
        image, joints, visibility = draw_figure(config, "train", number)
        if (visibility == HIDDEN).any():
            continue
        rows, columns = joints.astype(int).T
        colors = image[rows, columns].astype(float)
        # A joint's pixels have one color, apart from its shades and smoothed edges.
        middle = np.median(colors, axis=0)
        assert (np.abs(colors - middle).max(1) <= 80).mean() > 0.8
        seen += 1
    assert seen >= 10


def test_the_left_side_of_a_figure_is_on_the_right_of_the_image() -> None:
    left, right = JOINTS.index("left_elbow"), JOINTS.index("right_elbow")
    for number in range(50):
        _, joints, _ = draw_figure(SMALL, "train", number)
        assert joints[left, 1] > joints[right, 1]


def test_some_joints_are_hidden() -> None:
    levels = np.stack([draw_figure(SMALL, "test", number)[2] for number in range(60)])
    assert set(np.unique(levels)) == {HIDDEN, VISIBLE}
    assert 0.01 < (levels == HIDDEN).mean() < 0.3


def test_gray_figures_have_one_channel() -> None:
    image, joints, _ = draw_figure(SMALL.model_copy(update={"channels": 1}), "train", 0)
    assert image.shape == (96, 96, 1)
    np.testing.assert_array_equal(joints, draw_figure(SMALL, "train", 0)[1])


def test_figures_too_small_to_see_are_refused() -> None:
    with pytest.raises(ValueError, match="the smallest figure at least 16 pixels long, not 12.8"):
        StickFigures(kind="stick_figures", size=(32, 32))
