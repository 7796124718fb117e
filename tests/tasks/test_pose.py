"""Guards the pose task: figures to targets, and outputs to points of the original image."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvpipe import config_file
from cvpipe.answers.pose import to_answer
from cvpipe.config import Pose
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import place_boxes
from cvpipe.errors import ConfigError
from cvpipe.geometry.heatmaps import gaussians, mean_places, peaks
from cvpipe.models.build import make_style
from cvpipe.models.pose import pose_network
from cvpipe.tasks import load_task, pose

FACTS = Facts(("figure",), ("head", "left_hand", "right_hand"), ((1, 2),), ((0, 1), (0, 2)))
EXTENT = [[100, 200], [300, 60]]
# Fractions of the original images.
TRUTH = np.array(
    [[(0.2, 0.3), (0.5, 0.9), (0.81, 0.11)], [(0.33, 0.5), (0.62, 0.2), (0.9, 0.7)]], np.float32
)
WAYS = [
    (head, kind, resize)
    for head, kind in [
        ("regression", "smooth_l1"),
        ("regression", "l2"),
        ("heatmaps", "gaussian"),
        ("heatmaps", "soft_argmax"),
    ]
    for resize in ("stretch", "letterbox")
]
each_way = pytest.mark.parametrize("head, kind, resize", WAYS)


def config(
    head: str = "heatmaps", kind: str = "gaussian", resize: str = "stretch", **more: Any
) -> Pose:
    return Pose.model_validate(
        {
            "task": "pose",
            "name": "tiny",
            "data": {"source": {"kind": "stick_figures"}},
            "prepare": {"size": [64, 96], "resize": resize},
            "model": {"backbone": "resnet18", "width": 0.125, "head": {"kind": head, **more}},
            "loss": {"kind": kind},
            "optimizer": {"kind": "adamw", "learning_rate": 0.001},
            "train": {"epochs": 1, "batch_size": 2},
        }
    )


def targets(visibility: int = 2) -> dict[str, Any]:
    return {
        "keypoints": tf.constant(TRUTH),
        "visibility": tf.fill([2, 3], visibility),
        "box": tf.constant([[0.1, 0.1, 0.9, 0.9]] * 2),
        "area": tf.constant([-1.0, -1.0]),
        "extent": tf.constant(EXTENT),
    }


def right_outputs(made: Pose) -> dict[str, tf.Tensor]:
    """Return the outputs of a network that makes no mistake."""
    points = tf.constant(np.tile(TRUTH, 2))
    placed = place_boxes(points, tf.constant(EXTENT), made.prepare)[..., :2]
    if made.model.head.kind == "regression":
        return {"coordinates": placed}
    if made.loss.kind == "gaussian":
        return {"heatmaps": gaussians(placed, (16, 24), 1.5)}
    # The softmax of a narrow Gaussian has its mean at the Gaussian's center.
    return {"heatmaps": tf.math.log(tf.maximum(gaussians(placed, (64, 96), 1.0), 1e-30))}


@each_way
def test_right_outputs_cost_nothing_and_answer_the_truth(head: str, kind: str, resize: str) -> None:
    made = config(head, kind, resize)
    outputs = right_outputs(made)
    assert float(tf.reduce_max(pose.loss(outputs, targets(), made)[kind])) < 1e-3
    found = pose.answer(outputs, made, FACTS.keypoint_names, tf.constant(EXTENT))
    expected = TRUTH * np.array(EXTENT)[:, np.newaxis]
    np.testing.assert_allclose(found["keypoints"], expected, atol=0.05 * 4)
    assert found["keypoint_names"].numpy().tolist() == [[b"head", b"left_hand", b"right_hand"]] * 2
    assert found["image_size"].numpy().tolist() == EXTENT
    metrics = load_task(made, FACTS).metrics()
    metrics.update(
        {name: value.numpy() for name, value in found.items()},
        {name: value.numpy() for name, value in targets().items()},
        np.ones(2),
    )
    assert metrics.result()["pck"] == 1


@each_way
def test_wrong_outputs_cost_something_unless_nothing_is_annotated(
    head: str, kind: str, resize: str
) -> None:
    made = config(head, kind, resize)
    outputs = {name: tf.reverse(value, [1]) for name, value in right_outputs(made).items()}
    assert float(tf.reduce_min(pose.loss(outputs, targets(), made)[kind])) > 1e-3
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        nothing = pose.loss(outputs, targets(0), made)[kind]
    assert nothing.numpy().tolist() == [0, 0]
    for gradient in tape.gradient(nothing, outputs).values():
        assert not np.any(gradient)


@each_way
def test_a_batch_is_answered_as_each_image_alone(head: str, kind: str, resize: str) -> None:
    made = config(head, kind, resize)
    outputs = right_outputs(made)
    both = pose.answer(outputs, made, FACTS.keypoint_names, tf.constant(EXTENT))
    for n in range(2):
        alone = pose.answer(
            {name: value[n : n + 1] for name, value in outputs.items()},
            made,
            FACTS.keypoint_names,
            tf.constant(EXTENT[n : n + 1]),
        )
        for name, value in alone.items():
            np.testing.assert_array_equal(value[0], both[name][n])


def test_an_unreadable_image_harms_no_other_and_answers_are_inside() -> None:
    made = config("regression", "l2", "letterbox")
    far = {"coordinates": tf.constant([[[-3.0, 9.0]] * 3, [[0.5, 0.5]] * 3])}
    found = pose.answer(far, made, FACTS.keypoint_names, tf.constant([[0, 0], [40, 50]]))
    assert np.isfinite(found["keypoints"]).all()
    np.testing.assert_allclose(found["keypoints"][1], [[20, 25]] * 3, atol=1e-4)
    plain = pose.answer(far, made, FACTS.keypoint_names)
    assert plain["image_size"].numpy().tolist() == [[64, 96]] * 2
    np.testing.assert_allclose(plain["keypoints"][0], [[0, 96]] * 3)


def example(rows: list[tuple[list[float], bool, list[int]]]) -> dict[str, tf.Tensor]:
    """Return figures, each with box, crowd and visibility; the points of the nth lie at n / 10."""
    boxes, crowd, visibility = zip(*rows, strict=True)
    return {
        "image": tf.zeros([50, 70, 3], tf.uint8),
        "boxes": tf.constant(boxes, tf.float32),
        "crowd": tf.constant(crowd),
        "area": tf.range(len(rows), dtype=tf.float32),
        "keypoints": tf.tile(
            tf.range(len(rows), dtype=tf.float32)[:, tf.newaxis, tf.newaxis] / 10, [1, 3, 2]
        ),
        "visibility": tf.constant(visibility),
    }


def test_the_largest_annotated_figure_is_the_target() -> None:
    encoded = pose.encode(
        example(
            [
                ([0.0, 0.0, 0.1, 0.1], False, [2, 2, 2]),
                ([0.1, 0.1, 0.6, 0.6], False, [0, 1, 2]),
                ([0.0, 0.0, 1.0, 1.0], False, [0, 0, 0]),
                ([0.0, 0.0, 0.9, 0.9], True, [2, 2, 2]),
            ]
        )
    )
    assert encoded["visibility"].numpy().tolist() == [0, 1, 2]
    np.testing.assert_allclose(encoded["keypoints"], np.full((3, 2), 0.1))
    np.testing.assert_allclose(encoded["box"], [0.1, 0.1, 0.6, 0.6])
    assert encoded["area"] == 1 and encoded["extent"].numpy().tolist() == [50, 70]


@pytest.mark.parametrize("rows", [[], [([0.0, 0.0, 1.0, 1.0], False, [0, 0, 0])]])
def test_an_image_without_an_annotated_figure_has_empty_targets(rows: list[Any]) -> None:
    whole = example([([0.0, 0.0, 1.0, 1.0], False, [2, 2, 2])])
    lost = (
        example(rows)
        if rows
        else {key: value if key == "image" else value[:0] for key, value in whole.items()}
    )
    encoded = pose.encode(lost)
    assert not encoded["visibility"].numpy().any() and not encoded["keypoints"].numpy().any()


def test_a_peak_is_found_between_cells_and_its_height_is_the_score() -> None:
    points = tf.constant([[[0.5, 0.33], [0.401, 0.777], [0.02, 0.98]]])
    found, scores = peaks(0.8 * gaussians(points, (16, 24), 1.5))
    np.testing.assert_allclose(found[:, :2], points[:, :2], atol=2e-3)
    # At the edge a neighbor is missing, and the answer is the center of the cell.
    np.testing.assert_allclose(found[:, 2], points[:, 2], atol=0.5 / 16)
    assert (scores.numpy() > 0.7).all() and (scores.numpy() <= 0.8).all()


def test_a_mean_place_is_that_of_the_softmax() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    found, scores = mean_places(tf.constant(logits))
    for image, point in np.ndindex(2, 3):
        shares = np.exp(logits[image, ..., point])
        shares /= shares.sum()
        y, x = (np.mgrid[:5, :7] + 0.5) / np.array([5, 7])[:, np.newaxis, np.newaxis]
        expected = [(shares * y).sum(), (shares * x).sum()]
        np.testing.assert_allclose(found[image, point], expected, rtol=1e-5)
        np.testing.assert_allclose(scores[image, point], shares.max(), rtol=1e-5)


def test_answers_are_json() -> None:
    found = pose.answer(
        right_outputs(config()), config(), FACTS.keypoint_names, tf.constant(EXTENT)
    )
    answer = to_answer({name: value.numpy() for name, value in found.items()}, 1)
    assert json.loads(json.dumps(answer)) == answer and answer["image_size"] == EXTENT[1]
    assert [point["name"] for point in answer["keypoints"]] == list(FACTS.keypoint_names)
    assert answer["keypoints"][0]["y"] == pytest.approx(99, abs=0.2)


@pytest.mark.parametrize(
    "head, kind, said",
    [
        ("regression", "gaussian", "choose smooth_l1 or l2"),
        ("heatmaps", "l2", "choose gaussian or soft_argmax"),
    ],
)
def test_a_loss_of_the_other_head_is_refused(head: str, kind: str, said: str) -> None:
    values = config().to_json() | {
        "model": {"backbone": "resnet18", "head": {"kind": head}},
        "loss": {"kind": kind},
    }
    with pytest.raises(ConfigError, match=f"loss.kind: {kind} doesn't go with.*{said}"):
        config_file.parse(json.dumps(values), "pose.json")


def test_heatmaps_that_would_not_become_finer_are_refused() -> None:
    with pytest.raises(ValueError, match="stride: 8 is not below start, 8"):
        config(start=8, stride=8)


def test_sizes_that_strides_do_not_divide_are_refused() -> None:
    made = config(start=16)
    made = made.model_copy(update={"prepare": made.prepare.model_copy(update={"size": (64, 90)})})
    with pytest.raises(
        ConfigError, match="height and width must be multiples of model.head.start, 16"
    ):
        pose_network(made, 3, make_style(made.model, False))


@pytest.mark.parametrize("pooling", ["none", "average", "softmax"])
def test_a_regression_begins_in_the_middle(pooling: str) -> None:
    made = config("regression", "l2", pooling=pooling)
    network = pose_network(made, 3, make_style(made.model, False))
    found = network(np.zeros((2, 64, 96, 3), np.float32))["coordinates"]
    assert found.shape == (2, 3, 2)
    np.testing.assert_allclose(found, np.full((2, 3, 2), 0.5), atol=0.2)


@pytest.mark.parametrize("start, features", [(None, 64 * 6), (16, 32 * 24), (8, 16 * 96)])
def test_a_regression_sees_the_map_that_is_asked_for(start: int | None, features: int) -> None:
    made = config("regression", "l2", start=start)
    network = pose_network(made, 3, make_style(made.model, False))
    assert network.get_layer("cells").output.shape == (None, features)


def test_a_map_that_the_backbone_lacks_is_refused_by_a_regression() -> None:
    made = config("regression", "l2", start=8)
    made = made.model_copy(update={"model": made.model.model_copy(update={"backbone": "linear"})})
    with pytest.raises(ConfigError, match="model.head.start: linear has no feature map of stride"):
        pose_network(made, 3, make_style(made.model, False))


@pytest.mark.parametrize("start, stride", [(32, 4), (16, 2), (8, 4)])
def test_heatmaps_have_the_stride_that_is_asked_for(start: int, stride: int) -> None:
    made = config(start=start, stride=stride)
    network = pose_network(made, 3, make_style(made.model, False))
    assert network.output["heatmaps"].shape == (None, 64 // stride, 96 // stride, 3)
