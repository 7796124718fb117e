"""Guards `cvpipe data check` on masks: pixels of each class, and faults of masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvpipe.config.digits import DigitSceneMasks
from cvpipe.config.mask_sources import Masks
from cvpipe.data.check import check
from cvpipe.data.check_report import summary
from cvpipe.data.sources import Source
from cvpipe.data.sources.digit_scenes import compose, digit_scenes
from cvpipe.data.sources.masks import masks
from image_files import encode, noise


def opened(
    root: Path, drawn: list[np.ndarray], photos: list[bytes] | None = None
) -> dict[str, Source]:
    """Write masks, uint8 [H, W], and photos, or images of noise if there are none."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for number, mask in enumerate(drawn):
        photo = photos[number] if photos else encode(noise(*mask.shape, seed=number), "PNG")
        (root / "images" / f"{number}.png").write_bytes(photo)
        (root / "masks" / f"{number}.png").write_bytes(encode(mask[..., None], "PNG"))
    section = {
        "train": [{"images": "images", "masks": "masks"}],
        "classes": [{"name": name} for name in ("a", "b", "c")],
    }
    return masks(Masks.model_validate({"kind": "masks", "path": str(root), **section}))


def mask(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.uint8)


def test_pixels_and_images_of_each_class_are_counted(tmp_path: Path) -> None:
    result = check(
        opened(tmp_path, [mask([0, 0, 255, 255]), mask([0, 1], [1, 1]), mask([255, 255])]), 3
    )
    train: dict[str, Any] = result["splits"]["train"]
    assert result["clean"] and (train["examples"], train["broken"], train["unlabeled"]) == (3, 0, 1)
    assert train["classes"] == {"a": 2, "b": 1, "c": 0}
    assert (
        train["pixels"] == {"a": 0.5, "b": 0.5, "c": 0}
        and train["ignored"] == 0.4
        and train["imbalance"] == 1
    )
    lines = summary(result)
    assert "  pixels   a 50.00%, b 50.00%, c 0.00%; ignored 40.00% of all" in lines
    assert (
        "  class 'c' has no image here" in lines
        and "  masks without any label, whose images are useless for training: 1" in lines
    )
    assert (
        "  class 'b' is in only 1 of 3 images: add images of it, or its score will be"
        " unreliable" in lines
    )


def test_a_class_in_every_image_is_not_called_rare(tmp_path: Path) -> None:
    lines = summary(check(opened(tmp_path, [mask([0, 1]), mask([0, 0])]), 3))
    assert any("class 'b' is in only 1 of 2 images" in line for line in lines)
    assert not any("class 'a' is in" in line for line in lines)


def test_pixels_of_scenes_are_those_of_their_masks() -> None:
    config = DigitSceneMasks(
        kind="digit_scenes", train=70, validation=1, test=1, size=(40, 50), digit_sizes=(10, 20)
    )
    result = check({"train": digit_scenes(config)["train"]}, 3)
    found = result["splits"]["train"]
    drawn = compose(config, "train").masks
    np.testing.assert_allclose(
        list(found["pixels"].values()), np.bincount(drawn.ravel(), minlength=11) / drawn.size
    )
    assert list(found["classes"].values()) == [
        int((drawn == label).any((1, 2)).sum()) for label in range(11)
    ]
    assert any("times the pixels of the smallest" in line for line in summary(result))


def test_a_mask_of_another_size_makes_its_image_broken(tmp_path: Path) -> None:
    drawn = [mask([0, 1, 2]), mask([0, 1, 2]), mask([2, 1, 0])]
    photos = [encode(noise(1, 3, seed=n), "PNG") for n in range(2)] + [encode(noise(2, 3), "PNG")]
    result = check(opened(tmp_path, drawn, photos), 3)
    assert [row["reason"] for row in result["broken"]] == [
        "the mask is 3 x 1 pixels, and its image 3 x 2"
    ]
    assert result["splits"]["train"]["classes"] == {"a": 2, "b": 2, "c": 2} and not result["clean"]


@pytest.mark.parametrize(
    "second, kind", [(mask([0, 1]), "repeated"), (mask([1, 1]), "contradictions")]
)
def test_an_image_with_two_masks_is_a_contradiction(
    tmp_path: Path, second: np.ndarray, kind: str
) -> None:
    photo = encode(noise(1, 2), "PNG")
    result = check(opened(tmp_path, [mask([0, 1]), second], [photo, photo]), 3)
    assert {key for key in ("leaks", "repeated", "contradictions") if result[key]} == {kind}
    assert result[kind][0][0]["class"] == "a 50.0%, b 50.0%"
