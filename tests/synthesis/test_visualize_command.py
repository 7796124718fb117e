"""Guards `cvpipe visualize` and `cvpipe style`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT
from cvpipe.commands.visualize import file_names
from cvpipe.losses import perceptual
from cvpipe.losses.perceptual import random_features

EXAMPLE = ROOT / "pipelines" / "classification" / "example.png"
GLASS = ROOT / "pipelines" / "style" / "glass.jpg"
Cvpipe = Callable[..., tuple[int, str, str]]


def visualized(cvpipe: Cvpipe, run: Path, folder: Path, *words: Any) -> list[dict[str, Any]]:
    steps = () if "--steps" in words else ("--steps", 3)
    code, out, err = cvpipe("visualize", run, *words, *steps, "--to", folder, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert Path(result["picture"]).is_file()
    for row in result["images"]:
        with Image.open(row["picture"]) as picture:
            assert picture.size == (16, 16)
    return list(result["images"])


def test_images_of_classes_reach_higher_scores_with_the_steps(
    cvpipe: Cvpipe, trained_run: Path, tmp_path: Path
) -> None:
    words = ("--class", "3", "--class", "8")
    short, long = (
        visualized(cvpipe, trained_run, tmp_path / str(steps), *words, "--steps", steps)
        for steps in (1, 40)
    )
    assert [row["class_name"] for row in long] == ["3", "8"]
    for before, after in zip(short, long, strict=True):
        assert after["score"] > before["score"] + 0.1


def test_each_picture_has_a_file_name_of_its_own_without_slashes() -> None:
    names = ["class-bird/owl", "class-bird-owl", "class-Bird:owl", "block/conv-3"]
    assert file_names(names) == [
        "class-bird-owl",
        "class-bird-owl-2",
        "class-Bird-owl-3",
        "block-conv-3",
    ]


def test_units_dreams_and_inversions_are_pictures_with_numbers(
    cvpipe: Cvpipe, trained_run: Path, tmp_path: Path
) -> None:
    units = ("--unit", "stage2_block1_conv1:1", "--unit", "logits:4", "--by", "pixels")
    rows = visualized(cvpipe, trained_run, tmp_path / "units", *units)
    assert [row["unit"] for row in rows] == ["stage2_block1_conv1:1", "logits:4"]
    for wanted in ("--dream", "--invert"):
        words = (wanted, EXAMPLE, "--layer", "stage2_block1_conv1", "--longest", 16)
        [row] = visualized(cvpipe, trained_run, tmp_path / wanted, *words, "--steps", 40)
        assert row["layer"] == "stage2_block1_conv1"
        before, after = row["activation" if wanted == "--dream" else "loss"]
        assert after > before if wanted == "--dream" else after < before


@pytest.mark.parametrize(
    "words, said",
    [
        (("--class", "eleven"), "--class eleven: no such class; "),
        (("--unit", "stemm:1"), "--unit stemm: no such layer; did you mean 'stem'?"),
        (("--dream", EXAMPLE), "--layer: name the layer"),
        (("--dream", EXAMPLE, "--layer", "stemm"), "--layer stemm: no such layer; did you mean"),
        (("--class", "3", "--layer", "stem"), "--layer goes with --dream or --invert"),
        (("--class", "3", "--steps", "0"), "must be at least 1"),
    ],
)
def test_wrong_names_are_sentences(
    cvpipe: Cvpipe, trained_run: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    code, out, err = cvpipe("visualize", trained_run, *words, "--to", tmp_path / "none")
    assert (code, out) == (2, "") and said in err
    assert not (tmp_path / "none").exists()


def test_a_network_without_packaged_weights_is_an_error(cvpipe: Cvpipe) -> None:
    code, _, err = cvpipe("visualize", "efficientnet", "--class", "3")
    assert code == 2 and "no package has a classifier of that name" in err


def test_a_photo_takes_a_style_and_a_texture_has_none(
    cvpipe: Cvpipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In place of the weights' package, which needn't be installed.
    monkeypatch.setattr(
        perceptual, "trained_features", lambda pooling: random_features(0.125, pooling=pooling)
    )
    Image.fromarray(np.full((20, 28, 3), 90, np.uint8)).save(tmp_path / "photo.png")
    short = ("--like", GLASS, "--longest", 24, "--stroke", 24, "--steps", 5, "--json")
    for words in ((tmp_path / "photo.png", "--keep-color"), ()):
        code, out, err = cvpipe("style", *words, *short, "--to", tmp_path / "out.png")
        assert code == 0, err
        before, after = json.loads(out)["loss"]
        assert after < before
        with Image.open(tmp_path / "out.png") as picture:
            assert picture.size == ((24, 17) if words else (24, 24))


@pytest.mark.parametrize(
    "words, code, said",
    [
        (("none.png",), 1, "none.png: the image can't be read"),
        (("--keep-color",), 2, "a texture has no photo"),
        (("--to", "out.gif"), 2, "give a name that ends in .png or .jpg"),
    ],
)
def test_wrong_arguments_of_style_are_errors(
    cvpipe: Cvpipe,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(perceptual, "trained_features", lambda pooling: random_features(0.125))
    found, out, err = cvpipe("style", *words, "--like", GLASS, "--steps", 1)
    assert (found, out) == (code, "") and said in err
