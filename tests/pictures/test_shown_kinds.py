"""Guards the choice of examples for pictures: their kind depends on the class and on whether the
answer is right.
"""

from __future__ import annotations

import numpy as np

from cvpipe.geometry.masks import IGNORED
from cvpipe.pictures import classification, detection, pose, segmentation


def test_in_classification_right_and_wrong_answers_of_each_class_are_kinds() -> None:
    labels, answers = np.array([0, 0, 1, 1, 0]), np.array([0, 1, 1, 0, 0])
    kinds = classification.kinds({"label": labels}, {"class_id": answers})
    assert len(set(kinds)) == 4 and kinds[0] == kinds[4]


def detected(truth: list[int], answers: list[int], scores: list[float], crowd: int = 0) -> int:
    """Return the kind of an image with these objects, of which the last `crowd` are crowds."""
    targets = {
        "labels": np.array([[*truth, -1]]),
        "crowd": np.array([[n >= len(truth) - crowd for n in range(len(truth))] + [False]]),
    }
    predictions = {
        "scores": np.array([[*scores, 0.9]]),
        "class_ids": np.array([[*answers, 0]]),
        "count": np.array([len(answers)]),
    }
    return int(detection.kinds(targets, predictions)[0])


def test_in_detection_the_kind_depends_on_the_rarest_object_and_the_answered_classes() -> None:
    right = detected([2, 2, 1], [1, 2, 2], [0.5, 0.9, 0.4])
    assert right == detected([1], [1], [0.8])
    assert right == detected([2, 2, 1], [1, 2, 2, 0], [0.5, 0.9, 0.4, 0.1])
    assert right == detected([1, 0], [1], [0.8], crowd=1)
    missed = detected([2, 2, 1], [1, 2], [0.5, 0.9])
    assert len({right, missed, detected([2], [2], [0.9]), detected([], [], [])}) == 4


def test_in_segmentation_the_kind_is_the_smallest_class_without_padding() -> None:
    truth = np.zeros((6, 6), np.uint8)
    truth[:2, :2] = 3
    truth[5] = IGNORED
    found, lost = truth[:5].copy(), np.zeros((7, 8), np.uint8)
    targets = {"mask": np.stack([truth, truth, np.zeros_like(truth)])}

    def padded(mask: np.ndarray) -> np.ndarray:
        gaps = [(0, side - length) for side, length in zip((7, 8), mask.shape, strict=True)]
        return np.pad(mask, gaps, constant_values=IGNORED)

    answers = np.stack([padded(found), lost, lost])
    kinds = segmentation.kinds(targets, {"mask": answers})
    assert len(set(kinds)) == 3 and kinds[0] // 2 == kinds[1] // 2 == 3
    nothing = np.full((1, 6, 6), IGNORED, np.uint8)
    assert segmentation.kinds({"mask": nothing}, {"mask": nothing}).shape == (1,)


def test_in_pose_figures_whose_keypoints_are_all_found_are_a_kind() -> None:
    points = np.array([[[0.2, 0.2], [0.6, 0.4]]] * 4)
    targets = {
        "keypoints": points,
        "box": np.array([[0.1, 0.1, 0.9, 0.5]] * 4),
        "visibility": np.array([[2, 2], [2, 2], [2, 0], [0, 0]]),
    }
    size = np.array([[100, 50]] * 4)
    answers = points * size[:, np.newaxis]
    answers[1:, 1] += (0, 20)
    kinds = pose.kinds(targets, {"keypoints": answers, "image_size": size})
    assert kinds.tolist() == [1, 0, 1, 1]
