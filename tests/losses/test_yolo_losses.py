"""Guards YOLO's losses: values against NumPy, box by box, and gradients against darknet's."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.detection import YoloLoss
from cvpipe.losses.detection import BoxTargets, Losses
from cvpipe.losses.yolo import V2, V3, YoloRules, yolo_loss, yolo_v1_loss

CLASSES = 3
LOSS = YoloLoss(kind="yolo")
RULES = pytest.mark.parametrize("rules", [V2, V3], ids=["v2", "v3"])


class Case:
    """Nine predicted boxes in each of three images. The images have two objects, no object, and an
    object with a crowd region.
    """

    def __init__(self, seed: int = 0, spread: float = 1.0):
        random = np.random.default_rng(seed)
        boxes = np.zeros((3, 3, 4), np.float32)
        boxes[0, :2] = [[0.06, 0.04, 0.36, 0.33], [0.62, 0.38, 0.97, 0.66]]
        boxes[2, :2] = [[0.35, 0.35, 0.7, 0.65], [0.0, 0.0, 1.0, 0.36]]
        self.boxes = boxes
        self.labels = np.array([[1, 2, -1], [-1, -1, -1], [0, 1, -1]], np.int32)
        crowd = np.array([[False] * 3, [False] * 3, [False, True, False]])
        self.objects = BoxTargets(*map(tf.constant, (boxes, self.labels, crowd)))
        self.raw = spread * random.normal(size=(3, 9, 4)).astype(np.float32)
        self.objectness = spread * random.normal(size=(3, 9)).astype(np.float32)
        self.logits = spread * random.normal(size=(3, 9, CLASSES)).astype(np.float32)
        self.encoded = random.uniform(size=(3, 3, 4)).astype(np.float32)
        low = random.uniform(0, 0.6, (3, 9, 2))
        self.decoded = np.concatenate([low, low + random.uniform(0.1, 0.4, (3, 9, 2))], -1).astype(
            np.float32
        )
        # In the first image, box 0 fits the first object well, and no box fits the second. Box 1 is
        # near the first object without being responsible for it.
        self.decoded[0, 0] = [0.06, 0.06, 0.36, 0.33]
        self.decoded[0, 1] = [0.08, 0.04, 0.36, 0.33]
        self.responsible = np.array([[0, 7, 5], [1, 2, 3], [4, 8, 6]], np.int32)
        self.matches = {(0, 0): 0, (0, 1): 7, (2, 0): 4}

    def losses(self, rules: YoloRules, loss: YoloLoss = LOSS) -> tuple[Losses, list[np.ndarray]]:
        """Return the losses, and the gradients of their sum by raw boxes, objectness and logits."""
        watched = [tf.Variable(x) for x in (self.raw, self.objectness, self.logits)]
        raw, objectness, logits = watched
        with tf.GradientTape() as tape:
            losses = yolo_loss(
                raw,
                tf.constant(self.encoded),
                tf.constant(self.decoded),
                objectness,
                logits,
                self.objects,
                tf.constant(self.responsible),
                rules,
                loss,
            )
            total = tf.add_n([tf.reduce_sum(part) for part in losses.values()])
        gradients = tape.gradient(total, watched)
        return losses, [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]

    def overlap(self, image: int, box: int, slot: int) -> float:
        """Return the IoU of a predicted box and an object."""
        a, b = self.decoded[image, box].astype(float), self.boxes[image, slot].astype(float)
        sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
        shared = sides.prod()
        return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))

    def objectness_targets(self, rules: YoloRules) -> tuple[np.ndarray, np.ndarray]:
        """Return targets and weights of objectness, [3, 9], by darknet's algorithm."""
        targets, weights = np.zeros((3, 9)), np.ones((3, 9))
        for image, box in np.ndindex(3, 9):
            slots = np.flatnonzero(self.labels[image] >= 0)
            if any(self.overlap(image, box, slot) >= 0.5 for slot in slots):
                weights[image, box] = 0
        for (image, slot), box in self.matches.items():
            targets[image, box] = self.overlap(image, box, slot) if rules is V2 else 1
            weights[image, box] = 5 if rules is V2 else 1
        return targets, weights


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.astype(float)))


def cross_entropy(p: np.ndarray, target: np.ndarray | float) -> np.ndarray:
    return -target * np.log(p) - (1 - target) * np.log1p(-p)


def scale_of(box: np.ndarray) -> float:
    top, left, bottom, right = box.astype(float)
    return float(2 - (bottom - top) * (right - left))


