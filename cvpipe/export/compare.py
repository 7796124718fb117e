"""Comparison of an artifact's answers with those of evaluation, with a rule per `Field.compare`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from cvpipe.fields import Field

TOLERANCE = 1e-5
"""Largest difference of numbers, relative above 1."""
ROUNDING = 100
"""Factor of the tolerance up to which a difference may be due to rounding."""
PIXELS = 1e-4
"""Largest fraction of pixels that may differ, because two classes are almost equally probable."""


class Tolerance(NamedTuple):
    """Allowed differences between answers that were computed by different kernels."""

    close: float = TOLERANCE
    """Largest difference of numbers, relative above 1."""
    pixels: float = PIXELS
    """Largest fraction of pixels that may differ."""
    images: float = 0.0
    """Largest fraction of images whose answers may differ by more, because rounding decides between
    almost equal answers.
    """


STRICT = Tolerance()


class Refused(Exception):
    """Answers differ. The message continues a sentence whose subject is the answer."""


def difference(
    expected: np.ndarray, given: np.ndarray, field: Field, tolerance: Tolerance = STRICT
) -> float:
    """Compare two answers, each [B, …], by the rule of their field. Return the largest difference
    if the rule is "close", else 0.

    Args:
        tolerance: allowed differences.

    Raises:
        Refused: the answers differ by more than the tolerance.
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
    # NaN sorts last, where it would count among the images that may differ by more.
    excused = 0 if np.isnan(apart).any() else int(tolerance.images * len(apart))
    worst, allowed = float(apart[: len(apart) - excused].max(initial=0)), tolerance.close
    advice = "; if the network amplifies rounding, set export.tolerance"
    return _within(worst, allowed, advice if worst <= ROUNDING * allowed else "")


def _counts(expected: np.ndarray, given: np.ndarray, field: Field, tolerance: Tolerance) -> float:
    # Averaged over all images: in a small image, a single pixel exceeds the tolerance.
    _within(float(_apart(expected, given).mean(0).max()), tolerance.pixels)
    return 0.0


def _pixels(expected: np.ndarray, given: np.ndarray, field: Field, tolerance: Tolerance) -> float:
    # Over all images, too. Padding does not count.
    pixels = expected.size if field.padding is None else (expected != field.padding).sum()
    share = float((expected != given).sum() / max(pixels, 1))
    if share > tolerance.pixels:
        raise Refused(f"differs from evaluation in {share:.2%} of the pixels")
    return 0.0


def _ranked(expected: np.ndarray, given: np.ndarray, field: Field, tolerance: Tolerance) -> float:
    # Exact ties may be swapped. Only the scores are compared.
    return 0.0


def _apart(expected: np.ndarray, given: np.ndarray) -> np.ndarray:
    # In float64, because unsigned integers would wrap around and bools can't be subtracted.
    expected, given = expected.astype(np.float64), given.astype(np.float64)
    # Relative for numbers above 1, such as pixels, because float32 has a fixed number of digits.
    return np.abs(expected - given) / np.maximum(np.abs(expected), 1)


def _within(apart: float, allowed: float, advice: str = "") -> float:
    # Not "apart > allowed", which is False for NaN.
    if not apart <= allowed:
        raise Refused(f"differs from evaluation by {apart:.2e}; allowed is {allowed:.0e}{advice}")
    return apart


def _without_padding(values: np.ndarray, shape: tuple[int, ...], field: Field) -> np.ndarray:
    """Remove padding: an image answered alone isn't padded to the size of others."""
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
