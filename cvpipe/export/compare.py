"""Comparison of an artifact's answers with evaluation's, a rule for each `Field.compare`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from cvpipe.fields import Field

TOLERANCE = 1e-5
"""Largest difference of numbers, relative above 1."""
PIXELS = 1e-4
"""Largest share of pixels that may differ, where two labels are all but equally probable."""


class Tolerance(NamedTuple):
    """Room for the rounding of other kernels."""

    close: float = TOLERANCE
    """Largest difference of numbers, relative above 1."""
    pixels: float = PIXELS
    """Largest share of pixels that may differ."""
    images: float = 0.0
    """Largest share of images whose answers may differ by more, where rounding decides between all
    but equal ones.
    """


STRICT = Tolerance()


class Refused(Exception):
    """Answers differ; the message is the end of a sentence."""


def difference(
    expected: np.ndarray, given: np.ndarray, field: Field, tolerance: Tolerance = STRICT
) -> float:
    """Return the largest difference between answers, [B, …] each, that are compared as "close"; 0
    for all others.

    Args:
        tolerance: room for rounding.

    Raises:
        Refused: they differ by more than their field allows.
    """
    if field.padding is not None:
        expected = _without_padding(expected, given.shape, field)
    if expected.shape != given.shape:
        raise Refused(f"has shape {given.shape}, evaluation's has {expected.shape}")
    return _RULES[field.compare](expected, given, field, tolerance)


def _exact(expected: np.ndarray, given: np.ndarray, field: Field, tolerance: Tolerance) -> float:
    differs = (expected != given).reshape(len(expected), -1).any(1)
    if differs.sum() > tolerance.images * len(differs):
        raise Refused(f"differs from evaluation for {differs.sum()} images")
    return 0.0


def _close(expected: np.ndarray, given: np.ndarray, field: Field, tolerance: Tolerance) -> float:
    apart = np.sort(_apart(expected, given).reshape(len(expected), -1).max(1, initial=0))
    # Behind all numbers, a NaN would count among those that may differ.
    excused = 0 if np.isnan(apart).any() else int(tolerance.images * len(apart))
    return _within(float(apart[: len(apart) - excused].max(initial=0)), tolerance.close)


def _counts(expected: np.ndarray, given: np.ndarray, field: Field, tolerance: Tolerance) -> float:
    # Of all images together: in a small one, a single pixel is more than the share that is allowed.
    _within(float(_apart(expected, given).mean(0).max()), tolerance.pixels)
    return 0.0


def _pixels(expected: np.ndarray, given: np.ndarray, field: Field, tolerance: Tolerance) -> float:
    # Likewise. Padding is no pixel.
    pixels = expected.size if field.padding is None else (expected != field.padding).sum()
    share = float((expected != given).sum() / max(pixels, 1))
    if share > tolerance.pixels:
        raise Refused(f"differs from evaluation in {share:.2%} of the pixels")
    return 0.0


def _ranked(expected: np.ndarray, given: np.ndarray, field: Field, tolerance: Tolerance) -> float:
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
_RULES: dict[Compare, Callable[[np.ndarray, np.ndarray, Field, Tolerance], float]] = {
    "exact": _exact,
    "close": _close,
    "pixels": _pixels,
    "counts": _counts,
    "ranked": _ranked,
}
