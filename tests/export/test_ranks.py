"""Guards the alignment of ranked answers: only entries with equal scores are swapped."""

from __future__ import annotations

import numpy as np
import pytest

from cvpipe.export.compare import STRICT, Refused, difference
from cvpipe.export.ranks import aligned, ties
from cvpipe.tasks import classification, detection

CLOSE = STRICT.close
Answers = dict[str, np.ndarray]


def detected(scores: list[float], ids: list[int], seed: int = 0) -> Answers:
    """Return the answers to an image with objects at random places; a score of 0 is padding."""
    boxes = np.random.default_rng(seed).uniform(0, 300, (1, len(scores), 4)).astype(np.float32)
    is_object = np.array(scores) > 0
    return {
        "boxes": boxes * is_object[:, None],
        "class_ids": np.array([ids], np.int32),
        "scores": np.array([scores], np.float32),
        "count": is_object.sum(keepdims=True).astype(np.int32),
    }


def swapped(answers: Answers, order: list[int]) -> Answers:
    return {name: value if name == "count" else value[:, order] for name, value in answers.items()}


def refused(expected: Answers, actual: Answers) -> set[str]:
    """Return the names of the answers that the gate would refuse."""
    found, names = aligned(expected, actual, detection.ANSWERS, CLOSE), set()
    for name, value in expected.items():
        try:
            difference(value, found[name], detection.ANSWERS[name])
        except Refused:
            names.add(name)
    return names


def test_objects_with_equal_scores_may_be_swapped_with_all_their_answers() -> None:
    expected = detected([0.9, 0.5, 0.5 - 1e-7, 0.5 - 2e-7, 0.1], [0, 1, 2, 3, 4])
    actual = swapped(expected, [0, 3, 1, 2, 4])
    assert refused(expected, actual) == set()
    found = aligned(expected, actual, detection.ANSWERS, CLOSE)
    for name in ("boxes", "class_ids"):
        np.testing.assert_array_equal(found[name], expected[name])
    # The arguments stay as they are.
    assert actual["class_ids"].tolist() == [[0, 3, 1, 2, 4]]


def test_objects_with_different_scores_stay_in_their_order() -> None:
    expected = detected([0.9, 0.5, 0.4, 0.1], [0, 1, 2, 3])
    actual = swapped(expected, [0, 2, 1, 3])
    assert refused(expected, actual | {"scores": expected["scores"]}) == {"boxes", "class_ids"}


@pytest.mark.parametrize("name, changed", [("class_ids", 7), ("boxes", 8.5)])
def test_a_wrong_entry_among_equal_scores_is_refused(name: str, changed: float) -> None:
    expected = detected([0.5, 0.5, 0.5, 0.1], [0, 1, 2, 3])
    actual = swapped(expected, [1, 2, 0, 3])
    actual[name][0, 1] = changed
    assert name in refused(expected, actual)


def test_a_full_list_may_end_with_another_object_of_equal_score() -> None:
    expected = detected([0.9, 0.5, 0.5], [0, 1, 2])
    other = detected([0.9, 0.5, 0.5], [0, 2, 5], seed=1)
    actual = {**swapped(expected, [0, 2, 1])}
    for name in ("boxes", "class_ids"):
        actual[name][0, 2] = other[name][0, 2]
    assert refused(expected, actual) == set()
    # A single last entry is equal to no other entry.
    alone = detected([0.9, 0.5], [0, 1])
    assert refused(alone, alone | {"class_ids": np.array([[0, 2]])}) == {"class_ids"}


def test_entries_after_the_last_object_are_compared() -> None:
    expected = detected([0.9, 0.0, 0.0], [0, -1, -1])
    actual = {name: value.copy() for name, value in expected.items()}
    actual["class_ids"][0, 2] = 4
    assert refused(expected, actual) == {"class_ids"}


def test_the_first_class_may_be_any_with_the_highest_probability() -> None:
    names = np.array([b"cat", b"dog", b"owl"], object)
    ids = np.array([[0, 1, 2], [0, 1, 2]], np.int32)
    expected = {
        "class_id": ids[:, 0],
        "class_name": names[ids[:, 0]],
        "top_class_ids": ids,
        "top_class_names": names[ids],
        "top_probabilities": np.array([[0.4, 0.4, 0.2], [0.5, 0.3, 0.2]], np.float32),
    }
    other = np.array([[1, 0, 2], [1, 0, 2]], np.int32)
    actual = {
        "class_id": other[:, 0],
        "class_name": names[other[:, 0]],
        "top_class_ids": other,
        "top_class_names": names[other],
        "top_probabilities": expected["top_probabilities"],
    }
    found = aligned(expected, actual, classification.ANSWERS, CLOSE)
    assert found["class_id"].tolist() == [0, 1]
    assert found["class_name"].tolist() == [b"cat", b"dog"]
    assert found["top_class_ids"].tolist() == [[0, 1, 2], [1, 0, 2]]


def test_answers_of_different_shapes_are_returned_as_they_are() -> None:
    expected, actual = detected([0.5, 0.5], [0, 1]), detected([0.5], [1])
    found = aligned(expected, actual, detection.ANSWERS, CLOSE)
    assert all(found[name] is value for name, value in actual.items())


def test_runs_of_equal_scores_are_found() -> None:
    scores = np.array([0.9, 0.5, 0.5 - 1e-6, 0.3, 0.0, 0.0])
    assert [run.tolist() for run in ties(scores, CLOSE)] == [[1, 2], [4, 5]]
    assert ties(np.zeros(0), CLOSE) == [] and ties(np.ones(1), CLOSE) == []
