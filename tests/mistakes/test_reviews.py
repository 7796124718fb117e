"""Guards verdicts on predictions: mistakes are counted, and worse ones cost more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cvpipe.answers.anomaly import UNCALIBRATED
from cvpipe.data.facts import Facts
from cvpipe.geometry.masks import IGNORED
from cvpipe.mistakes.anomaly import AnomalyReview
from cvpipe.mistakes.classification import ClassificationReview
from cvpipe.mistakes.detection import DetectionReview
from cvpipe.mistakes.findings import count_group
from cvpipe.mistakes.localization import LocalizationReview
from cvpipe.mistakes.pose import PoseReview
from cvpipe.mistakes.segmentation import SegmentationReview

BOX, BESIDE, FAR = [0, 0, 40, 40], [0, 20, 40, 60], [60, 60, 100, 100]


def test_a_confident_wrong_class_costs_most_and_a_confident_right_class_least() -> None:
    review = ClassificationReview(["cat", "dog"])
    probabilities = np.float32([[0.9, 0.1], [0.6, 0.4], [0.6, 0.4], [0.9, 0.1]])
    review.add({"probabilities": probabilities}, {"label": np.array([1, 1, 0, 0])})
    verdicts = review.verdicts()
    assert [verdict.mistakes for verdict in verdicts] == [1, 1, 0, 0]
    assert verdicts[0].cost > verdicts[1].cost and verdicts[2].cost > verdicts[3].cost
    assert verdicts[0].cells["label"] == "dog" and verdicts[0].cells["answer"] == "cat"
    confused, limits = review.findings({"confusion_matrix": [[2, 0], [2, 0]]})
    assert confused.table and confused.table.rows == [["dog", "cat", "2", "100.0%"]]
    assert limits.table and len(limits.table.rows) == 2


def judged(threshold: float, score: float) -> Any:
    """Return the cost of a false alarm with this score."""
    review = AnomalyReview(["good", "scratch"])
    answer = {"is_anomalous": [True], "anomaly_score": [score], "anomaly_threshold": [threshold]}
    review.add(
        {name: np.array(values) for name, values in answer.items()}, {"label": np.array([0])}
    )
    [verdict] = review.verdicts()
    assert verdict.mistakes == 1
    return verdict.cost


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_a_false_alarm_costs_more_the_farther_it_is_above_the_threshold(threshold: float) -> None:
    assert 0 < judged(threshold, 0.6) < judged(threshold, 0.7)


def test_without_a_calibrated_threshold_all_false_alarms_cost_the_same() -> None:
    assert judged(UNCALIBRATED, 0.6) == judged(UNCALIBRATED, 0.7) == 0


def detected(objects: list[tuple[Any, int]], answers: list[tuple[Any, int, float]]) -> Any:
    """Return answers and targets of one image of 100 × 100 pixels, padded to four of each."""
    boxes, truths = np.zeros((1, 4, 4), np.float32), np.zeros((1, 4, 4), np.float32)
    labels, ids = np.full((1, 4), -1), np.full((1, 4), -1)
    scores = np.zeros((1, 4), np.float32)
    for n, (box, label) in enumerate(objects):
        truths[0, n], labels[0, n] = np.array(box) / 100, label
    for n, (box, label, score) in enumerate(answers):
        boxes[0, n], ids[0, n], scores[0, n] = box, label, score
    size = np.array([[100, 100]])
    predictions = {"boxes": boxes, "class_ids": ids, "scores": scores, "image_size": size}
    targets = {"boxes": truths, "labels": labels, "crowd": np.zeros((1, 4), bool)}
    return {**predictions, "count": np.array([len(answers)])}, targets


IMAGES = [
    detected([(BOX, 0)], [(BOX, 0, 0.9)]),
    detected([(BOX, 0)], [(BOX, 0, 0.8), (FAR, 0, 0.85)]),
    detected([(BOX, 0), (FAR, 1)], [(BOX, 1, 0.7)]),
    detected([], [(FAR, 1, 0.05)]),
]


def test_wrong_detections_and_missed_objects_are_mistakes() -> None:
    review = DetectionReview(["cat", "dog"])
    for image in IMAGES:
        review.add(*image)
    verdicts = review.verdicts()
    assert [verdict.mistakes for verdict in verdicts] == [0, 1, 2, 0]
    np.testing.assert_allclose([verdict.cost for verdict in verdicts], [0, 0.85, 1.7, 0], rtol=1e-6)
    assert verdicts[2].cells["wrong_by"] == "class 1" and verdicts[2].cells["missed"] == 1
    confused, sizes, limits = review.findings({})
    assert confused.table
    assert ["cat", "dog", "1", "33.3%"] in confused.table.rows
    assert ["nothing", "cat", "1", "100.0%"] in confused.table.rows
    assert ["dog", "nothing", "1", "100.0%"] in confused.table.rows
    assert sizes.table and sizes.table.rows == [["32–64 px", "4", "0.5000"]]
    # No answer of "dog" is right, so its threshold is unknown.
    assert limits.table and limits.table.rows[1][1] == "–"


def test_without_a_readable_image_there_are_no_verdicts() -> None:
    review = DetectionReview(["cat", "dog"])
    assert review.verdicts() == []
    _, by_size, _ = review.findings({})
    assert by_size.table and by_size.table.rows == []


def test_thresholds_of_other_images_are_applied_as_they_are() -> None:
    sure, unsure = DetectionReview(["cat", "dog"]), DetectionReview(["cat", "dog"])
    sure.add(*detected([(BOX, 0)], [(BOX, 0, 0.9)]))
    unsure.add(*detected([(BOX, 0)], [(BOX, 0, 0.2)]))
    assert sure.verdicts()[0].score == 1 and sure.thresholds is not None
    unsure.thresholds = sure.thresholds
    assert unsure.verdicts()[0].score == 0
    # By its own images, the threshold is lower.
    unsure.thresholds = None
    assert unsure.verdicts()[0].score == 1


def test_each_kind_of_detection_has_its_color() -> None:
    review = DetectionReview(["cat", "dog"])
    for image in IMAGES:
        review.add(*image)
    review.verdicts()
    figure = review.draw(np.zeros((100, 100, 3), np.uint8), *IMAGES[2])
    [axes], [legend] = figure.axes, figure.legends
    assert [text.get_text().strip() for text in axes.texts] == ["dog", "dog 70%, is cat"]
    assert [text.get_text().strip() for text in legend.get_texts()] == ["wrong", "missed"]


def test_padding_and_ignored_pixels_of_masks_are_no_mistakes() -> None:
    review = SegmentationReview(["land", "water"])
    truth = np.full((2, 4, 6), IGNORED, np.uint8)
    truth[0, :4, :4] = [[0, 0, 1, 1]] * 4
    truth[0, 3] = IGNORED
    truth[1] = 1
    answer = np.full((2, 5, 6), IGNORED, np.uint8)
    answer[0, :4, :4] = [[0, 0, 1, 1]] * 4
    answer[1, :4] = [[0, 0, 0, 1, 1, 1]] * 4
    size = np.array([[4, 4], [4, 6]])
    review.add({"mask": answer, "image_size": size}, {"mask": truth})
    right, wrong = review.verdicts()
    assert (right.mistakes, right.cost, right.score) == (0, 0, 1)
    # All pixels are water, and half of them are predicted as land: IoUs of 0.5 and 0.
    assert (wrong.mistakes, wrong.cost, wrong.score) == (12, 0.75, 0.25)
    assert wrong.cells["worst_class"] == "land"
    groups = review.groups({}, {"mask": truth})
    assert groups == {"classes in the image": ["2", "1"]}


def test_a_wrong_class_and_a_wrong_box_are_separate_mistakes() -> None:
    review = LocalizationReview(["cat", "dog"])
    predictions = {
        "class_id": np.array([0, 1, 1, 0]),
        "probability": np.float32([0.9, 0.8, 0.7, 0.6]),
        "box": np.float32([BOX, BOX, FAR, BOX]),
        "image_size": np.array([[100, 100]] * 4),
    }
    targets = {"label": np.array([0, 0, 0, -1]), "box": np.float32([BOX] * 4) / 100}
    review.add(predictions, targets)
    assert [verdict.mistakes for verdict in review.verdicts()] == [0, 1, 2, 0]
    assert [round(verdict.cost, 4) for verdict in review.verdicts()] == [0, 0.8, 1.7, 0]
    assert review.groups(predictions, targets)["share of the image"][0] == "below 20%"


def test_only_annotated_keypoints_can_be_wrong() -> None:
    review = PoseReview(Facts(keypoint_names=("head", "foot")))
    points = np.array([[[0.2, 0.2], [0.6, 0.4]]] * 3)
    size = np.array([[100, 50]] * 3)
    answers = points * size[:, np.newaxis]
    answers[1:, 1] += (0, 20)
    targets = {
        "keypoints": points,
        "box": np.array([[0.1, 0.1, 0.9, 0.5]] * 3),
        "visibility": np.array([[2, 2], [2, 2], [2, 0]]),
    }
    review.add({"keypoints": answers, "image_size": size}, targets)
    assert [verdict.mistakes for verdict in review.verdicts()] == [0, 1, 0]
    assert review.verdicts()[1].cells["wrong_keypoints"] == "foot"
    np.testing.assert_allclose(
        [verdict.cost for verdict in review.verdicts()], [0, 0.25, 0], atol=1e-9
    )


def test_numbers_of_objects_are_grouped_by_powers_of_two() -> None:
    groups = [count_group(count) for count in (0, 1, 2, 3, 4, 7, 8, 16)]
    assert groups == ["0", "1", "2–3", "2–3", "4–7", "4–7", "8–15", "16–31"]
