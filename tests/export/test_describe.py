"""Guards the description of prepared images in an artifact's metadata."""

from __future__ import annotations

import pytest

from conftest import ROOT, small_config
from cvpipe import config_file
from cvpipe.data.prepare import input_spec
from cvpipe.export.describe import _in_words, describe_preparation

SIZE = "prepare.size=[16, 24]"


@pytest.mark.parametrize(
    "overrides, text",
    [
        ([], "[B, 16, 24, 1]: prepared images, gray, (pixels / 255 - "),
        (["prepare.mean=[0]", "prepare.std=[1]"], "(pixels / 255 - 0) / 1; resized to this size;"),
        (["prepare.resize=crop"], "; cropped to the largest centered part of this aspect ratio"),
        (["prepare.resize=letterbox"], "; the bars around have the value 0;"),
        (
            ["prepare.channels=3", "prepare.mean=[0.4, 0.5, 0.25]"],
            "RGB, (pixels / 255 - [0.4, 0.5, 0.25]) / ",
        ),
        (["test_time.views=mirrored"], "[B, 2, 16, 24, 1]"),
        (
            ["test_time={views: ten, sides: [32, 40]}"],
            "resized to a short side of 32 and 40 pixels, then cropped to this size; the center and"
            " four corner crops",
        ),
    ],
)
def test_a_sentence_says_how_to_prepare_images(overrides: list[str], text: str) -> None:
    config = small_config(SIZE, *overrides)
    rule = describe_preparation(config)
    assert text in _in_words(rule)
    assert rule["shape"] == input_spec(config).shape.as_list()


def test_images_that_keep_their_size_are_pixels() -> None:
    pipeline = ROOT / "pipelines/segmentation/digit_scenes_fcn.yaml"
    rule = describe_preparation(config_file.load(pipeline, ["prepare.resize=tile"]))
    assert (rule["dtype"], rule["range"], rule["mean"]) == ("uint8", [0, 255], None)
    assert "uint8 [B, any, any, 3]: prepared images, RGB, pixels in 0 to 255; of" in _in_words(rule)
