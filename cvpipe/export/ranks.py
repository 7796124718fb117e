"""Alignment of ranked answers, in which entries with equal scores may be swapped.

Dimensions: B images, S entries in order of descending score, R entries with equal scores.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment

from cvpipe.export.compare import deviations
from cvpipe.fields import Field

Answers = Mapping[str, np.ndarray]


def aligned(
    expected: Answers, actual: Answers, fields: Mapping[str, Field], close: float
) -> dict[str, np.ndarray]:
    """Return the actual answers in the order of the expected answers.

    Rounding decides the order of entries with equal scores, and which of these entries a list of
    limited length keeps. So actual entries are matched to the expected entries with equal scores,
    and at the end of a list, entries without a match count as equal.

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
        lists = [name for name in ranked if expected[name].ndim > 1]
        for n, row in enumerate(expected[scores]):
            for tied in ties(row, close):
                wanted = {name: expected[name][n, tied] for name in lists}
                given = {name: found[name][n, tied] for name in lists}
                order, matched = _matched(wanted, given, fields, close)
                # What has a score of 0 is padding.
                is_cut_off = ~matched & (tied[-1] == len(row) - 1) & (row[tied] > 0)
                for name in lists:
                    found[name][n, tied] = given[name][order]
                    if name != scores:
                        found[name][n, tied[is_cut_off]] = wanted[name][is_cut_off]
                # Each of the entries may be the first.
                for name in set(ranked).difference(lists) if tied[0] == 0 else ():
                    found[name][n] = expected[name][n]
    return found


def ties(scores: np.ndarray, close: float) -> list[np.ndarray]:
    """Return the positions [R] of each run of several entries whose scores [S] are equal.

    Args:
        scores: [S], descending.
        close: the largest error of a score. Twice this distance can swap two entries.
    """
    ends = np.flatnonzero(scores[:-1] - scores[1:] > 2 * close) + 1
    return [run for run in np.split(np.arange(len(scores)), ends) if len(run) > 1]


def _matched(
    expected: Answers, actual: Answers, fields: Mapping[str, Field], close: float
) -> tuple[np.ndarray, np.ndarray]:
    """Match as many entries as possible, in lists [R, …] by name.

    Returns:
        The position of the actual entry for each expected entry, int [R], and whether the two are
        equal, bool [R].
    """
    rows = len(next(iter(expected.values())))
    equal = np.ones((rows, rows), bool)
    for name, values in expected.items():
        row, column = values[:, np.newaxis], actual[name][np.newaxis]
        is_close = fields[name].compare == "close"
        same = deviations(row, column) <= close if is_close else row == column
        equal &= same.reshape(rows, rows, -1).all(-1)
    order = linear_sum_assignment(equal, maximize=True)[1]
    return order, equal[np.arange(rows), order]
