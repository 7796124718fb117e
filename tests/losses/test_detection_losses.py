"""Guards SSD's losses, against NumPy, box by box."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter

from cvpipe.config.detection import DetectionLoss, FocalBoxLoss, MultiboxLoss, SsdLoss
from cvpipe.geometry.encoding import decode_ssd, encode_ssd
from cvpipe.losses.detection import BoxTargets, ssd_loss

RANDOM = np.random.default_rng(0)
# [cy, cx, height, width] of nine default boxes in a 3×3 grid.
DEFAULTS = np.array(
    [[y, x, 0.3, 0.3] for y in (0.2, 0.5, 0.8) for x in (0.2, 0.5, 0.8)], np.float32
)
CLASSES = 3


def some_objects() -> BoxTargets:
    """Return targets of three images: two objects and an empty slot; none; an object and a
    crowd.
    """
    boxes = np.zeros((3, 3, 4), np.float32)
    boxes[0, :2] = [[0.06, 0.04, 0.36, 0.33], [0.62, 0.38, 0.97, 0.66]]
    boxes[2, :2] = [[0.35, 0.35, 0.7, 0.65], [0.0, 0.0, 1.0, 0.36]]
    labels = np.array([[1, 2, -1], [-1, -1, -1], [0, 1, -1]], np.int32)
    crowd = np.array([[False] * 3, [False] * 3, [False, True, False]])
    return BoxTargets(*map(tf.constant, (boxes, labels, crowd)))


def softmax_loss(logits: np.ndarray, label: int) -> float:
    return log(sum(map(exp, logits))) - logits[label]


def loss_of_ssd(
    raw: np.ndarray, logits: np.ndarray, objects: BoxTargets, section: SsdLoss
) -> dict[str, np.ndarray]:
    decoded = decode_ssd(tf.constant(raw), tf.constant(DEFAULTS))
    losses = ssd_loss(
        tf.constant(raw), tf.constant(logits), decoded, objects, tf.constant(DEFAULTS), 0.5, section
    )
    return {name: value.numpy() for name, value in losses.items()}


def test_multibox_is_the_papers_sum_over_matched_boxes_and_the_hardest_others() -> None:
    objects = some_objects()
    raw = RANDOM.normal(size=(3, 9, 4)).astype(np.float32)
    logits = RANDOM.normal(size=(3, 9, CLASSES + 1)).astype(np.float32)
    found = loss_of_ssd(raw, logits, objects, MultiboxLoss(kind="multibox"))
    # Matched by hand: the first image's objects match boxes 0 and 7, the third's matches box 4, and
    # the third's crowd covers boxes 0, 3 and 6.
    answers = [{0: 0, 7: 1}, {}, {4: 0}]
    ignored: list[set[int]] = [set(), set(), {0, 3, 6}]
    for image, matches in enumerate(answers):
        of_class = [
            softmax_loss(logits[image, box], objects.labels[image, slot].numpy() + 1)
            for box, slot in matches.items()
        ]
        empty = [
            softmax_loss(logits[image, box], 0)
            for box in range(9)
            if box not in matches and box not in ignored[image]
        ]
        of_class += sorted(empty, reverse=True)[: 3 * len(matches)]
        of_box = 0.0
        for box, slot in matches.items():
            error = np.abs(
                raw[image, box] - encode_ssd(objects.boxes[image, slot], DEFAULTS[box]).numpy()
            )
            of_box += float(np.where(error < 1, error**2 / 2, error - 0.5).sum())
        count = max(len(matches), 1)
        np.testing.assert_allclose(
            [found["class"][image], found["box"][image]],
            [sum(of_class) / count, of_box / count],
            rtol=2e-5,
        )


def test_focal_counts_every_box_that_no_crowd_covers() -> None:
    objects, section = some_objects(), FocalBoxLoss(kind="focal")
    logits = RANDOM.normal(size=(3, 9, CLASSES)).astype(np.float32)
    found = loss_of_ssd(np.zeros((3, 9, 4), np.float32), logits, objects, section)["class"]
    labels = np.full((3, 9), -1)
    labels[0, 0], labels[0, 7], labels[2, 4] = 1, 2, 0
    expected = np.zeros(3)
    for image, box in np.ndindex(3, 9):
        if image == 2 and box in (0, 3, 6):
            continue
        for k in range(CLASSES):
            right = 1 / (1 + exp(-logits[image, box, k] * (1 if labels[image, box] == k else -1)))
            alpha = 0.25 if labels[image, box] == k else 0.75
            expected[image] -= alpha * (1 - right) ** 2 * log(right)
    np.testing.assert_allclose(found, expected / [2, 1, 1], rtol=2e-5)


@pytest.mark.parametrize("box", ["offsets", "giou", "diou", "ciou"])
def test_correct_boxes_have_no_loss(box: str) -> None:
    objects = some_objects()
    raw = np.zeros((3, 9, 4), np.float32)
    for image, default, slot in ((0, 0, 0), (0, 7, 1), (2, 4, 0)):
        raw[image, default] = encode_ssd(objects.boxes[image, slot], DEFAULTS[default])
    found = loss_of_ssd(
        raw,
        np.zeros((3, 9, CLASSES + 1), np.float32),
        objects,
        MultiboxLoss(kind="multibox", box=box),
    )
    np.testing.assert_allclose(found["box"], 0, atol=1e-5)


@pytest.mark.parametrize("box", ["offsets", "ciou"])
@pytest.mark.parametrize("kind", ["multibox", "focal"])
def test_gradients_are_finite_also_without_any_object(kind: str, box: str) -> None:
    section = TypeAdapter(DetectionLoss).validate_python({"kind": kind, "box": box})
    nothing = BoxTargets(tf.zeros([2, 3, 4]), tf.fill([2, 3], -1), tf.zeros([2, 3], tf.bool))
    raw = tf.Variable(tf.zeros([2, 9, 4]))
    logits = tf.Variable(tf.zeros([2, 9, CLASSES + (kind == "multibox")]))
    with tf.GradientTape() as tape:
        decoded = decode_ssd(raw, tf.constant(DEFAULTS))
        losses = ssd_loss(raw, logits, decoded, nothing, tf.constant(DEFAULTS), 0.5, section)
        total = tf.add_n([tf.reduce_sum(loss) for loss in losses.values()])
    for gradient in tape.gradient(total, [raw, logits], unconnected_gradients="zero"):
        assert np.isfinite(gradient).all()
    assert losses["box"].numpy().tolist() == [0, 0]
