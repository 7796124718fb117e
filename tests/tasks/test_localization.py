"""Guards localization: the object that is encoded is learned, and answered."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import tensorflow as tf

from conftest import ROOT
from cvpipe import config_file
from cvpipe.answers.localization import to_answer
from cvpipe.config import Localization
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import place_boxes
from cvpipe.geometry.boxes import to_centers
from cvpipe.losses.localization import UNITS
from cvpipe.models.abstract import without_weights
from cvpipe.tasks import load_task, localization
from cvpipe.training.sanity.case import SanityCase
from cvpipe.training.sanity.gradient_check import gradient_check

CLASSES = ("cat", "dog", "größe")
EXTENT = (150, 300)
# Pixels of an image of EXTENT. The last box, the largest, is a crowd.
BOXES = np.array([[20, 30, 60, 90], [70, 180, 130, 250], [0, 0, 150, 300]], np.float32)
LABELS = np.array([2, 1, 0], np.int32)
CROWD = np.array([False, False, True])
OVERLAPS = ("iou", "giou", "diou", "ciou")


def config_of(*overrides: str) -> Localization:
    config = config_file.load(
        ROOT / "pipelines" / "localization" / "digit_scenes.yaml",
        ["prepare.size=[128, 128]", *overrides],
    )
    assert isinstance(config, Localization)
    return config


def example(chosen: slice = slice(None)) -> dict[str, tf.Tensor]:
    """Return an example with the chosen objects."""
    boxes = BOXES[chosen] / np.tile(EXTENT, 2)
    return {
        "image": tf.zeros([*EXTENT, 3], tf.uint8),
        "boxes": tf.constant(boxes, tf.float32),
        "labels": tf.constant(LABELS[chosen]),
        "crowd": tf.constant(CROWD[chosen]),
        "area": tf.fill([len(boxes)], -1.0),
    }


def targets_of(*examples: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The targets of several examples as a batch."""
    return tf.nest.map_structure(
        lambda *each: tf.stack(each), *[localization.encode(own) for own in examples]
    )


