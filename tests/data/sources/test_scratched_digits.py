"""Guards drawn labels with scratches: reproducible, with masks that lie on the defects."""

from __future__ import annotations

import numpy as np
import pytest

from cvpipe.config.defect_sources import ScratchedDigits
from cvpipe.data.sources.scratched_digits import CLASSES, draw_labels, scratched_digits

SMALL = ScratchedDigits(
    kind="scratched_digits", size=(64, 80), train=4, validation=2, test=9, channels=1
)


def test_labels_are_the_same_every_time_and_differ_between_splits_and_seeds() -> None:
    images, masks, labels = draw_labels(SMALL, "test")
    for again, first in zip(draw_labels(SMALL, "test"), (images, masks, labels), strict=True):
        np.testing.assert_array_equal(again, first)
    others = [
        draw_labels(SMALL, "train"),
        draw_labels(SMALL.model_copy(update={"seed": 1}), "test"),
    ]
    assert all((other[0][0] != images[0]).any() for other in others)


def test_only_every_second_test_image_has_a_defect() -> None:
    for split in ("train", "validation"):
        _, masks, labels = draw_labels(SMALL, split)
        assert not masks.any() and not labels.any()
    images, masks, labels = draw_labels(SMALL, "test")
    assert images.shape == (9, 64, 80, 1)
    assert labels.tolist() == [0, 1, 0, 2, 0, 1, 0, 2, 0]
    for mask, label in zip(masks, labels, strict=True):
        assert set(np.unique(mask)) == {0, label}


def test_a_defect_is_visible_where_its_mask_is() -> None:
    images, masks, _ = draw_labels(SMALL, "test")
    for image, mask in zip(images[1::2].astype(float), masks[1::2] > 0, strict=True):
        rows, columns = np.nonzero(mask)
        around = image[max(rows.min() - 3, 0) : rows.max() + 4]
        around = around[:, max(columns.min() - 3, 0) : columns.max() + 4, 0]
        assert abs(image[mask].mean() - np.median(around)) > 15


def test_the_source_has_names_classes_and_masks() -> None:
    source = scratched_digits(SMALL)["test"]
    assert source.facts.class_names == CLASSES and len(source) == 9
    example = source.read(np.int64(3))
    assert int(example["label"]) == 2 and example["mask"].shape == (64, 80, 1)
    assert source.describe(3).startswith("blot; good 9")
    assert not source.counts().any()


def test_labels_without_room_are_refused() -> None:
    with pytest.raises(ValueError, match="is too small for the digits; give 48 or more"):
        ScratchedDigits(kind="scratched_digits", size=(40, 90))
