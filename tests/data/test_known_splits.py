"""Guards known data: training images of a model are never scored, and all others may be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import small_config
from cvpipe.config import Config
from cvpipe.data.facts import KnownData
from cvpipe.data.known_splits import (
    describe_splits,
    known_to_ensemble,
    open_known_splits,
    open_split,
)
from cvpipe.data.sources import open_splits
from cvpipe.errors import DataError


def photos(folder: Path, count: int, first: int = 0, classes: str = "ab") -> None:
    """Write `count` empty files of each class; no test here decodes them."""
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            (folder / name / f"{number:03}.jpg").touch()


def config_of(folder: Path, *overrides: str) -> Config:
    return small_config(f"data.source={{kind: folder, path: {folder}}}", *overrides)


def known_of(config: Config) -> KnownData:
    return describe_splits(open_splits(config.data))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    photos(tmp_path / "photos", 40)
    return config_of(tmp_path / "photos")


def names(config: Config, split: str) -> set[str]:
    return set(open_splits(config.data)[split].names())


def test_training_images_that_move_into_the_test_split_are_counted_and_named(
    config: Config, tmp_path: Path
) -> None:
    known, trained = known_of(config), names(config, "train")
    photos(tmp_path / "photos", 44, first=40)
    seen = sorted(names(config, "test") & trained)
    assert seen
    with pytest.raises(DataError) as error:
        open_split(config, "test", known)
    total = len(names(config, "test"))
    count = "1 image" if len(seen) == 1 else f"{len(seen)} images"
    assert f"trained on {count} of the {total} in the test split" in str(error.value)
    assert str(tmp_path / "photos" / seen[0]) in str(error.value)
    assert "--set data.test=SHARE" in str(error.value)


def test_a_smaller_test_share_can_exclude_all_training_images(
    config: Config, tmp_path: Path
) -> None:
    known, trained = known_of(config), names(config, "train")
    photos(tmp_path / "photos", 60, first=40)
    shares = [0.2, 0.15, 0.1, 0.05]
    fewer = [config_of(tmp_path / "photos", f"data.test={share}") for share in shares]
    [first, *_] = [one for one in fewer if not names(one, "test") & trained]
    assert len(open_split(first, "test", known)) == len(names(first, "test")) > 0


def test_images_added_to_a_separate_split_are_scored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos(tmp_path / "train", 9)
    photos(tmp_path / "test", 4, first=20)
    config = config_of(tmp_path)
    known = known_of(config)
    photos(tmp_path / "test", 3, first=30)
    photos(tmp_path / "train", 3, first=50)
    assert len(open_split(config, "test", known)) == 14
    assert "images or annotations of the test split changed" in caplog.text


def test_after_images_were_removed_the_others_are_scored(config: Config, tmp_path: Path) -> None:
    known = known_of(config)
    for name in sorted(names(config, "train"))[:2]:
        (tmp_path / "photos" / name).unlink()
    assert set(open_split(config, "test", known).names()) == names(config, "test")


def test_renamed_images_are_refused_since_they_may_be_training_images(
    config: Config, tmp_path: Path
) -> None:
    known = known_of(config)
    for file in (tmp_path / "photos" / "a").iterdir():
        file.rename(file.with_name(f"other-{file.name}"))
    with pytest.raises(DataError, match=r"lost \d+ images that it was trained on; .*other-"):
        open_split(config, "test", known)


def test_images_that_changed_their_class_are_refused(config: Config, tmp_path: Path) -> None:
    known = known_of(config)
    one = sorted(names(config, "train"))[0]
    (tmp_path / "photos" / one).rename(tmp_path / "photos" / "b" / "900.jpg")
    photos(tmp_path / "photos", 40, first=901)
    with pytest.raises(DataError, match=r"it was trained on"):
        open_split(config, "test", known)


def test_the_training_split_and_unscored_splits_are_never_refused(
    config: Config, tmp_path: Path
) -> None:
    known = known_of(config)
    photos(tmp_path / "photos", 60, first=40)
    assert len(open_split(config, "train", known)) == len(names(config, "train"))
    [test] = open_known_splits(config, ["test"], known, scored=False)
    assert len(test) == len(names(config, "test"))


def test_the_same_data_elsewhere_is_known(config: Config, tmp_path: Path) -> None:
    known = known_of(config)
    (tmp_path / "photos").rename(tmp_path / "moved")
    moved = config_of(tmp_path / "moved")
    assert open_split(moved, "test", known).digest() == known["digests"]["test"]


def test_each_example_has_a_distinct_digest(config: Config) -> None:
    train = open_splits(config.data)["train"]
    assert train.digests.dtype == np.uint64 and len(set(train.digests.tolist())) == len(train)
    some = train.subset(np.array([5, 2]))
    np.testing.assert_array_equal(some.digests, train.digests[[5, 2]])


def test_an_ensemble_of_folds_isnt_scored_on_images_that_a_member_was_trained_on(
    config: Config, tmp_path: Path
) -> None:
    folds = {f"fold-{n}": f"data.fold={{of: 3, index: {n}}}" for n in range(3)}
    configs = {run: config_of(tmp_path / "photos", fold) for run, fold in folds.items()}
    known = known_to_ensemble({run: known_of(own) for run, own in configs.items()})
    first, size = configs["fold-0"], len(names(configs["fold-0"], "validation"))
    with pytest.raises(DataError) as error:
        open_split(first, "validation", known)
    assert f"fold-1, fold-2: trained on {size} images of the {size} in the" in str(error.value)
    assert set(open_split(first, "test", known).names()) == names(first, "test")
    assert set(open_split(first, "train", known).names()) == names(first, "train")


def test_an_ensemble_isnt_scored_on_training_images_of_any_member_that_move_into_the_test_split(
    tmp_path: Path,
) -> None:
    for name, first in (("train", 0), ("validation", 20), ("test", 30)):
        photos(tmp_path / name, 9, first)
    config = config_of(tmp_path)
    known = known_of(config)
    images = known["images"]
    swapped = {**images, "train": images["validation"], "validation": images["train"]}
    together = known_to_ensemble({"one": known, "two": {**known, "images": swapped}})
    assert together["overlaps"] == {"validation": ["two"]}
    one = next((tmp_path / "validation" / "a").iterdir())
    one.rename(tmp_path / "test" / "a" / one.name)
    assert len(open_split(config, "test", known)) == 19
    with pytest.raises(DataError, match=r"trained on; 1 new image in the test split"):
        open_split(config, "test", together)


def test_runs_on_the_same_data_are_scored_together_on_each_split(config: Config) -> None:
    known = known_of(config)
    together = known_to_ensemble({"one": known, "two": known})
    for split in ("validation", "test"):
        assert set(open_split(config, split, together).names()) == names(config, split)
    assert known_to_ensemble({"one": known}) == known
