"""Guards the detection task: with every head, decoding returns the objects that were encoded."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import tensorflow as tf

from conftest import ROOT
from cvpipe import config_file
from cvpipe.answers import to_answer
from cvpipe.config import Detection
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import place_boxes, restore_boxes
from cvpipe.errors import ConfigError
from cvpipe.evaluation import make_predict
from cvpipe.geometry.boxes import to_corners
from cvpipe.geometry.encoding import encode_ssd
from cvpipe.geometry.matching import match
from cvpipe.models.detection import ssd_defaults, yolo_grids
from cvpipe.pictures import load_pictures
from cvpipe.tasks import detection, load_task
from cvpipe.tasks.detection.assign import yolo_targets, yolo_v1_targets
from cvpipe.tasks.detection.decode import decode

HEADS = {
    "ssd": "{kind: ssd, strides: [8, 16], coarsest: 4, smallest: 0.2, largest: 0.5}",
    "yolo_v1": "{kind: yolo_v1, stride: 16}",
    "yolo_v2": "{kind: yolo_v2, stride: 16, anchors: [[0.2, 0.2], [0.4, 0.3]]}",
    "yolo_v3": (
        "{kind: yolo_v3, strides: [8, 16], anchors: [[0.1, 0.1], [0.2, 0.2], [0.3, 0.3], [0.5,"
        " 0.4]]}"
    ),
}
PARTS = {
    "ssd": ("class", "box"),
    "yolo_v1": ("class", "box", "objectness"),
    "yolo_v2": ("class", "box", "objectness"),
    "yolo_v3": ("class", "box", "objectness"),
}
CLASSES = ("cat", "dog", "größe")
EXTENT = (150, 300)
# Pixels of an image of EXTENT; the last lies on the border.
BOXES = np.array([[20, 30, 60, 90], [70, 180, 130, 250], [100, 10, 150, 70]], np.float32)
LABELS = np.array([2, 0, 1], np.int32)


def config_of(head: str, *overrides: str) -> Detection:
    loss = "multibox" if head == "ssd" else "yolo"
    config = config_file.load(
        ROOT / "pipelines" / "detection" / "digit_scenes_ssd.yaml",
        [
            f"model.head={HEADS[head]}",
            f"loss.kind={loss}",
            "prepare.size=[128, 128]",
            "data.max_objects=5",
            *overrides,
        ],
    )
    assert isinstance(config, Detection)
    return config


def example(boxes: np.ndarray = BOXES, labels: np.ndarray = LABELS) -> dict[str, tf.Tensor]:
    return {
        "image": tf.zeros([*EXTENT, 3], tf.uint8),
        "boxes": tf.constant(boxes / np.tile(EXTENT, 2), tf.float32),
        "labels": tf.constant(labels),
        "crowd": tf.zeros(len(labels), tf.bool),
        "area": tf.fill([len(labels)], -1.0),
    }


def batch_of_one(config: Detection, **objects: np.ndarray) -> dict[str, tf.Tensor]:
    return {
        name: value[tf.newaxis]
        for name, value in detection.encode(example(**objects), config=config).items()
    }


def right_outputs(config: Detection, targets: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """Return the raw outputs of a network that predicts all objects perfectly."""
    placed = place_boxes(targets["boxes"], targets["extent"], config.prepare)
    labels, filled = targets["labels"].numpy()[0], np.flatnonzero(targets["labels"].numpy()[0] >= 0)
    if config.loss.kind == "multibox":
        defaults = ssd_defaults(config)
        index = match(to_corners(defaults), placed, targets["labels"], targets["crowd"]).numpy()[0]
        raw, logits = (
            np.zeros((1, len(defaults), 4), np.float32),
            np.zeros((1, len(defaults), len(CLASSES) + 1), np.float32),
        )
        logits[0, :, 0] = 20
        for box in np.flatnonzero(index >= 0):
            raw[0, box] = encode_ssd(placed[0, index[box]], defaults[box])
            logits[0, box, 0], logits[0, box, labels[index[box]] + 1] = 0, 20
        return {"boxes": raw, "logits": logits}
    grids = yolo_grids(config)
    count = sum(grid.boxes for grid in grids)
    raw, objectness = (
        np.full((1, count, 4), 0.1, np.float32),
        np.full((1, count), -20.0, np.float32),
    )
    if config.model.head and config.model.head.kind == "yolo_v1":
        cells, encoded = (values.numpy()[0] for values in yolo_v1_targets(placed, *grids))
        objectness[:] = 0
        logits = np.zeros((1, count // 2, len(CLASSES)), np.float32)
        for slot in filled:
            (
                raw[0, 2 * cells[slot]],
                objectness[0, 2 * cells[slot]],
                logits[0, cells[slot], labels[slot]],
            ) = (encoded[slot], 1, 1)
        return {"boxes": raw, "objectness": objectness, "logits": logits}
    index, encoded = (values.numpy()[0] for values in yolo_targets(placed, grids))
    logits = np.full((1, count, len(CLASSES)), -20.0, np.float32)
    for slot in filled:
        middle, sizes = encoded[slot, :2], encoded[slot, 2:]
        raw[0, index[slot]] = [*np.log(middle / (1 - middle)), *sizes]
        objectness[0, index[slot]], logits[0, index[slot], labels[slot]] = 20, 20
    return {"boxes": raw, "objectness": objectness, "logits": logits}


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("head", HEADS)
def test_right_outputs_answer_the_objects_in_pixels_of_the_image(head: str, resize: str) -> None:
    config = config_of(head, f"prepare.resize={resize}")
    targets = batch_of_one(config)
    answers = detection.answer(right_outputs(config, targets), config, CLASSES, targets["extent"])
    assert int(answers["count"][0]) == len(BOXES)
    found = {
        int(label): box
        for label, box in zip(answers["class_ids"][0, :3], answers["boxes"][0, :3].numpy())
    }
    for label, box in zip(LABELS, BOXES):
        np.testing.assert_allclose(found[int(label)], box, atol=0.05)
    names = [name.decode() for name in answers["class_names"].numpy()[0]]
    assert names[:3] == [CLASSES[label] for label in answers["class_ids"].numpy()[0, :3]] and set(
        names[3:]
    ) == {""}
    assert answers["image_size"].numpy().tolist() == [list(EXTENT)]


@pytest.mark.parametrize("head", HEADS)
def test_right_outputs_cost_nothing_and_wrong_ones_do(head: str) -> None:
    config = config_of(head)
    targets = batch_of_one(config)
    right = {name: tf.constant(value) for name, value in right_outputs(config, targets).items()}
    losses = detection.loss(right, targets, config)
    assert tuple(losses) == PARTS[head]
    for name, loss in losses.items():
        np.testing.assert_allclose(loss, 0, atol=1e-3, err_msg=name)
    wrong = detection.loss(
        {name: tf.random.stateless_normal(value.shape, [1, 2]) for name, value in right.items()},
        targets,
        config,
    )
    assert all(float(loss[0]) > 0.1 for loss in wrong.values())


@pytest.mark.parametrize("head", HEADS)
def test_images_without_objects_have_a_finite_loss_and_no_answers(head: str) -> None:
    config = config_of(head)
    targets = batch_of_one(config, boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int32))
    assert (targets["labels"].numpy() == -1).all()
    empty = {name: tf.constant(value) for name, value in right_outputs(config, targets).items()}
    assert all(np.isfinite(loss).all() for loss in detection.loss(empty, targets, config).values())
    answers = detection.answer(empty, config, CLASSES, targets["extent"])
    assert int(answers["count"][0]) == 0 and not answers["boxes"].numpy().any()


@pytest.mark.parametrize("extent", [(150, 300), (300, 150)])
@pytest.mark.parametrize("head", HEADS)
def test_boxes_centered_in_letterbox_bars_are_not_answered(
    head: str, extent: tuple[int, int]
) -> None:
    # Fractions of the network's input, whose bars are the first and the last quarter of an axis.
    # The boxes lie in a bar, in a bar except for a strip, just inside the image, and in its middle.
    boxes = np.array(
        [
            [0.02, 0.38, 0.2, 0.6],
            [0.1, 0.6, 0.35, 0.8],
            [0.66, 0.1, 0.8, 0.3],
            [0.4, 0.4, 0.62, 0.64],
        ]
    )
    if extent[0] > extent[1]:
        boxes = boxes[:, [1, 0, 3, 2]]
    stretched, labels = config_of(head), np.array([0, 1, 2, 0], np.int32)
    targets = batch_of_one(stretched, boxes=boxes * np.tile(EXTENT, 2), labels=labels)
    outputs = right_outputs(stretched, targets)
    letterboxed = config_of(head, "prepare.resize=letterbox")
    answers = detection.answer(outputs, letterboxed, CLASSES, tf.constant([extent]))
    assert int(answers["count"][0]) == 2
    assert sorted(answers["class_ids"].numpy()[0, :2].tolist()) == [0, 2]
    # Without bars all four are answered.
    assert int(detection.answer(outputs, stretched, CLASSES)["count"][0]) == 4


@pytest.mark.parametrize("extent", [(40, 500), (200, 60)])
@pytest.mark.parametrize("head", HEADS)
def test_every_answer_has_an_area_and_comes_from_a_box_centered_in_the_image(
    head: str, extent: tuple[int, int]
) -> None:
    config = config_of(head, "prepare.resize=letterbox", "model.head.suppress.iou_threshold=1")
    outputs = {
        name: tf.random.stateless_normal(value.shape, [1, n], stddev=3.0)
        for n, (name, value) in enumerate(right_outputs(config, batch_of_one(config)).items())
    }
    boxes, _ = decode(outputs, config)
    whole = restore_boxes(boxes, tf.constant([extent]), config.prepare).numpy()[0]
    middle = (whole[:, :2] + whole[:, 2:]) / 2
    inside = ((middle >= 0) & (middle <= 1)).all(1)
    assert 0 < inside.sum() < len(inside)
    allowed = np.clip(whole[inside], 0, 1) * np.tile(extent, 2)
    answers = detection.answer(
        outputs, config, CLASSES, tf.constant([extent]), score_threshold=tf.constant(0.0)
    )
    found = answers["boxes"].numpy()[0, : int(answers["count"][0])]
    assert len(found) and (found[:, 2:] > found[:, :2]).all()
    distance = np.abs(found[:, np.newaxis] - allowed).max(-1).min(-1)
    assert distance.max() < 1e-2


def test_boxes_without_area_leave_their_places_to_others() -> None:
    config = config_of("yolo_v1", "model.head.suppress={max_detections: 2, candidates: 2}")
    targets = batch_of_one(config)
    outputs = right_outputs(config, targets)
    # Everywhere but at the objects: a box of height 0, with a higher score than the objects'.
    empty = outputs["objectness"] == 0
    outputs["boxes"][empty, 2] = 0
    outputs["objectness"][~empty] = 0.5
    outputs["objectness"][empty] = 1
    outputs["logits"][:] = 1
    answers = detection.answer(outputs, config, CLASSES, targets["extent"])
    assert int(answers["count"][0]) == 2
    np.testing.assert_allclose(answers["scores"][0], 0.5)


def test_objects_fill_slots_and_those_beyond_them_are_left_out() -> None:
    config = config_of("ssd", "data.max_objects=2")
    targets = detection.encode(example(), config=config)
    assert targets["labels"].numpy().tolist() == [2, 0]
    assert targets["boxes"].shape == (2, 4) and targets["extent"].numpy().tolist() == list(EXTENT)


def test_thresholds_are_options_of_a_request() -> None:
    config = config_of("ssd")
    targets = batch_of_one(config)
    outputs = right_outputs(config, targets)
    options = detection.options_of(config)
    assert {name: option.default for name, option in options.items()} == {
        "score_threshold": 0.01,
        "iou_threshold": 0.5,
        "max_detections": 100,
    }
    one = detection.answer(
        outputs, config, CLASSES, targets["extent"], max_detections=tf.constant(1)
    )
    assert int(one["count"][0]) == 1 and one["boxes"].shape == (1, 100, 4)
    none = detection.answer(
        outputs, config, CLASSES, targets["extent"], score_threshold=tf.constant(1.0)
    )
    assert int(none["count"][0]) == 0


def test_only_classes_with_a_threshold_lose_answers_below_it() -> None:
    targets = batch_of_one(config_of("ssd"))
    outputs = right_outputs(config_of("ssd"), targets)
    # The softmax of an object's class falls to e² / (1 + e² + 2 / e²) or so, about 0.9.
    outputs["logits"] /= 8
    low = detection.answer(outputs, config_of("ssd"), CLASSES, targets["extent"])
    count = int(low["count"][0])
    names, scores = low["class_names"].numpy()[0, :count], low["scores"].numpy()[0, :count]
    [override] = detection.threshold_overrides(
        {
            "best_thresholds": {
                "größe": {"threshold": float(scores.max()) + 0.01},
                "dog": {"threshold": 0.0},
                "cat": {"threshold": float("nan")},
            }
        },
        {"cat": 0.25, "dog": 0.9},
    )
    assert '"cat": 0.25' in override and '"dog": 0.0' in override
    config = config_of("ssd", override)
    found = detection.answer(outputs, config, CLASSES, targets["extent"])
    left = names != "größe".encode()
    assert 0 < left.sum() < count
    np.testing.assert_array_equal(found["scores"][0, : left.sum()], scores[left])
    assert "größe".encode() not in found["class_names"].numpy()[0]


def test_without_a_right_answer_thresholds_arent_overridden() -> None:
    scores = {"best_thresholds": {"cat": {"threshold": float("nan")}}}
    assert detection.threshold_overrides(scores, {"cat": 0.25}) == ()


def test_a_threshold_of_an_unknown_class_is_an_error() -> None:
    config = config_of("ssd", "model.head.suppress.class_thresholds={cow: 0.5}")
    with pytest.raises(ConfigError, match="no class 'cow'; .*known: cat, dog"):
        load_task(config, Facts(CLASSES))
    with pytest.raises(ConfigError, match="can't be used with kind: soft"):
        config_of("ssd", "model.head.suppress={kind: soft, class_thresholds: {cat: 0.5}}")


def test_an_answer_is_a_list_of_objects_in_plain_json() -> None:
    config = config_of("yolo_v3")
    targets = batch_of_one(config)
    predictions = detection.answer(
        right_outputs(config, targets), config, CLASSES, targets["extent"]
    )
    arrays = {name: value.numpy() for name, value in predictions.items()}
    answer = json.loads(json.dumps(to_answer("detection", arrays, 0)))
    assert answer["count"] == 3 and {found["class_name"] for found in answer["objects"]} == set(
        CLASSES
    )
    assert answer["image_size"] == list(EXTENT)
    for found, box in zip(answer["objects"], arrays["boxes"][0].tolist()):
        assert set(found) == {"box", "class_id", "class_name", "score"}
        assert found["box"] == dict(zip(("ymin", "xmin", "ymax", "xmax"), box))


def test_a_picture_has_the_objects_from_the_score_that_was_asked_for() -> None:
    pictures = load_pictures(config_of("ssd"), Facts(CLASSES))
    assert pictures is not None
    box = {"ymin": 4.0, "xmin": 8.0, "ymax": 20.0, "xmax": 30.0}
    objects = [
        {"box": box, "class_id": n % 2, "class_name": CLASSES[n % 2], "score": score}
        for n, score in enumerate((0.9, 0.5, 0.2))
    ]
    answer = {"objects": objects, "count": 3, "image_size": list(EXTENT)}
    pixels = np.zeros((*EXTENT, 3), np.uint8)
    for settings, titles, legend in (
        ({}, 2, [f"{CLASSES[0]}: 1", f"{CLASSES[1]}: 1", "not drawn, with a score below 30%: 1"]),
        ({"score_threshold": 0.1}, 3, [f"{CLASSES[0]}: 2", f"{CLASSES[1]}: 1"]),
        ({"score_threshold": 0.95}, 0, ["not drawn, with a score below 95%: 3"]),
    ):
        figure = pictures.draw_answer(pixels, answer, settings)
        assert len(figure.axes[0].texts) == titles
        assert [text.get_text().strip() for text in figure.legends[0].get_texts()] == legend


def test_several_detectors_cant_be_combined() -> None:
    config = config_of("ssd")
    task, networks = load_task(config, Facts(CLASSES)), {"network": lambda image: image}
    with pytest.raises(ConfigError, match="can't be combined"):
        make_predict([networks, networks], task, config)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            ["model.head=null"],
            "'model.head' should be a mapping, not null (its kind is one of ssd,",
        ),
        (["loss.kind=yolo"], "choose multibox or focal"),
        (
            ["data.source={kind: digits}"],
            "'data.source': kind: digits is for task: classification or style, not for task:"
            " detection;"
            " known: 'digit_scenes', 'voc', 'coco', 'yolo', ",
        ),
        (
            ["data.source={kind: merge, sources: [{kind: digit_scenes}, {kind: masks}]}"],
            "'data.source.sources.1': kind: masks is for task: segmentation, not for task:",
        ),
        (
            ["data.source={kind: tfds, name: coco, mask: segmentation}"],
            "'data.source.mask' is for task: segmentation, not for task: detection; leave it out",
        ),
        (
            ["prepare.resize=crop"],
            "'prepare.resize' should be 'stretch' or 'letterbox', not \"crop\", which is for task:"
            " classification (stretch: to `size`",
        ),
        (
            ["test_time={views: mirrored}"],
            "'test_time' is for task: classification or segmentation, not for task: detection",
        ),
        (
            ["export.png=[mask]"],
            "'export.png' is for task: segmentation, not for task: detection; leave it out",
        ),
        (
            ["mix=[{op: mixup}]"],
            "'mix' is for task: classification, not for task: detection; leave it out",
        ),
        (
            ["augment=[{op: lens}]"],
            "'augment.0': op: lens is for task: classification, pose or segmentation, not for task:"
            " detection; known: 'flip', ",
        ),
        (
            ["augment=[{op: scale_crop, balance: 0.5}]"],
            "'augment.0.balance' is for task: segmentation, not for task: detection; leave it out",
        ),
        (
            ["task=classification"],
            "'model.head' is for task: detection, pose, segmentation or anomaly, not for task:"
            " classification;",
        ),
        (
            ["model.head={kind: yolo_v3, strides: [8, 16], anchors: [[1, 1]]}", "loss.kind=yolo"],
            "can't be divided evenly",
        ),
        (["model.head={kind: ssd, strides: [16, 8]}"], "strides must grow"),
    ],
)
def test_incompatible_settings_are_an_error(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        config_of("ssd", *overrides)
