"""Guards TIDE's kinds of error, one by one and together."""

from __future__ import annotations

import numpy as np
import pytest

from cvpipe.metrics.detection import DetectionMetrics

WHOLE = [0, 0, 40, 40]
HALF_BESIDE = [0, 20, 40, 60]
FAR = [60, 60, 100, 100]


def errors(
    objects: list[tuple], answers: list[tuple], score_threshold: float = 0.3
) -> dict[str, float]:
    """Return the errors in an image of 100 × 100 pixels with objects (box, label, crowd) and
    answers (box, label, score).
    """
    metrics = DetectionMetrics(("a", "b"), score_threshold)
    metrics.update(
        {
            "boxes": np.float32([[box for box, _, _ in answers] or [WHOLE]]),
            "class_ids": np.int32([[n for _, n, _ in answers] or [0]]),
            "scores": np.float32([[score for _, _, score in answers] or [0]]),
            "count": np.int32([len(answers)]),
            "image_size": np.int32([[100, 100]]),
        },
        {
            "boxes": np.float32([[box for box, _, _ in objects] or [WHOLE]]) / 100,
            "labels": np.int32([[n for _, n, _ in objects] or [-1]]),
            "crowd": np.array([[crowd for *_, crowd in objects] or [False]]),
        },
        np.ones(1),
    )
    counts = metrics.result()["errors"]
    assert counts.pop("score_threshold") == score_threshold
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize(
    "answers, expected",
    [
        ([(WHOLE, 0, 0.9)], {"correct": 1}),
        ([(WHOLE, 1, 0.9)], {"class": 1}),
        ([(HALF_BESIDE, 0, 0.9)], {"location": 1}),
        ([(HALF_BESIDE, 1, 0.9)], {"both": 1, "missed": 1}),
        ([(FAR, 0, 0.9)], {"background": 1, "missed": 1}),
        ([(WHOLE, 0, 0.9), ([0, 0, 40, 36], 0, 0.8)], {"correct": 1, "duplicate": 1}),
        ([(WHOLE, 0, 0.2)], {"missed": 1}),
        ([], {"missed": 1}),
    ],
)
def test_each_kind_of_error_is_recognized(answers: list[tuple], expected: dict[str, int]) -> None:
    assert errors([(WHOLE, 0, False)], answers) == expected


def test_the_better_answer_takes_the_object_in_any_order() -> None:
    near = [0, 0, 40, 30]
    assert errors([(WHOLE, 0, False)], [(near, 0, 0.5), (WHOLE, 0, 0.9)]) == {
        "correct": 1,
        "duplicate": 1,
    }


def test_an_answer_takes_a_free_object_if_its_best_match_is_taken() -> None:
    objects = [(WHOLE, 0, False), ([0, 0, 40, 30], 0, False)]
    assert errors(objects, [(WHOLE, 0, 0.9), (WHOLE, 0, 0.8)]) == {"correct": 2}


def test_answers_inside_a_crowd_region_of_their_class_dont_count() -> None:
    crowd = [([0, 0, 100, 50], 0, True)]
    assert errors(crowd, [(WHOLE, 0, 0.9), (WHOLE, 0, 0.8)]) == {}
    assert errors(crowd, [(WHOLE, 1, 0.9)]) == {"background": 1}
    assert errors(crowd, [(FAR, 0, 0.9)]) == {"background": 1}


def test_every_counted_answer_has_one_kind_and_no_object_counts_twice() -> None:
    random = np.random.default_rng(0)
    low = random.integers(0, 60, (40, 2))
    boxes = np.concatenate([low, low + random.integers(5, 40, (40, 2))], 1).tolist()
    objects = [(box, int(random.integers(2)), False) for box in boxes[:15]]
    answers = [(box, int(random.integers(2)), float(random.random())) for box in boxes[10:]]
    counts = errors(objects, answers)
    verdicts = sum(count for name, count in counts.items() if name != "missed")
    assert verdicts == sum(score >= 0.3 for *_, score in answers)
    assert counts["correct"] + counts["missed"] <= 15
