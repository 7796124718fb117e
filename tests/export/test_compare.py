"""Guards the comparison of answers: each field has its tolerance, whatever its name and dtype."""

from __future__ import annotations

import numpy as np
import pytest

from cvpipe.export.compare import Refused, difference
from cvpipe.fields import Field
from cvpipe.geometry.masks import IGNORED

MASK, SHARES = Field("pixels", padding=IGNORED), Field("counts")
EXACT, CLOSE = Field("exact"), Field("close")


def masks_and_shares(tied: int) -> tuple[np.ndarray, np.ndarray]:
    """Return four masks of 64 × 64 pixels, with `tied` pixels of class 1 in the first, and the
    shares of the two classes.
    """
    masks = np.zeros((4, 64, 64), np.uint8)
    masks[0, 0, :tied] = 1
    shares = np.stack([(masks == label).mean((1, 2)) for label in range(2)], 1)
    return masks, shares.astype(np.float32)


def test_a_tied_pixel_is_allowed_in_masks_and_in_the_shares_that_count_it() -> None:
    for field, expected, found in zip(
        (MASK, SHARES), masks_and_shares(0), masks_and_shares(1), strict=True
    ):
        assert (expected != found).any()
        assert difference(expected, found, field) == 0


@pytest.mark.parametrize("number, field", enumerate([MASK, SHARES]))
def test_more_than_a_pixel_in_ten_thousand_is_refused(number: int, field: Field) -> None:
    with pytest.raises(Refused, match="differs from evaluation"):
        difference(masks_and_shares(0)[number], masks_and_shares(2)[number], field)


def test_padding_does_not_count_in_the_comparison_of_masks() -> None:
    expected = np.full((2, 200, 300), IGNORED, np.uint8)
    expected[:, :20, :30] = 0
    found = expected.copy()
    found[0, 0, 0] = 1
    with pytest.raises(Refused, match="differs from evaluation in 0.08% of the pixels"):
        difference(expected, found, MASK)


def test_a_mask_without_any_pixel_equals_itself() -> None:
    empty = np.full((2, 3, 4), IGNORED, np.uint8)
    assert difference(empty, empty.copy(), MASK) == 0


def test_an_image_predicted_alone_is_compared_without_the_padding_of_a_batch() -> None:
    together = np.full((1, 40, 60), IGNORED, np.uint8)
    together[:, :20, :30] = 1
    assert difference(together, together[:, :20, :30], MASK) == 0
    # Removing pixels that aren't padding would hide a difference.
    with pytest.raises(Refused, match=r"has shape \(1, 10, 30\), evaluation's has \(1, 40, 60\)"):
        difference(together, together[:, :10, :30], MASK)


@pytest.mark.parametrize("field", [EXACT, CLOSE, SHARES])
def test_shapes_must_be_the_same(field: Field) -> None:
    values = np.zeros((2, 3), np.float32)
    with pytest.raises(Refused, match=r"has shape \(2, 2\), evaluation's has \(2, 3\)"):
        difference(values, values[:, :2], field)


def test_exact_answers_must_be_the_same_for_every_image() -> None:
    expected = np.array([[30, 40], [50, 60], [7, 8]], np.int32)
    assert difference(expected, expected.copy(), EXACT) == 0
    with pytest.raises(Refused, match="differs from evaluation for 1 images"):
        difference(expected, np.array([[30, 40], [60, 50], [7, 8]], np.int32), EXACT)
    names = np.array([b"cat", b"dog"], object)
    assert difference(names, names.copy(), EXACT) == 0
    with pytest.raises(Refused, match="differs from evaluation for 2 images"):
        difference(names, names[::-1], EXACT)


@pytest.mark.parametrize("found", [2e-5, -2e-5, np.nan])
def test_close_answers_may_differ_only_in_the_last_digits(found: float) -> None:
    zeros = np.zeros((1, 2), np.float32)
    with pytest.raises(Refused, match="allowed is 1e-05"):
        difference(zeros, np.array([[0, found]], np.float32), CLOSE)
    with pytest.raises(Refused, match="allowed is 1e-04"):
        difference(zeros, np.array([[0, found * 10]], np.float32), SHARES)


def test_the_largest_difference_is_returned_and_relative_above_one() -> None:
    expected = np.array([[0.5, 1000.0]], np.float32)
    found = expected + np.array([[2e-6, 0.004]], np.float32)
    assert difference(expected, found, CLOSE) == pytest.approx(4e-6, rel=0.02)
    assert difference(expected[:, :0], found[:, :0], CLOSE) == 0


def test_bytes_that_are_not_a_mask_have_the_tolerance_of_their_field() -> None:
    # One value of 40,000 differs, which only the tolerance for pixels allows.
    expected = np.zeros((1, 200, 200), np.uint8)
    found = expected.copy()
    found[0, 0, 0] = 1
    assert difference(expected, found, Field("pixels")) == 0
    with pytest.raises(Refused, match="differs from evaluation by 1.00e[+]00; allowed is 1e-05"):
        difference(expected, found, CLOSE)
    with pytest.raises(Refused, match="differs from evaluation for 1 images"):
        difference(expected, found, EXACT)


def test_differences_of_unsigned_integers_dont_wrap_around() -> None:
    # In uint8, 0 − 1 and 100 − 101 would be 255.
    low, high = np.array([[0, 100]], np.uint8), np.array([[1, 101]], np.uint8)
    for expected, found in ((low, high), (high, low), (low > 0, high > 0)):
        with pytest.raises(Refused, match="by 1.00e[+]00; allowed is 1e-05"):
            difference(expected, found, CLOSE)
