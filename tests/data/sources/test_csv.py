"""Guards tables of images: their notations, their faults, and a real data set."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from conftest import FindData
from cvpipe.config.data import Data
from cvpipe.config.label_sources import ClassNames, Csv
from cvpipe.data.decode import decode_image
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.sources.csv import csv, in_order
from cvpipe.errors import DataError
from image_files import zipped
from labels import labels_of

TRAIN = "file,kind\nimages/1.png,cat\nimages/2.png,dog\nimages/3.png,cat\n"
TEST = "file,kind\nimages/4.png,dog\n"


def write(root: Path, **tables: str | bytes) -> Path:
    """Write tables, such as `train` to train.csv, and images that contain their own names."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    for number in range(1, 7):
        (root / "images" / f"{number}.png").write_text(f"images/{number}.png")
    for name, table in tables.items():
        (root / f"{name}.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    return root


def opened(path: Path, **settings: Any) -> dict[str, Source]:
    return csv(Csv(kind="csv", path=str(path), train="train.csv", **settings))


def rows(source: Source) -> list[tuple[str, str]]:
    """Name and class of every example."""
    return [(name, source.classes[label]) for name, label in zip(source.names(), labels_of(source))]


@pytest.mark.parametrize("place", [lambda root: root, zipped], ids=["folder", "zip"])
def test_a_table_maps_images_to_classes(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    path = place(write(tmp_path / "data", train=TRAIN, test=TEST))
    splits = opened(path, test="test.csv")
    assert {split: rows(source) for split, source in splits.items()} == {
        "train": [("images/1.png", "cat"), ("images/2.png", "dog"), ("images/3.png", "cat")],
        "test": [("images/4.png", "dog")],
    }
    read = list(tf.data.Dataset.range(3).map(splits["train"].read).as_numpy_iterator())
    assert [(row["bytes"].decode(), row["label"]) for row in read] == [
        ("images/1.png", 0),
        ("images/2.png", 1),
        ("images/3.png", 0),
    ]
    assert splits["train"].name(1) == (
        f"{path}/images/2.png" if path.is_dir() else f"{path}:images/2.png"
    )


WRITINGS: dict[str, tuple[str | bytes, dict[str, Any]]] = {
    "no header": ("images/1.png,cat\nimages/2.png,dog\n", {"header": False}),
    "headings": (
        "id,kind,file\n7,cat,images/1.png\n8,dog,images/2.png\n",
        {"path_column": "file", "label_column": "kind"},
    ),
    "positions below headings": (
        "id,kind,file\n7,cat,images/1.png\n8,dog,images/2.png\n",
        {"path_column": "2"},
    ),
    "a heading that is a number": ("1,0\ncat,images/1.png\ndog,images/2.png\n", {}),
    "spaces": (
        " file , kind \n images/1.png , cat \n images/2.png,  dog\n",
        {"path_column": "file", "label_column": "kind"},
    ),
    "Windows": (
        b"\xef\xbb\xbffile,kind\r\nimages/1.png,cat\r\nimages/2.png,dog\r\n",
        {"path_column": "file"},
    ),
    "semicolons": ("file;kind\nimages/1.png;cat\nimages/2.png;dog", {"delimiter": ";"}),
    "quotes": ('file,kind\n"images/1.png", "cat"\n"images/2.png",dog\n', {}),
    "blank lines": ("\nfile,kind\n\nimages/1.png,cat\n , \nimages/2.png,dog\n\n", {}),
    "more columns": ("file,kind,note\nimages/1.png,cat,x,y\nimages/2.png,dog\n", {}),
    "other root": ("file,kind\n./1.png,cat\n../images/2.png,dog\n", {"images": "images"}),
}


@pytest.mark.parametrize("writing", WRITINGS)
def test_tables_are_read_in_every_notation(tmp_path: Path, writing: str) -> None:
    table, settings = WRITINGS[writing]
    source = opened(write(tmp_path, train=table), **settings)["train"]
    assert rows(source) == [("images/1.png", "cat"), ("images/2.png", "dog")]
    assert source.read(tf.constant(1, tf.int64))["bytes"].numpy() == b"images/2.png"


def test_an_absolute_path_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere")
    image = tmp_path / "elsewhere" / "images" / "5.png"
    source = opened(write(tmp_path / "data", train=f"{image},a\nimages/1.png,b\n"), header=False)[
        "train"
    ]
    assert source.name(0) == str(image)
    assert source.read(tf.constant(0, tf.int64))["bytes"].numpy() == b"images/5.png"


@pytest.mark.parametrize("place", [lambda root: root, zipped], ids=["folder", "zip"])
def test_absolute_paths_of_another_machine_are_found_by_their_end(
    tmp_path: Path, place: Callable[[Path], Path]
) -> None:
    paths = ["/home/me/set/images/1.png", "C:\\set\\images\\2.png", "https://host/a/3.png?v=1"]
    root = write(
        tmp_path / "data", train="".join(f"{path},{n % 2}\n" for n, path in enumerate(paths))
    )
    source = opened(place(root), header=False)["train"]
    assert source.names() == ["images/1.png", "images/2.png", "images/3.png"]


def test_a_missing_image_is_not_replaced_by_another_image_of_its_name(tmp_path: Path) -> None:
    source = opened(write(tmp_path, train="cats/1.png,a\nimages/2.png,b\n"), header=False)["train"]
    assert source.names() == ["cats/1.png", "images/2.png"]


def test_integer_labels_are_ordered_as_numbers_and_others_by_their_letters() -> None:
    assert in_order({"10", "9", "-1", "0"}) == ("-1", "0", "9", "10")
    assert in_order({"10", "9", "b", "1.5"}) == ("1.5", "10", "9", "b")


NAMED = ClassNames(file="names.csv", label="id", name="called")


def test_classes_have_the_names_of_the_labels_in_the_order_of_the_labels(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="p,l\nimages/1.png,10\nimages/2.png,9\n",
        names="called,id\ncat,10\ndog,9\nunused,11\nunused,12\n",
    )
    assert rows(opened(tmp_path, names=NAMED)["train"]) == [
        ("images/1.png", "cat"),
        ("images/2.png", "dog"),
    ]
    assert opened(tmp_path, names=NAMED)["train"].classes == ("dog", "cat")


def test_an_image_named_twice_is_used_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, train=TRAIN + "images/1.png,cat\n./images/../images/1.png,cat\n")
    with caplog.at_level(logging.WARNING):
        assert opened(tmp_path)["train"].names() == ["images/1.png", "images/2.png", "images/3.png"]
    assert caplog.messages == [
        f"{tmp_path}/train.csv: 2 of 5 rows name an image that an earlier row names; they are"
        " left out"
    ]


def test_an_image_in_two_tables_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, train=TRAIN, test=TRAIN[: TRAIN.index("images/3")] + "images/5.png,cat\n")
    with caplog.at_level(logging.WARNING):
        opened(tmp_path, test="test.csv")
    assert caplog.messages == [
        f"{tmp_path}: the training table has 2 images of the test table too, such as"
        " images/1.png; scores on the test split will be too good"
    ]