@RULES
@pytest.mark.parametrize("spread", [1.0, 12.0], ids=["near 0", "saturated"])
def test_gradients_are_those_of_darknets_layers(rules: YoloRules, spread: float) -> None:
    case = Case(3, spread)
    _, (of_raw, of_objectness, of_logits) = case.losses(rules)
    raw, logits = np.zeros((3, 9, 4)), np.zeros((3, 9, CLASSES))
    for (image, slot), box in case.matches.items():
        target, predicted = case.encoded[image, slot], case.raw[image, box].astype(float)
        predicted[:2] = sigmoid(predicted[:2])
        raw[image, box] = scale_of(case.boxes[image, slot]) * (predicted - target)
        truth = np.eye(CLASSES)[case.labels[image, slot]]
        exponents = np.exp(case.logits[image, box].astype(float))
        answered = exponents / exponents.sum() if rules is V2 else sigmoid(case.logits[image, box])
        logits[image, box] = answered - truth
    targets, weights = case.objectness_targets(rules)
    # darknet's deltas are target − prediction, the negative gradient.
    np.testing.assert_allclose(of_raw, raw, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(of_logits, logits, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        of_objectness, weights * (sigmoid(case.objectness) - targets), rtol=1e-6, atol=2e-6
    )


@RULES
def test_a_loss_is_its_formulas_sum_over_objects_and_boxes(rules: YoloRules) -> None:
    case = Case(1)
    losses, _ = case.losses(rules)
    expected = {name: np.zeros(3) for name in ("class", "box", "objectness")}
    for (image, slot), box in case.matches.items():
        label, logits = case.labels[image, slot], case.logits[image, box].astype(float)
        if rules is V2:
            of_class = np.log(np.exp(logits).sum()) - logits[label]
        else:
            of_class = cross_entropy(sigmoid(logits), np.eye(CLASSES)[label]).sum()
        expected["class"][image] += of_class
        target, predicted = case.encoded[image, slot].astype(float), case.raw[image, box]
        # The loss is cross-entropy minus its minimum, so it is 0 for a correct box.
        middle = cross_entropy(sigmoid(predicted[:2]), target[:2])
        middle -= cross_entropy(target[:2], target[:2])
        size = np.square(predicted[2:] - target[2:]) / 2
        expected["box"][image] += scale_of(case.boxes[image, slot]) * (middle.sum() + size.sum())
    targets, weights = case.objectness_targets(rules)
    inner = np.clip(targets, 1e-12, 1 - 1e-12)
    wrong = cross_entropy(sigmoid(case.objectness), targets) - cross_entropy(inner, inner)
    expected["objectness"] = (weights * wrong).sum(1)
    assert (weights == 0).sum() == 1, "one box is near an object for which another is responsible"
    for name, values in expected.items():
        np.testing.assert_allclose(losses[name], values, rtol=2e-5, err_msg=name)


@RULES
def test_a_box_learns_its_center_also_where_the_sigmoid_is_saturated(rules: YoloRules) -> None:
    case = Case()
    case.raw[0, 0, :2] = 30
    case.encoded[0, 0, :2] = 0.25
    _, (of_raw, *_) = case.losses(rules)
    np.testing.assert_allclose(of_raw[0, 0, :2], 0.75 * scale_of(case.boxes[0, 0]), rtol=1e-6)


@RULES
def test_empty_boxes_have_the_configured_weight_or_that_of_the_authors_code(
    rules: YoloRules,
) -> None:
    by_default, half, one = (
        Case().losses(rules, YoloLoss(kind="yolo", empty_weight=weight))[0]["objectness"].numpy()
        for weight in (None, 0.5, 1.0)
    )
    np.testing.assert_array_equal(by_default, one)
    # Images without objects have only this loss.
    assert half[1] == pytest.approx(one[1] / 2) and (half < one).all()


def v1_loss(
    decoded: list[list[float]], target: list[float], loss: YoloLoss = LOSS
) -> tuple[dict[str, float], list[int]]:
    """Return the losses of a cell with these boxes and one object, and the boxes with gradients."""
    objects = BoxTargets(tf.constant([[target]]), tf.constant([[1]]), tf.constant([[False]]))
    count = len(decoded)
    raw = tf.Variable(tf.zeros([1, count, 4]))
    with tf.GradientTape() as tape:
        losses = yolo_v1_loss(
            raw,
            tf.constant([decoded]),
            tf.constant([[0.5, 0.9, 0.7][:count]]),
            tf.constant([[[0.2, 0.7]]]),
            objects,
            tf.constant([[[0.4, 0.4, 0.6, 0.6]]]),
            tf.constant([[0]]),
            loss,
        )
        box = tf.reduce_sum(losses["box"])
    moved = np.abs(tf.convert_to_tensor(tape.gradient(box, raw)).numpy()[0]).sum(-1)
    return {name: float(part[0]) for name, part in losses.items()}, np.flatnonzero(moved).tolist()


def test_the_best_box_of_a_cell_is_responsible_in_yolo_v1() -> None:
    target = [0.2, 0.2, 0.6, 0.6]
    losses, answering = v1_loss([[0.0, 0.0, 0.2, 0.2], target], target)
    assert answering == [1]
    assert losses["box"] == pytest.approx(5 * 2 * (0.4**2 + 0.6**2))
    assert losses["class"] == pytest.approx(0.2**2 + 0.3**2)
    assert losses["objectness"] == pytest.approx(0.1**2 + 0.5 * 0.5**2, rel=1e-5)
    losses, _ = v1_loss(
        [[0.0, 0.0, 0.2, 0.2], target], target, YoloLoss(kind="yolo", empty_weight=1)
    )
    assert losses["objectness"] == pytest.approx(0.1**2 + 0.5**2, rel=1e-5)


@pytest.mark.parametrize(
    "decoded, answering",
    [
        # No box overlaps the object. The second is nearest; the third has a near center but another
        # size.
        ([[0.8, 0.8, 0.9, 0.9], [0.65, 0.2, 0.75, 0.6], [0.2, 0.6, 0.21, 0.61]], [1]),
        ([[0.65, 0.2, 0.95, 0.6], [0.8, 0.8, 0.9, 0.9]], [0]),
        # Boxes without area overlap nothing.
        ([[0.9, 0.9, 0.9, 0.9], [0.5, 0.5, 0.5, 0.5]], [1]),
        # The slightest overlap outweighs any distance.
        ([[0.6, 0.2, 0.61, 0.6], [0.0, 0.0, 0.21, 0.21]], [1]),
    ],
)
def test_without_overlap_the_nearest_box_of_a_cell_is_responsible_in_yolo_v1(
    decoded: list[list[float]], answering: list[int]
) -> None:
    _, found = v1_loss(decoded, [0.2, 0.2, 0.6, 0.6])
    assert found == answering