def right_outputs(config: Localization, targets: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Outputs of a network that makes no mistake."""
    placed = place_boxes(targets["box"][:, tf.newaxis], targets["extent"], config.prepare)[:, 0]
    return {"logits": 40 * tf.one_hot(targets["label"], len(CLASSES)), "box": to_centers(placed)}


def random_outputs(images: int, seed: int = 1) -> dict[str, tf.Tensor]:
    return {
        "logits": tf.random.stateless_normal([images, len(CLASSES)], [seed, 2]),
        "box": tf.sigmoid(tf.random.stateless_normal([images, 4], [seed, 3])),
    }


def test_the_object_of_the_largest_box_is_the_target_and_no_crowd() -> None:
    targets = localization.encode(example())
    assert int(targets["label"]) == LABELS[1]
    np.testing.assert_allclose(targets["box"] * np.tile(EXTENT, 2), BOXES[1], rtol=1e-6)
    assert targets["extent"].numpy().tolist() == list(EXTENT)


@pytest.mark.parametrize("chosen", [slice(0), slice(2, 3)], ids=["nothing", "a crowd alone"])
def test_an_image_without_an_object_costs_nothing_and_teaches_nothing(chosen: slice) -> None:
    config = config_of("loss.label_smoothing=0.1")
    targets = targets_of(example(chosen))
    assert targets["label"].numpy().tolist() == [-1]
    for box in ("smooth_l1", *OVERLAPS):
        config = config_of(f"loss.box={box}")
        outputs = random_outputs(1)
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            parts = localization.loss(outputs, targets, config)
            total = tf.add_n(list(parts.values()))
        gradient = tape.gradient(total, outputs)
        assert float(total[0]) == 0
        assert all(not np.any(part) for part in gradient.values()), box


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_right_outputs_answer_the_object_in_pixels_of_the_image(resize: str) -> None:
    config = config_of(f"prepare.resize={resize}")
    targets = targets_of(example())
    answers = localization.answer(
        right_outputs(config, targets), config, CLASSES, targets["extent"]
    )
    np.testing.assert_allclose(answers["box"][0], BOXES[1], atol=0.01)
    assert int(answers["class_id"][0]) == LABELS[1]
    assert answers["class_name"].numpy()[0].decode() == CLASSES[LABELS[1]]
    assert answers["image_size"].numpy().tolist() == [list(EXTENT)]


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("box", ["smooth_l1", *OVERLAPS])
def test_right_outputs_cost_nothing_and_wrong_ones_do(box: str, resize: str) -> None:
    config = config_of(f"prepare.resize={resize}", f"loss.box={box}")
    targets = targets_of(example())
    right = localization.loss(right_outputs(config, targets), targets, config)
    assert set(right) == {"cross_entropy", "box"}
    for name, part in right.items():
        np.testing.assert_allclose(part, 0, atol=1e-5, err_msg=name)
    wrong = localization.loss(random_outputs(1), targets, config)
    assert all(float(part[0]) > 0.1 for part in wrong.values())


def test_smooth_l1_counts_in_tenths_of_the_input() -> None:
    config = config_of("loss={kind: softmax, box: smooth_l1, box_weight: 2}")
    targets = targets_of(example(), example())
    outputs = right_outputs(config, targets)
    # An error of half a tenth is squared; one of two tenths counts linearly.
    off = tf.constant([[0.05, 0, 0, 0], [0, 0, 0.2, 0]])
    parts = localization.loss({**outputs, "box": outputs["box"] + off}, targets, config)
    np.testing.assert_allclose(
        parts["box"], [2 * (0.05 * UNITS) ** 2 / 2, 2 * (0.2 * UNITS - 0.5)], rtol=1e-4
    )


def test_a_loss_by_iou_is_what_is_missing_of_it() -> None:
    config = config_of("loss={kind: softmax, box: iou}")
    targets = targets_of(example())
    outputs = right_outputs(config, targets)
    half = outputs["box"] * tf.constant([1.0, 1.0, 0.5, 1.0])
    parts = localization.loss({**outputs, "box": half}, targets, config)
    np.testing.assert_allclose(parts["box"], [0.5], rtol=1e-5)


def test_single_answers_and_losses_equal_batched_ones() -> None:
    config = config_of("prepare.resize=letterbox")
    targets = targets_of(example(), example(slice(1)), example(slice(0)))
    outputs = random_outputs(3)
    together = localization.answer(outputs, config, CLASSES, targets["extent"])
    cost = localization.loss(outputs, targets, config)
    for n in range(3):
        own, its = (
            {name: value[n : n + 1] for name, value in both.items()} for both in (outputs, targets)
        )
        alone = localization.answer(own, config, CLASSES, its["extent"])
        for name, value in alone.items():
            if value.dtype.is_floating:
                # Some processors add the numbers of a larger batch in another order.
                np.testing.assert_allclose(value[0], together[name][n], rtol=1e-6, err_msg=name)
            else:
                np.testing.assert_array_equal(value[0], together[name][n], err_msg=name)
        for name, part in localization.loss(own, its, config).items():
            np.testing.assert_allclose(part[0], cost[name][n], rtol=1e-6, err_msg=name)


def test_no_answer_reaches_beyond_its_image() -> None:
    config = config_of("prepare.resize=letterbox")
    extents = np.array([[40, 300], [300, 40], [1, 5000]], np.int32)
    outputs = {"logits": tf.zeros([3, 3]), "box": tf.constant([[0.5, 0.5, 1, 1]] * 3)}
    answers = localization.answer(outputs, config, CLASSES, tf.constant(extents))
    np.testing.assert_allclose(
        answers["box"], np.concatenate([np.zeros_like(extents), extents], 1), rtol=1e-6
    )


def test_without_an_extent_boxes_are_in_pixels_of_the_networks_input() -> None:
    outputs = {"logits": tf.zeros([1, 3]), "box": tf.constant([[0.5, 0.5, 0.5, 0.25]])}
    answers = localization.answer(outputs, config_of(), CLASSES)
    np.testing.assert_allclose(answers["box"], [[32, 48, 96, 80]])
    assert answers["image_size"].numpy().tolist() == [[128, 128]]


def test_the_answer_is_the_first_of_the_top_and_the_top_is_sorted() -> None:
    answers = localization.answer(random_outputs(6), config_of("export.top_k=2"), CLASSES)
    order = np.argsort(-answers["probabilities"].numpy(), -1)[:, :2]
    np.testing.assert_array_equal(answers["top_class_ids"], order)
    np.testing.assert_array_equal(answers["class_id"], order[:, 0])
    assert set(answers) == set(localization.ANSWERS)


def test_an_answer_as_json_holds_the_predictions() -> None:
    answers = localization.answer(random_outputs(4), config_of(), CLASSES)
    given = {name: value.numpy() for name, value in answers.items()}
    answer = to_answer(given, 2)
    assert answer["class_name"] == given["class_name"][2].decode()
    sides = zip(("ymin", "xmin", "ymax", "xmax"), given["box"][2].tolist())
    assert answer["box"] == dict(sides) and len(answer["top"]) == len(CLASSES)
    assert answer["image_size"] == [128, 128]


def test_several_networks_answer_the_means_of_their_probabilities_and_boxes() -> None:
    config, members = config_of(), [random_outputs(5, seed) for seed in range(3)]
    combined = localization.combine(
        {name: tf.stack([m[name] for m in members]) for name in members[0]}
    )
    answers = localization.answer(combined, config, CLASSES)
    each = [localization.answer(member, config, CLASSES) for member in members]
    np.testing.assert_allclose(
        answers["probabilities"], np.mean([own["probabilities"] for own in each], 0), rtol=1e-5
    )
    np.testing.assert_allclose(
        combined["box"], np.mean([member["box"] for member in members], 0), rtol=1e-6
    )


@pytest.mark.parametrize("box", ["smooth_l1", "giou"])
def test_a_student_is_taught_classes_and_boxes(box: str) -> None:
    config = config_of(f"loss.box={box}")
    teacher, student = random_outputs(4), random_outputs(4, seed=5)

    def distance(outputs: Mapping[str, tf.Tensor]) -> np.ndarray:
        return localization.imitate(dict(outputs), teacher, 2.0, config).numpy()

    least = distance(teacher)
    assert least.shape == (4,)
    for name in teacher:
        assert (distance({**teacher, name: student[name]}) > least + 1e-3).all(), name


BACKBONES = (
    "linear",
    "two_layer",
    "lenet5",
    "lenet5_sparse",
    "resnet8",
    "resnet18",
    "resnet50",
    "fmp6_sqrt2",
    "vgg16",
    "ssd_vgg16",
    "fcn_vgg16",
    "vgg11_fc",
    "nin_cifar",
    "googlenet",
    "inception_v2",
    "plain20",
    "preresnet50",
    "resnext50_32x4d",
    "se_resnet50",
    "densenet121",
    "densenet40_12",
    "fractalnet20",
    "squeezenet1_1",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_g3",
    "xception",
    "efficientnet_b0",
    "unet",
    "extraction",
    "darknet19",
    "darknet53",
)


# The other networks have the layers of one of these, or have no padding and need larger images.
@pytest.mark.parametrize("name", [*BACKBONES, "keras/MobileNetV2"])
def test_every_backbone_has_a_box(name: str) -> None:
    keys = [
        "prepare={size: [64, 96], mean: [0], std: [1]}",
        f"model={{backbone: {name}, width: 0.125, initializer: constant, norm: none}}",
    ]
    if name.startswith("keras/"):
        keys[1] = f"model={{backbone: {name}}}"
    task = load_task(config_of(*keys), Facts(CLASSES))
    with without_weights():
        [network] = task.build(False).values()
    shapes = {key: (own.shape, own.dtype) for key, own in network.output.items()}
    assert shapes == {"logits": ((None, len(CLASSES)), "float32"), "box": ((None, 4), "float32")}


def test_an_untrained_network_answers_the_middle_of_the_image() -> None:
    config = config_of("model.width=0.125")
    network = localization.build_network(config, len(CLASSES))
    box = network(tf.random.stateless_normal([4, 128, 128, 3], [0, 0]), training=True)["box"]
    np.testing.assert_array_equal(box, np.full((4, 4), 0.5))


# CIoU's weight of the aspect has no gradient, by its definition.
@pytest.mark.parametrize("box", ["smooth_l1", "iou", "giou", "diou"])
def test_gradients_are_those_of_finite_differences(box: str) -> None:
    config = config_of(f"loss.box={box}", "model={backbone: two_layer}", "prepare.size=[16, 16]")
    task = load_task(config, Facts(CLASSES))
    images = tf.random.stateless_uniform([3, 16, 16, 3], [0, 1], -1, 1)
    targets = targets_of(example(), example(slice(1)), example(slice(0)))
    batch = {
        "image": images.numpy(),
        "targets": {name: value.numpy() for name, value in targets.items()},
        "weight": np.ones(3, np.float32),
    }
    [network] = task.build(False).values()
    found = gradient_check(SanityCase(network, task, config, batch))
    assert found.ok, found.says
