"""Guards `cvpipe mistakes`: planted label errors rank first, and missing folds are an error."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from conftest import Once, small_config
from cvpipe.training.train import train

Cvpipe = Callable[..., tuple[int, str, str]]
FOLDS = 5


def write_digits(root: Path, share: float, seed: int = 0) -> set[str]:
    """Write the digits as class folders, with a share in a wrong folder; return the misplaced
    files.
    """
    digits, random = load_digits(), np.random.default_rng(seed)
    count = len(digits.target)
    wrong = set(random.permutation(count)[: round(share * count)].tolist())
    names = set()
    for n, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        given = (label + random.integers(1, 10)) % 10 if n in wrong else label
        file = root / "all" / str(given) / f"{n}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9).astype(np.uint8)).save(file)
        if n in wrong:
            names.add(f"{given}/{n}.png")
    return names


@pytest.fixture(scope="module")
def folds(once: Once) -> Path:
    """Write photos with 5 % wrong labels; return them and the runs of a cross-validation."""

    def make(folder: Path) -> None:
        wrong = write_digits(folder / "photos", 0.05)
        (folder / "wrong.json").write_text(json.dumps(sorted(wrong)), encoding="utf-8")
        for index in range(FOLDS):
            config = small_config(
                f"data.source={{kind: folder, path: {folder / 'photos' / 'all'}}}",
                f"data.fold={{of: {FOLDS}, index: {index}}}",
                "model={backbone: linear, norm: none}",
                "prepare.size=[8, 8]",
                "augment=[]",
                "train.ema=null",
                "train.epochs=5",
            )
            train(config, folder / f"fold-{index}")

    return once("label_errors", make)


@pytest.mark.soak
def test_most_planted_label_errors_are_in_the_first_8_percent_of_the_list(
    folds: Path, tmp_path: Path, cvpipe: Cvpipe
) -> None:
    runs = [folds / f"fold-{index}" for index in range(FOLDS)]
    code, out, err = cvpipe("mistakes", *runs, "--to", tmp_path / "to", "--drawn", 30, "--json")
    assert code == 0, err
    result = json.loads(out)
    with (tmp_path / "to" / "label_errors.csv").open(encoding="utf-8") as file:
        listed = ["/".join(Path(row["image"]).parts[-2:]) for row in csv.DictReader(file)]
    assert len(listed) == len(set(listed)) == result["images"]
    wrong = set(json.loads((folds / "wrong.json").read_text(encoding="utf-8"))) & set(listed)
    first = set(listed[: round(0.08 * len(listed))])
    assert len(wrong & first) / len(wrong) >= 0.8
    page = (tmp_path / "to" / "label_errors.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 30


def test_the_error_of_a_missing_fold_names_the_runs_that_are_needed(
    trained_run: Path, tmp_path: Path, cvpipe: Cvpipe
) -> None:
    code, _, err = cvpipe("mistakes", trained_run, "--to", tmp_path / "to")
    assert code == 2 and f"{trained_run}: not a run of a cross-validation" in err
    run = tmp_path / "fold-0"
    run.mkdir()
    config = small_config("data.fold={of: 5, index: 0}")
    (run / "config.json").write_text(json.dumps(config.to_json()), encoding="utf-8")
    code, _, err = cvpipe("mistakes", run, "--to", tmp_path / "to")
    assert code == 2 and "give one run of each of its 5 folds" in err
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("images, more", [(2, []), (21, ["and 1 more"])])
def test_images_beyond_the_first_are_counted(
    trained_run: Path,
    tmp_path: Path,
    cvpipe: Cvpipe,
    monkeypatch: pytest.MonkeyPatch,
    images: int,
    more: list[str],
) -> None:
    names = [f"{n}.png" for n in range(images)]
    result = {"images": images, "first": names[:20], "page": "page.html"}
    monkeypatch.setattr("cvpipe.search.label_errors.label_errors", lambda *_: result)
    code, out, _ = cvpipe("mistakes", trained_run, "--to", tmp_path / "to")
    assert code == 0 and out.splitlines() == [*names[:20], *more, "page  page.html"]