MISTAKES: dict[str, tuple[dict[str, str | bytes], dict[str, Any], str]] = {
    "label in test alone": (
        {"train": TRAIN, "test": TEST + "images/5.png,cta\n"},
        {"test": "test.csv"},
        (
            r"test.csv:3: the label 'cta' is not in the training table, .*train.csv; did you mean"
            r" 'cat'\? known: cat, dog"
        ),
    ),
    "label in validation alone": (
        {"train": TRAIN, "v": "f,k\n\nimages/5.png,x\n"},
        {"validation": "v.csv"},
        (
            r"v.csv:3: the label 'x' is not in .*; known: cat, dog\. Add images of it there, or"
            r" remove the row"
        ),
    ),
    "two labels": (
        {"train": TRAIN + "images/1.png,dog\n"},
        {},
        "train.csv:5: images/1.png has the label 'dog' here, but 'cat' in line 2",
    ),
    "no such table": (
        {"train": TRAIN},
        {"test": "tset.csv"},
        r"tset.csv: no such file; did you mean 'train.csv'\? known: train.csv",
    ),
    "no such heading": (
        {"train": TRAIN},
        {"label_column": "kinds"},
        r"no column 'kinds' \(data.source.label_column\); did you mean",
    ),
    "no such column": (
        {"train": TRAIN},
        {"label_column": "2"},
        r"no column 2 \(data.source.label_column\) among 2, counted",
    ),
    "other delimiter": (
        {"train": TRAIN},
        {"delimiter": ";"},
        r"no column 1 .* among 1, counted from 0; set data.source.delim",
    ),
    "short row": (
        {"train": TRAIN + "images/4.png\n"},
        {},
        "train.csv:5: the row is cut short: it lacks the column 'kind'; correct or remove",
    ),
    "no label": (
        {"train": TRAIN + "images/4.png, \n"},
        {},
        "train.csv:5: the row has no value in the column 'kind'; correct or remove the row",
    ),
    "no label, without headings": (
        {"train": "images/1.png,cat\nimages/2.png, \n"},
        {"header": False},
        "train.csv:2: the row has no value in column 1, counted from 0; correct or remove the row",
    ),
    "empty": ({"train": ""}, {}, "train.csv: no row; add rows"),
    "headings alone": (
        {"train": "file,kind\n"},
        {},
        "train.csv: no row below the headings; add rows",
    ),
    "no headings": (
        {"train": TRAIN[TRAIN.index("images") :]},
        {},
        "first row names an image, images/1.png, .* data.source.header: false",
    ),
    "other encoding": (
        {"train": "file,kind\n1.png,größe\n".encode("latin-1")},
        {},
        "train.csv:2: this is not text in UTF-8; save the file as UTF-8",
    ),
    "open quote": (
        {"train": TRAIN + '"images/4.png,cat\n'},
        {},
        "train.csv:5: not a table: unexpected end of data; correct the line",
    ),
    "label without name": (
        {"train": TRAIN, "names": "id,called\ncat,Cat\n"},
        {"names": NAMED},
        "names.csv: the label 'dog' has no name",
    ),
    "one name for two": (
        {"train": TRAIN, "names": "id,called\ncat,Pet\ndog,Pet\n"},
        {"names": NAMED},
        "the labels 'cat' and 'dog' have the same name, 'Pet'; name them differently",
    ),
    "two names for one": (
        {"train": TRAIN, "names": "id,called\ncat,Cat\ncat,Pet\ndog,Dog\n"},
        {"names": NAMED},
        "names.csv:3: the label 'cat' is called 'Pet' here, but 'Cat' before",
    ),
    "no column of names": (
        {"train": TRAIN, "names": "id,calls\ncat,Cat\n"},
        {"names": NAMED},
        r"'called' .*; did you mean",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, mistake: str) -> None:
    tables, settings, message = MISTAKES[mistake]
    with pytest.raises(DataError, match=message) as error:
        opened(write(tmp_path, **tables), **settings)
    assert str(error.value).startswith(str(tmp_path))


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"header": False, "path_column": "file"},
            "path_column is the heading 'file', but header is false",
        ),
        ({"path_column": "1"}, "path_column and label_column are both '1'; name two columns"),
    ],
)
def test_contradictory_settings_are_refused_before_any_file_is_read(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Csv(kind="csv", path="anywhere", train="train.csv", **settings)


def test_held_out_images_are_the_same_from_a_folder_and_from_an_archive(tmp_path: Path) -> None:
    table = "".join(f"images/{n}.png,{n % 2}\n" for n in range(60))
    root = write(tmp_path / "data", train=table)
    sources = [
        Csv(kind="csv", path=str(path), train="train.csv", header=False)
        for path in (root, zipped(root))
    ]
    splits = [open_splits(Data(source=source)) for source in sources]
    assert {name: len(split) for name, split in splits[0].items()} == {
        "train": 44,
        "validation": 4,
        "test": 12,
    }
    for name in splits[0]:
        assert splits[0][name].digest() == splits[1][name].digest()


def test_grocery16_has_40_training_and_20_test_photos_of_each_of_16_classes(
    public_data: FindData,
) -> None:
    source = Csv(
        kind="csv",
        path=str(public_data("grocery16")),
        train="dataset/train_subset.txt",
        test="dataset/test_subset.txt",
        images="dataset",
        header=False,
        names=ClassNames(
            file="dataset/classes.csv", label="Class ID (int)", name="Class Name (str)"
        ),
    )
    splits = open_splits(Data(source=source, validation=0))
    assert {name: np.bincount(labels_of(split)).tolist() for name, split in splits.items()} == {
        "train": [40] * 16,
        "test": [20] * 16,
    }
    assert splits["train"].classes[:2] + splits["train"].classes[-1:] == (
        "Golden-Delicious",
        "Granny-Smith",
        "Vine-Tomato",
    )
    for index in (0, 639):
        image = decode_image(splits["train"].read(tf.constant(index, tf.int64))["bytes"], 3)
        assert sorted(image.shape)[1:] in ([348, 348], [348, 464])
    coarse = csv(source.model_copy(update={"label_column": "2", "names": None}))
    assert (
        coarse["train"].classes == in_order(coarse["train"].classes)
        and len(coarse["train"].classes) < 16
    )


def test_names_may_have_any_character(tmp_path: Path) -> None:
    name = "größe/日本 [x]'.png"
    write(tmp_path, train=f"{name},a\nimages/1.png,b\n")
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(tf.io.encode_png(np.zeros((3, 4, 3), np.uint8)).numpy())
    for path in (tmp_path, zipped(tmp_path)):
        source = opened(path, header=False)["train"]
        assert decode_image(source.read(tf.constant(0, tf.int64))["bytes"], 3).shape == (3, 4, 3)


@pytest.mark.parametrize("place", [lambda root: root, zipped], ids=["folder", "zip"])
def test_images_are_found_in_every_notation_of_their_paths(
    tmp_path: Path, place: Callable[[Path], Path]
) -> None:
    composed, decomposed = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    paths = ["set 1\\a.png", f"set 1\\{decomposed}", "./set 1//b.png", "gone\\c.png"]
    rows = "".join(f"{path},{label}\n" for path, label in zip(paths, "xyxy", strict=True))
    root = tmp_path / "data"
    (root / "img/set 1").mkdir(parents=True)
    for name in ("a.png", composed, "b.png"):
        (root / "img/set 1" / name).write_text(name)
    (root / "t.csv").write_text(f"path,label\n{rows}")
    source = csv(Csv(kind="csv", path=str(place(root)), train="t.csv", images="img"))["train"]
    assert [source.name_record(record) for record in range(4)] == [
        "img/set 1/a.png",
        f"img/set 1/{composed}",
        "img/set 1/b.png",
        "img/gone/c.png",
    ]
