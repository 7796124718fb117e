"""Comparison of all answers. In ranked answers, entries with equal scores may be swapped.

Dimensions: B images, S entries in order of descending score, R entries with equal scores.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment

from cvpipe.export.compare import Refused, Tolerance, deviations, difference
from cvpipe.fields import Field

Answers = Mapping[str, np.ndarray]
FAR = 1e3
"""Largest cost of a difference of numbers, in tolerances."""
OTHER = 1e6
"""Cost of a difference in answers that must be equal."""


def largest_difference(
    expected: Answers,
    actual: Answers,
    fields: Mapping[str, Field],
    tolerance: Tolerance,
    where: str,
) -> float:
    """Compare all answers by `difference`, and return the largest difference.

    Args:
        expected: answers to some images by name, each [B, …].
        actual: other answers to these images.
        fields: the field of each answer.
        tolerance: allowed differences.
        where: origin of the actual answers, for the error.

    Raises:
        Refused: an answer differs by more than the tolerance. The message names it.
    """
    worst = 0.0
    actual = aligned(expected, actual, fields, tolerance.close)
    for name, value in expected.items():
        try:
            worst = max(worst, difference(value, actual[name], fields[name], tolerance))
        except Refused as reason:
            raise Refused(f"{name} ({where}) {reason}") from None
    return worst


def aligned(
    expected: Answers, actual: Answers, fields: Mapping[str, Field], close: float
) -> dict[str, np.ndarray]:
    """Return the actual answers in the order of the expected answers.

    Rounding decides the order of entries with equal scores, and which of them a full list keeps. So
    actual entries are matched to the nearest expected entries with equal scores, and entries that
    tie with the last entry of a full list count as equal.

    Args:
        expected: answers to some images by name, each [B, …].
        actual: other answers to these images.
        fields: the field of each answer.
        close: largest difference of equal numbers.
    """
    found = dict(actual)
    for scores in {fields[name].ranked_by for name in expected} & expected.keys():
        ranked = [name for name in expected if scores in (name, fields[name].ranked_by)]
        if any(expected[name].shape != actual[name].shape for name in ranked):
            continue
        found |= {name: actual[name].copy() for name in ranked}
        for n in range(len(expected[scores])):
            wanted = {name: expected[name][n] for name in ranked}
            # Views, so that changes arrive in `found`.
            given = {name: found[name][n] for name in ranked}
            _align(wanted, given, scores, fields, close)
    for name in expected:
        first_of = fields[name].first_of
        if first_of and len(actual[name]) == len(actual[first_of]):
            # The list itself is compared.
            is_first = actual[name] == actual[first_of][:, 0]
            found[name] = np.where(is_first, expected[name], actual[name])
    return found


def _align(
    expected: Answers, actual: Answers, scores: str, fields: Mapping[str, Field], close: float
) -> None:
    """Bring the ranked answers to one image, each [S, …], into the order of the expected answers,
    in place.
    """
    for tied in ties(expected[scores], close):
        if all(np.array_equal(expected[name][tied], actual[name][tied]) for name in expected):
            continue
        order = _nearest(expected, actual, fields, tied, close)
        for values in actual.values():
            values[tied] = values[tied[order]]
    cut = _tied_with_the_cut(expected[scores], close)
    for name in set(expected) - {scores}:
        actual[name][cut] = expected[name][cut]


def ties(scores: np.ndarray, close: float) -> list[np.ndarray]:
    """Return the positions [R] of each run of several entries whose scores [S] are equal.

    Args:
        scores: [S], descending.
        close: the largest error of a score. Twice this distance can swap two entries.
    """
    ends = np.flatnonzero(scores[:-1] - scores[1:] > 2 * close) + 1
    return [run for run in np.split(np.arange(len(scores)), ends) if len(run) > 1]


def _tied_with_the_cut(scores: np.ndarray, close: float) -> np.ndarray:
    """Return the positions of the entries that rounding can replace by one beyond the end of the
    list. A list of one entry has none, so that this entry is compared.
    """
    # A score of 0 is padding.
    is_full = len(scores) > 1 and scores[-1] > 0
    return np.flatnonzero(scores - scores[-1] <= 2 * close) if is_full else np.zeros(0, int)


def _nearest(
    expected: Answers, actual: Answers, fields: Mapping[str, Field], tied: np.ndarray, close: float
) -> np.ndarray:
    """Return the position of the nearest actual entry for each expected entry of a run, int [R].
    Answers are those of one image, [S, …].
    """
    cost = np.zeros((len(tied), len(tied)))
    for name, values in expected.items():
        row, column = values[tied, np.newaxis], actual[name][np.newaxis, tied]
        if fields[name].compare == "close":
            # NaN is as far as possible; the comparison refuses it.
            each = np.nan_to_num(deviations(row, column) / close, nan=FAR).clip(0, FAR)
        else:
            each = np.where(row == column, 0.0, OTHER)
        cost += each.reshape(*cost.shape, -1).max(-1)
    return linear_sum_assignment(cost)[1]
