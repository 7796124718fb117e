"""Guards the alignment of ranked answers: only entries with equal scores are swapped."""

from __future__ import annotations

import numpy as np
import pytest

from cvpipe.export.compare import STRICT, Refused, Tolerance, difference
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


def refused(expected: Answers, actual: Answers, close: float = CLOSE) -> set[str]:
    """Return the names of the answers that the gate would refuse."""
    found, names = aligned(expected, actual, detection.ANSWERS, close), set()
    for name, value in expected.items():
        try:
            difference(value, found[name], detection.ANSWERS[name], Tolerance(close))
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
    # The last entry may tie with one beyond the list.
    single = detected([0.9, 0.5], [0, 1])
    assert refused(single, single | {"class_ids": np.array([[0, 2]])}) == set()
    assert refused(single, single | {"class_ids": np.array([[2, 1]])}) == {"class_ids"}


def test_the_entry_of_a_list_of_one_is_compared() -> None:
    expected = detected([0.5], [0])
    assert refused(expected, expected | {"class_ids": np.array([[1]])}) == {"class_ids"}


@pytest.mark.parametrize(
    "scores",
    [[0.3, 0.25, 0.2, 0.15, 0.1, 0.05, 0, 0, 0], [*np.linspace(0.99, 0.02, 20)], [0.05, 0]],
)
@pytest.mark.parametrize("close", [CLOSE, 3e-2])
def test_wrong_objects_are_refused_even_if_each_ties_with_the_next(
    scores: list[float], close: float
) -> None:
    expected = detected(scores, [0] * len(scores))
    other = detected(scores, [1] * len(scores), seed=1)
    assert refused(expected, other, close) >= {"boxes", "class_ids"}


def test_rounding_of_swapped_objects_is_reported_as_rounding() -> None:
    expected = detected([0.5, 0.5, 0.5, 0.1], [0, 1, 2, 3])
    actual = swapped(expected, [1, 2, 0, 3])
    actual["boxes"] = actual["boxes"] * np.float32(1 + 3e-5)
    found = aligned(expected, actual, detection.ANSWERS, CLOSE)
    with pytest.raises(Refused, match="by 3.*e-05; allowed is 1e-05; if the network amplifies"):
        difference(expected["boxes"], found["boxes"], detection.ANSWERS["boxes"])


def test_entries_after_the_last_object_are_compared() -> None:
    expected = detected([0.9, 0.0, 0.0], [0, -1, -1])
    actual = {name: value.copy() for name, value in expected.items()}
    actual["class_ids"][0, 2] = 4
    assert refused(expected, actual) == {"class_ids"}


def test_the_first_class_may_be_any_with_the_highest_probability() -> None:
    ids = np.array([[0, 1, 2], [0, 1, 2], [0, 1, 2]], np.int32)
    probabilities = [[0.4, 0.4, 0.2], [0.5, 0.3, 0.2], [0.4, 0.4, 0.2]]
    expected = {
        "class_id": ids[:, 0],
        "top_class_ids": ids,
        "top_probabilities": np.array(probabilities, np.float32),
    }
    other = np.array([[1, 0, 2], [1, 0, 2], [1, 0, 2]], np.int32)
    actual = expected | {"class_id": np.array([1, 1, 2], np.int32), "top_class_ids": other}
    found = aligned(expected, actual, classification.ANSWERS, CLOSE)
    # The last image's answer isn't the first of its own list.
    assert found["class_id"].tolist() == [0, 0, 2]
    assert found["top_class_ids"].tolist() == [[0, 1, 2], [1, 0, 2], [0, 1, 2]]


def test_answers_of_different_shapes_are_returned_as_they_are() -> None:
    expected, actual = detected([0.5, 0.5], [0, 1]), detected([0.5], [1])
    found = aligned(expected, actual, detection.ANSWERS, CLOSE)
    assert all(found[name] is value for name, value in actual.items())


def test_runs_of_equal_scores_are_found() -> None:
    scores = np.array([0.9, 0.5, 0.5 - 1e-6, 0.3, 0.0, 0.0])
    assert [run.tolist() for run in ties(scores, CLOSE)] == [[1, 2], [4, 5]]
    assert ties(np.zeros(0), CLOSE) == [] and ties(np.ones(1), CLOSE) == []
