"""Guards the gate's tolerances: whole numbers must be equal, computed ones close."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cvpipe.errors import UserError
from cvpipe.export.gate import _difference
from cvpipe.geometry.masks import IGNORED


def difference(name: str, expected: np.ndarray, given: np.ndarray) -> float:
    return _difference(Path("model"), name, "v2 loader", expected, given)


def masks_and_shares(tied: int) -> tuple[np.ndarray, np.ndarray]:
    """Four masks of 64 × 64 pixels, of which so many in the first are of class 1, and the shares of
    the two classes.
    """
    masks = np.zeros((4, 64, 64), np.uint8)
    masks[0, 0, :tied] = 1
    shares = np.stack([(masks == label).mean((1, 2)) for label in range(2)], 1)
    return masks, shares.astype(np.float32)


def test_a_tied_pixel_is_allowed_in_masks_and_in_the_shares_that_count_it() -> None:
    for name, expected, given in zip(("mask", "shares"), masks_and_shares(0), masks_and_shares(1)):
        assert difference(name, expected, given) == 0


@pytest.mark.parametrize("number, name", enumerate(["mask", "shares"]))
def test_more_than_a_pixel_in_ten_thousand_is_refused(number: int, name: str) -> None:
    with pytest.raises(
        UserError, match=f"refused, because {name} .v2 loader. differs from evaluation"
    ):
        difference(name, masks_and_shares(0)[number], masks_and_shares(2)[number])


def test_padding_makes_no_mask_more_alike() -> None:
    expected = np.full((2, 200, 300), IGNORED, np.uint8)
    expected[:, :20, :30] = 0
    given = expected.copy()
    given[0, 0, 0] = 1
    with pytest.raises(UserError, match="mask .* differs from evaluation in 0.08% of the pixels"):
        difference("mask", expected, given)


def test_image_sizes_must_be_the_same() -> None:
    expected = np.array([[30, 40], [50, 60]], np.int32)
    assert difference("image_size", expected, expected.copy()) == 0
    with pytest.raises(UserError, match="image_size .* differs from evaluation for 1 images"):
        difference("image_size", expected, np.array([[30, 40], [60, 50]], np.int32))


def test_runners_up_may_change_places() -> None:
    ids = np.array([[3, 1, 2]], np.int32)
    assert difference("top_class_ids", ids, ids[:, [0, 2, 1]]) == 0


@pytest.mark.parametrize("given", [2e-5, np.nan])
def test_other_numbers_are_held_to_the_last_digits(given: float) -> None:
    with pytest.raises(UserError, match="allowed is 1e-05"):
        difference(
            "mean_probabilities", np.zeros((1, 2), np.float32), np.array([[0, given]], np.float32)
        )
    with pytest.raises(UserError, match="shares"):
        difference("shares", np.zeros((1, 2), np.float32), np.array([[0, given * 10]], np.float32))
