"""Guards scores by a column: values are grouped, and each group has the score of its images."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.mistakes.slices import EMPTY, MOST_TEXTS, RANGES, group_values

Cvpipe = Callable[..., tuple[int, str, str]]
CAMERAS = ("front", "rear", "")
PIPELINE = """\
task: classification
name: shades
data:
  source: {kind: csv, path: photos, train: train.csv, test: test.csv}
  validation: 0
prepare: {size: [8, 8], channels: 3}
model: {backbone: linear, norm: none}
optimizer: {kind: sgd, learning_rate: 0.1}
train: {epochs: 1, batch_size: 16, pictures: false}
"""


def test_each_text_is_a_group_and_empty_values_come_last() -> None:
    groups = group_values(["rain", "", "fog", "rain"])
    assert groups.of_each == ["rain", EMPTY, "fog", "rain"]
    assert groups.order == ["fog", "rain", EMPTY]
    assert group_values([""]).order == [EMPTY]


def test_few_numbers_are_in_their_order() -> None:
    assert group_values(["10", "9", "9.5", "10"]).order == ["9", "9.5", "10"]
    assert group_values(["1", "1.0", "nan"]).order == ["1", "1.0", "nan"]


def test_many_numbers_are_divided_into_ranges_with_equally_many_examples() -> None:
    values = np.random.default_rng(0).permutation(100) / 4
    groups = group_values([str(value) for value in values])
    assert len(groups.order) == RANGES
    for value, name in zip(values, groups.of_each):
        low, high = map(float, name.split(" to "))
        assert low <= value and (value < high or name == groups.order[-1])
    assert {groups.of_each.count(name) for name in groups.order} == {100 // RANGES}


def test_the_rarest_of_many_texts_are_one_group() -> None:
    often = [f"camera {n}" for n in range(MOST_TEXTS)]
    groups = group_values([*often, *often, "once", "only once"])
    assert len(groups.order) == MOST_TEXTS + 1
    assert groups.of_each[-1] == groups.of_each[-2] == groups.order[-1] == "(2 rarer values)"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write dark and bright images, and a table with their labels and cameras."""
    folder, rng = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    for split, count in (("train", 32), ("test", 30)):
        rows = ["file,label,camera"]
        for n in range(count):
            pixels = rng.integers(0, 160, (8, 8, 3), np.uint8) + np.uint8(60 * (n % 2))
            (folder / f"{split}{n}.png").write_bytes(tf.io.encode_png(pixels).numpy())
            rows.append(f"{split}{n}.png,{['dark', 'bright'][n % 2]},{CAMERAS[n % 3]}")
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "shades.yaml").write_text(PIPELINE)
    return tmp_path


def test_a_slices_score_is_that_of_its_images(
    photos: Path, cvpipe: Cvpipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    code, _, err = cvpipe("train", "shades.yaml", "--run", "run")
    assert code == 0, err
    code, out, err = cvpipe(
        *("evaluate", "run", "--mistakes", "list", "--slice", "camera", "--slice", "label"),
        *("--drawn", 0, "--json"),
    )
    assert code == 0, err
    with Path("list", "mistakes.csv").open(encoding="utf-8") as file:
        images = list(csv.DictReader(file))
    assert {row["image"].rpartition("/")[2]: row["camera"] for row in images} == {
        f"test{n}.png": CAMERAS[n % 3] for n in range(30)
    }
    listed = json.loads(out)["listed"]["slices"]
    assert [group["name"] for group in listed["camera"]] == ["front", "rear", EMPTY]
    assert [group["name"] for group in listed["label"]] == ["bright", "dark"]
    for column, groups in listed.items():
        for group in groups:
            right = [
                row["mistakes"] == "0" for row in images if (row[column] or EMPTY) == group["name"]
            ]
            assert group["images"] == len(right)
            assert group["score"] == pytest.approx(np.mean(right))
    with Path("list", "slices.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["column"], row["value"], int(row["images"])) for row in rows] == [
        (column, group["name"], group["images"])
        for column, each in listed.items()
        for group in each
    ]
    page = Path("list", "mistakes.html").read_text(encoding="utf-8")
    assert "<h2>By camera</h2>" in page and "<h2>By label</h2>" in page
    for words, message in (
        (("--mistakes", "more", "--slice", "camra"), "did you mean 'camera'?"),
        (("--slice", "camera"), "add --mistakes DIR"),
    ):
        code, _, err = cvpipe("evaluate", "run", *words)
        assert code and message in err
