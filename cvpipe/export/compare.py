"""Comparison of an artifact's answers with those of evaluation, by the rule `Field.compare`."""

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
    expected: np.ndarray, actual: np.ndarray, field: Field, tolerance: Tolerance = STRICT
) -> float:
    """Compare two answers, each [B, …], by the rule of their field. Return the largest difference
    if the rule is "close", else 0.

    Args:
        tolerance: allowed differences.

    Raises:
        Refused: the answers differ by more than the tolerance.
    """
    if field.padding is not None:
        expected = _without_padding(expected, actual.shape, field)
    if expected.shape != actual.shape:
        raise Refused(f"has shape {actual.shape}, evaluation's has {expected.shape}")
    return _RULES[field.compare](expected, actual, field, tolerance)


def _exact(expected: np.ndarray, actual: np.ndarray, field: Field, tolerance: Tolerance) -> float:
    differs = (expected != actual).reshape(len(expected), -1).any(1)
    if differs.sum() > tolerance.images * len(differs):
        raise Refused(f"differs from evaluation for {differs.sum()} images")
    return 0.0


def _close(expected: np.ndarray, actual: np.ndarray, field: Field, tolerance: Tolerance) -> float:
    differences = np.sort(deviations(expected, actual).reshape(len(expected), -1).max(1, initial=0))
    # NaN sorts last, where it would count among the images that may differ by more.
    excused = 0 if np.isnan(differences).any() else int(tolerance.images * len(differences))
    worst, allowed = (
        float(differences[: len(differences) - excused].max(initial=0)),
        tolerance.close,
    )
    advice = "; if the network amplifies rounding, set export.tolerance"
    return _within(worst, allowed, advice if worst <= ROUNDING * allowed else "")


def _counts(expected: np.ndarray, actual: np.ndarray, field: Field, tolerance: Tolerance) -> float:
    # Averaged over all images: in a small image, a single pixel exceeds the tolerance.
    _within(float(deviations(expected, actual).mean(0).max()), tolerance.pixels)
    return 0.0


def _pixels(expected: np.ndarray, actual: np.ndarray, field: Field, tolerance: Tolerance) -> float:
    # Averaged over all images, as in `_counts`. Padding does not count.
    pixels = expected.size if field.padding is None else (expected != field.padding).sum()
    share = float((expected != actual).sum() / max(pixels, 1))
    if share > tolerance.pixels:
        raise Refused(f"differs from evaluation in {share:.2%} of the pixels")
    return 0.0


def deviations(expected: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Return the absolute difference of each value, relative for values above 1, in float64."""
    # In float64, because unsigned integers would wrap around and bools can't be subtracted.
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    # Relative for pixels and the like, because float32 has a fixed number of digits.
    return np.abs(expected - actual) / np.maximum(np.abs(expected), 1)


def _within(amount: float, allowed: float, advice: str = "") -> float:
    # "amount > allowed" would be False for NaN.
    if not amount <= allowed:
        raise Refused(f"differs from evaluation by {amount:.2e}; allowed is {allowed:.0e}{advice}")
    return amount


def _without_padding(values: np.ndarray, shape: tuple[int, ...], field: Field) -> np.ndarray:
    """Remove padding. An image that is predicted alone isn't padded to the size of other images."""
    part = values[tuple(slice(length) for length in shape)]
    whole = (part != field.padding).sum() == (values != field.padding).sum()
    return part if whole else values


Compare = Literal["exact", "close", "pixels", "counts"]
_RULES: dict[Compare, Callable[[np.ndarray, np.ndarray, Field, Tolerance], float]] = {
    "exact": _exact,
    "close": _close,
    "pixels": _pixels,
    "counts": _counts,
}
