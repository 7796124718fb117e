"""Guards groups of images: no group is in two splits, and splits have about their shares."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from cvpipe.config.box_sources import BoxCsv
from cvpipe.config.classification import ClassificationData
from cvpipe.config.data import Data, Fold
from cvpipe.config.group import Group
from cvpipe.config.keypoint_sources import KeypointCsv
from cvpipe.config.label_sources import Csv, Folder, MergedLabels
from cvpipe.config.tables import Parquet
from cvpipe.data.check import check
from cvpipe.data.check_report import summary
from cvpipe.data.sources import Source, open_source, open_splits
from cvpipe.data.sources.constructors import classification_source
from cvpipe.data.sources.groups import crossing_groups, group_names, share_out
from cvpipe.data.sources.splits import cut_fold, hold_out
from cvpipe.errors import DataError
from image_files import encode, noise

BY_FOLDER = Group(folder=1)
JPEG = encode(noise(8, 10), "JPEG")


def grouped(groups: Sequence[str], labels: Sequence[int]) -> Source:
    """A source whose images are in folders of their groups."""
    names = [f"{group}/{number}.jpg" for number, group in enumerate(groups)]
    classes = tuple(str(label) for label in range(max(labels) + 1))
    return classification_source(classes, np.array(labels), lambda n: {}, names.__getitem__)


def drawn(seed: int, classes: int = 3, groups: int = 40) -> Source:
    """A source of groups of very different sizes, each with one class or several."""
    random = np.random.default_rng(seed)
    sizes = np.minimum(random.geometric(0.1, groups), 40)
    names = np.repeat([f"g{n}" for n in range(groups)], sizes)
    common = np.repeat(random.integers(0, classes, groups), sizes)
    labels = np.where(
        random.random(len(names)) < 0.7, common, random.integers(0, classes, len(names))
    )
    order = random.permutation(len(names))
    return grouped(names[order].tolist(), labels[order].tolist())


def groups_of(source: Source) -> set[str]:
    return set(group_names(source, BY_FOLDER))


def largest(source: Source) -> int:
    return int(np.unique(group_names(source, BY_FOLDER), return_counts=True)[1].max())


# -- Distribution of groups over parts


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_no_group_is_in_both_parts_and_all_examples_are_in_one(share: float, seed: int) -> None:
    source = drawn(seed)
    stay, held = hold_out(source, share, "0 test", BY_FOLDER)
    assert not groups_of(stay) & groups_of(held)
    assert sorted([*stay.records, *held.records]) == list(range(len(source)))
    assert stay.records.tolist() == sorted(stay.records)
    assert held.records.tolist() == sorted(held.records)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_the_size_of_a_part_is_off_by_at_most_half_the_largest_group(
    share: float, seed: int
) -> None:
    source = drawn(seed, classes=1)
    _, held = hold_out(source, share, "0 test", BY_FOLDER)
    assert abs(len(held) - share * len(source)) <= largest(source) / 2


@pytest.mark.parametrize("seed", range(6))
def test_classes_have_about_the_same_share(seed: int) -> None:
    source = drawn(seed, groups=150)
    _, held = hold_out(source, 0.2, "0 test", BY_FOLDER)
    labels, held_labels = (np.bincount(part.strata(), minlength=3) for part in (source, held))
    assert abs(held_labels / labels - 0.2).max() < 0.05


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("of", [2, 5])
def test_folds_are_a_partition_by_groups_of_even_sizes(of: int, seed: int) -> None:
    source = drawn(seed, classes=1)
    folds = [cut_fold(source, Fold(of=of, index=index), "0", BY_FOLDER)[1] for index in range(of)]
    assert sorted(np.concatenate([fold.records for fold in folds])) == source.records.tolist()
    assert sum(len(groups_of(fold)) for fold in folds) == len(groups_of(source))
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= largest(source)


def test_parts_depend_on_the_seed_but_not_on_the_order_of_examples() -> None:
    source = drawn(0)
    first, again, other = (
        groups_of(hold_out(source, 0.2, seed, BY_FOLDER)[1]) for seed in ("0", "0", "1")
    )
    assert first == again != other
    mixed = source.subset(np.random.default_rng(1).permutation(len(source)))
    assert groups_of(hold_out(mixed, 0.2, "0", BY_FOLDER)[1]) == first


def test_a_class_of_one_group_stays_in_training() -> None:
    source = grouped(["a"] * 5 + ["b"] * 5 + ["c"] * 90, [0] * 5 + [1] * 5 + [2] * 90)
    stay, held = hold_out(source, 0.5, "0", BY_FOLDER)
    assert set(stay.strata()) == {0, 1, 2} and len(held) == 0


def test_three_parts_have_their_shares() -> None:
    names = [f"g{n // 3}" for n in range(3000)]
    parts = share_out(names, np.zeros(3000, int), (0.5, 0.3, 0.2), "0", fill_first=False)
    np.testing.assert_allclose(np.bincount(parts) / 3000, (0.5, 0.3, 0.2), atol=0.002)


# -- Names of groups


def named(*names: str) -> Source:
    labels = np.zeros(len(names), int)
    return classification_source(("a",), labels, lambda n: {}, names.__getitem__, "/data/{}".format)


def test_a_group_is_a_folder_or_a_part_of_the_file_name() -> None:
    source = named("x/p1/a_1.jpg", "y/p2/b_1.jpg")
    assert group_names(source, Group(folder=1)) == ["p1", "p2"]
    assert group_names(source, Group(folder=2)) == ["x", "y"]
    assert group_names(source, Group(pattern="^(.)_")) == ["a", "b"]


@pytest.mark.parametrize(
    "group, message",
    [
        (Group(folder=2), r"data.group.folder: 1 image of 2 in no group, such as /data/p2/b.jpg"),
        (Group(pattern=r"(\d+)\.jpg"), r"data.group.pattern: 1 image of 2 in no group"),
        (Group(column="patient"), "no column .patient.: this format has only images"),
    ],
)
def test_an_image_without_a_group_is_named(group: Group, message: str) -> None:
    with pytest.raises(DataError, match=message):
        group_names(named("x/p1/1.jpg", "p2/b.jpg"), group)


@pytest.mark.parametrize(
    "values, message",
    [
        ({}, "none of the keys given; give one of column, folder and pattern"),
        ({"folder": 1, "column": "a"}, "column and folder given"),
        ({"pattern": "p("}, "is not a regular expression"),
        ({"pattern": "p1"}, "has 0 pairs of parentheses"),
        ({"pattern": "(p)(1)"}, "has 2 pairs of parentheses"),
    ],
)
def test_an_invalid_section_of_groups_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Group(**values)


# -- Sources


def photos(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(JPEG)
    return root


def patients(prefix: str = "") -> list[str]:
    return [
        f"{prefix}{kind}/p{patient}/{number}.jpg"
        for patient in range(10)
        for kind in ("ill", "well")
        for number in range(3)
    ]


def test_splits_that_are_held_out_share_no_group(tmp_path: Path) -> None:
    config = Data(
        source=Folder(kind="folder", path=str(photos(tmp_path, patients()))),
        group=BY_FOLDER,
        test=0.3,
        validation=0.2,
    )
    splits = open_splits(config)
    assert not crossing_groups(splits, config.group)
    assert {name: len(groups_of(split)) for name, split in splits.items()} == {
        "train": 6,
        "test": 3,
        "validation": 1,
    }
    fold = open_splits(config.model_copy(update={"fold": Fold(of=3, index=1)}))
    assert not crossing_groups(fold, config.group) and len(fold["validation"])


def test_a_group_in_several_merged_sources_is_in_one_split(tmp_path: Path) -> None:
    children = [
        Folder(kind="folder", path=str(photos(tmp_path / name, patients()))) for name in "ab"
    ]
    config = ClassificationData(
        source=MergedLabels(kind="merge", sources=tuple(children)), group=BY_FOLDER, test=0.3
    )
    splits = open_splits(config)
    assert not crossing_groups(splits, config.group) and len(splits["test"]) == 36


def test_a_column_of_a_table_is_a_group(tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(20)]
    photos(tmp_path, names)
    rows = [f"{name},{n % 2},p{n // 4}" for n, name in enumerate(names)]
    (tmp_path / "t.csv").write_text("file,label,patient\n" + "\n".join(rows))
    source = Csv(
        kind="csv", path=str(tmp_path), train="t.csv", path_column="file", label_column="label"
    )
    config = Data(source=source, group=Group(column="patient"), test=0.4, validation=0.0)
    splits = open_splits(config)
    assert len(splits["test"]) == 8 and not crossing_groups(splits, config.group)
    with pytest.raises(DataError, match=r"no column 'patent' \(data.group.column\); did you mean"):
        open_splits(config.model_copy(update={"group": Group(column="patent")}))


def tables(root: Path) -> Any:
    """Sources of other tables with a column `who`."""
    photos(root, [f"{number}.jpg" for number in range(4)])
    people = ["p", "p", "q", "q"]
    rows = [f"{n}.jpg,{who},cat,1,1,5,5" for n, who in enumerate(people)]
    (root / "box.csv").write_text(
        "filename,who,class,xmin,ymin,xmax,ymax\n" + "\n".join([rows[0], *rows])
    )
    points = [f"{n}.jpg,3,4,{who}" for n, who in enumerate(people)]
    (root / "points.csv").write_text("file,nose_x,nose_y,who\n" + "\n".join(points))
    images = [{"bytes": JPEG, "path": f"{n}.jpg"} for n in range(4)]
    table = pa.table({"image": images, "label": [0, 1, 0, 1], "who": people})
    pq.write_table(table, root / "x.parquet")
    path = str(root)
    return (
        BoxCsv(kind="box_csv", path=path, train="box.csv"),
        KeypointCsv(kind="keypoint_csv", path=path, train="points.csv", path_column="file"),
        Parquet(kind="parquet", path=path),
    )


def test_columns_of_other_tables_are_groups(tmp_path: Path) -> None:
    for section in tables(tmp_path):
        [source] = open_source(section, Data(source=section)).values()
        assert group_names(source, Group(column="who")) == ["p", "p", "q", "q"]
        with pytest.raises(DataError, match="no column 'whose'"):
            group_names(source, Group(column="whose"))


def test_groups_that_cross_given_splits_are_reported_by_the_log_and_by_data_check(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["train/a/p1/1.jpg", "train/b/p2/1.jpg", "test/a/p1/2.jpg", "test/b/p3/1.jpg"]
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(encode(noise(8, 10, seed=number), "JPEG"))
    config = Data(source=Folder(kind="folder", path=str(tmp_path)), group=BY_FOLDER, validation=0.0)
    with caplog.at_level(logging.WARNING):
        splits = open_splits(config)
    assert (
        "1 group of data.group in several splits, such as p1 in test and train, so" in caplog.text
    )
    result = check(splits, 3, group=config.group)
    assert result["crossing_groups"] == {"p1": {"train": 1, "test": 1}} and not result["clean"]
    assert "  p1: 1 in test, 1 in train" in summary(result)
    assert check(splits, 3)["clean"]
