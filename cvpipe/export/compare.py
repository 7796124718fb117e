"""Comparison of an artefact's answers with evaluation's, a rule for each `Field.compare`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from cvpipe.fields import Field

TOLERANCE = 1e-5
"""Largest difference of numbers, relative above 1."""
PIXELS = 1e-4
"""Largest share of pixels that may differ, where two labels are all but equally probable."""


class Refused(Exception):
    """Answers differ; the message is the end of a sentence."""


def difference(expected: np.ndarray, given: np.ndarray, field: Field) -> float:
    """Return the largest difference between answers, [B, …] each, that are compared as "close"; 0
    for all others.

    Raises:
        Refused: they differ by more than their field allows.
    """
    if field.padding is not None:
        expected = _without_padding(expected, given.shape, field)
    if expected.shape != given.shape:
        raise Refused(f"has shape {given.shape}, evaluation's has {expected.shape}")
    return _RULES[field.compare](expected, given, field)


def _exact(expected: np.ndarray, given: np.ndarray, field: Field) -> float:
    differs = (expected != given).reshape(len(expected), -1).any(1)
    if differs.any():
        raise Refused(f"differs from evaluation for {differs.sum()} images")
    return 0.0


def _close(expected: np.ndarray, given: np.ndarray, field: Field) -> float:
    apart = _apart(expected, given)
    return _within(float(apart.max(initial=0)), TOLERANCE)


def _counts(expected: np.ndarray, given: np.ndarray, field: Field) -> float:
    # Of all images together: in a small one, a single pixel is more than the share that is allowed.
    _within(float(_apart(expected, given).mean(0).max()), PIXELS)
    return 0.0


def _pixels(expected: np.ndarray, given: np.ndarray, field: Field) -> float:
    # Likewise. Padding is no pixel.
    pixels = expected.size if field.padding is None else (expected != field.padding).sum()
    share = float((expected != given).sum() / max(pixels, 1))
    if share > PIXELS:
        raise Refused(f"differs from evaluation in {share:.2%} of the pixels")
    return 0.0


def _ranked(expected: np.ndarray, given: np.ndarray, field: Field) -> float:
    # Runners-up may change places where they tie to the last bit; their scores are compared.
    return 0.0


def _apart(expected: np.ndarray, given: np.ndarray) -> np.ndarray:
    # In float64: integers without sign would wrap around, and bools can't be subtracted.
    expected, given = expected.astype(np.float64), given.astype(np.float64)
    # Of numbers above 1, such as pixels, relative: float32 has no more digits.
    return np.abs(expected - given) / np.maximum(np.abs(expected), 1)


def _within(apart: float, allowed: float) -> float:
    # Not "apart > allowed": that is also false of a NaN.
    if not apart <= allowed:
        raise Refused(f"differs from evaluation by {apart:.2e}; allowed is {allowed:.0e}")
    return apart


def _without_padding(values: np.ndarray, shape: tuple[int, ...], field: Field) -> np.ndarray:
    """Cut padding off: an image answered alone isn't padded to the size of others."""
    part = values[tuple(slice(length) for length in shape)]
    whole = (part != field.padding).sum() == (values != field.padding).sum()
    return part if whole else values


Compare = Literal["exact", "close", "pixels", "counts", "ranked"]
_RULES: dict[Compare, Callable[[np.ndarray, np.ndarray, Field], float]] = {
    "exact": _exact,
    "close": _close,
    "pixels": _pixels,
    "counts": _counts,
    "ranked": _ranked,
}
