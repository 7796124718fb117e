"""Guards folders of classes in the layouts that users have."""

from __future__ import annotations

import logging
import os
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.data import Data
from cvpipe.config.label_sources import Folder
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.sources.folder import folder
from cvpipe.errors import DataError
from image_files import zipped
from labels import labels_of


def make(root: Path, *files: str) -> Path:
    """Write files whose content is their own path."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(file)
    return root


def opened(root: Path) -> dict[str, Source]:
    return folder(Folder(kind="folder", path=str(root)))


def found(source: Source, root: Path) -> dict[str, str]:
    """File → class name."""
    return {
        str(Path(source.name(n)).relative_to(root)): source.classes[labels_of(source)[n]]
        for n in range(len(source))
    }


def test_folders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    [(name, source)] = opened(
        make(tmp_path, "dog/1.jpg", "cat/2.png", "cat/1.jpg", "ant/x.webp")
    ).items()
    assert (name, source.classes) == ("all", ("ant", "cat", "dog"))
    assert found(source, tmp_path) == {
        "ant/x.webp": "ant",
        "cat/1.jpg": "cat",
        "cat/2.png": "cat",
        "dog/1.jpg": "dog",
    }
    assert source.name(1) == str(tmp_path / "cat" / "1.jpg")


def test_a_sample_has_all_classes(tmp_path: Path) -> None:
    source = opened(make(tmp_path, *(f"{label}/{n}.jpg" for label in "abcd" for n in range(5))))
    assert source["all"].sample(8).counts().tolist() == [2, 2, 2, 2]
    assert source["all"].sample(None) is source["all"].sample(20) is source["all"]


def test_records_are_the_files_bytes_eagerly_and_in_a_graph(tmp_path: Path) -> None:
    source = opened(make(tmp_path, "a/1.jpg", "b/1.jpg", "b/longer name.jpg"))["all"]
    in_map = list(tf.data.Dataset.range(3).map(source.read).as_numpy_iterator())
    assert [(row["bytes"].decode(), row["label"]) for row in in_map] == [
        ("a/1.jpg", 0),
        ("b/1.jpg", 1),
        ("b/longer name.jpg", 1),
    ]
    assert source.read(tf.constant(2, tf.int64))["bytes"].numpy() == in_map[2]["bytes"]


@pytest.mark.parametrize(
    "name", ["größe/été.jpg", "日本/猫.png", "a b/c'd.jpg", "[x]/*.jpg", "a/b\udcff.jpg"]
)
def test_names_may_have_any_character(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(b"content")
    source = opened(tmp_path)["all"]
    assert source.name(0) == str(tmp_path / name)
    assert source.read(tf.constant(0, tf.int64))["bytes"].numpy() == b"content"


def test_a_class_whose_name_is_not_text_is_an_error(tmp_path: Path) -> None:
    latin = os.fsdecode(b"caf\xe9")
    make(tmp_path, *(f"{name}/{n}.png" for name in "ab" for n in range(9)))
    (tmp_path / "a").rename(tmp_path / latin)
    config = Data(source=Folder(kind="folder", path=str(tmp_path)))
    with pytest.raises(DataError, match="the name 'caf\udce9' isn't in UTF-8; rename it"):
        open_splits(config)


def test_images_may_be_in_subfolders_and_have_any_known_extension(tmp_path: Path) -> None:
    files = ["a/x/y/1.JPG", "a/2.Jpeg", "a/3.PNG", "b/4.bmp", "b/x/5.WebP"]
    source = opened(make(tmp_path, *files, "a/notes.txt", "b/x.gif", "readme.md", "loose.jpg"))[
        "all"
    ]
    assert sorted(found(source, tmp_path)) == sorted(files)
    assert source.classes == ("a", "b")


def test_hidden_files_and_folders_are_ignored(tmp_path: Path) -> None:
    hidden = [".git/1.jpg", "a/._1.jpg", "a/.ipynb_checkpoints/1.jpg", "a/.1.jpg"]
    assert list(found(opened(make(tmp_path, "a/1.jpg", "b/1.jpg", *hidden))["all"], tmp_path)) == [
        "a/1.jpg",
        "b/1.jpg",
    ]


def test_a_hidden_folder_above_the_data_hides_nothing(tmp_path: Path) -> None:
    root = make(tmp_path / ".cache" / "photos", "a/1.jpg", "b/1.jpg")
    assert len(opened(root)["all"]) == 2


def test_linked_classes_and_images_are_read(tmp_path: Path) -> None:
    root = make(tmp_path / "photos", "a/1.jpg")
    make(tmp_path / "elsewhere", "2.jpg")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "3.jpg").symlink_to(tmp_path / "elsewhere" / "2.jpg")
    assert list(found(opened(root)["all"], root)) == ["a/1.jpg", "a/3.jpg", "b/2.jpg"]


@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_folders_named_like_splits_are_the_splits(tmp_path: Path, name: str) -> None:
    make(
        tmp_path,
        "train/a/1.jpg",
        "train/b/1.jpg",
        "train/b/2.jpg",
        f"{name}/a/3.jpg",
        "test/b/4.jpg",
        "test/a/5.jpg",
    )
    splits = open_splits(Data(source=Folder(kind="folder", path=str(tmp_path))))
    assert {split: list(found(source, tmp_path)) for split, source in splits.items()} == {
        "train": ["train/a/1.jpg", "train/b/1.jpg", "train/b/2.jpg"],
        "validation": [f"{name}/a/3.jpg"],
        "test": ["test/a/5.jpg", "test/b/4.jpg"],
    }
    assert {source.classes for source in splits.values()} == {("a", "b")}


def test_labels_refer_to_the_training_classes_even_if_a_split_lacks_some(tmp_path: Path) -> None:
    splits = opened(
        make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "test/c/1.jpg")
    )
    np.testing.assert_array_equal(labels_of(splits["test"]), [2])
    assert splits["test"].classes == ("a", "b", "c")


def test_missing_splits_are_held_out_of_training(tmp_path: Path) -> None:
    make(tmp_path, *(f"train/{name}/{number}.jpg" for name in "ab" for number in range(20)))
    splits = open_splits(Data(source=Folder(kind="folder", path=str(tmp_path))))
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 28,
        "validation": 4,
        "test": 8,
    }


def test_folders_beside_the_splits_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        splits = opened(make(tmp_path, "train/a/1.jpg", "test/a/1.jpg", "raw/a/1.jpg"))
    assert splits.keys() == {"train", "test"}
    assert caplog.messages == [
        f"{tmp_path / 'raw'}: left out; beside train, only folders with these names are read:"
        " validation, val, valid, test, testing"
    ]


MISTAKES = {
    "two of a split": (
        ["train/a/1.jpg", "val/a/1.jpg", "validation/a/1.jpg"],
        "validation: this folder and .*val are the same split; keep one of the two",
    ),
    "unknown class": (
        ["train/a/1.jpg", "test/b/1.jpg"],
        "test/b: class 'b' is not in the training split, which has a",
    ),
    "no class": (
        ["loose.jpg"],
        "no folder of a class inside; put each image at .*/<class>/<image>",
    ),
    "no class in train": (
        ["train/1.jpg", "test/a/1.jpg"],
        "train: no folder of a class inside; put each image at .*train/<class>/<image>",
    ),
    "empty class": (
        ["a/1.jpg", "b/notes.txt"],
        r"b: no image inside \(\.bmp, \.jpeg, \.jpg, \.png, \.webp\); add images, or",
    ),
    "empty class in test": (
        ["train/a/1.jpg", "train/b/1.jpg", "test/a/1.txt"],
        "test/a: no image inside",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, name: str) -> None:
    files, message = MISTAKES[name]
    with pytest.raises(DataError, match=message) as error:
        opened(make(tmp_path, *files))
    assert str(error.value).startswith(str(tmp_path))


def test_a_missing_folder_or_a_file_in_its_place_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, "file")
    for name, text in (
        ("missing", "no such folder.*; set data.source.path"),
        ("file", "neither a folder.*; correct data.source.path"),
    ):
        with pytest.raises(DataError, match=f"{name}: {text}"):
            opened(tmp_path / name)


def wrapped(root: Path) -> Path:
    """A zip archive of the folder itself, as file managers make it."""
    path = root.parent / "wrapped.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root.parent))
    return path


@pytest.mark.parametrize("place", [zipped, wrapped])
@pytest.mark.parametrize("layout", ["classes", "splits", "training alone"])
def test_a_folder_and_its_archive_hold_out_the_same_images(
    tmp_path: Path, place: Callable[[Path], Path], layout: str
) -> None:
    above = {"classes": [""], "splits": ["train/", "test/"], "training alone": ["train/"]}[layout]
    images = [f"{split}{name}/é {n}.jpg" for split in above for name in "ab" for n in range(12)]
    root = make(tmp_path / "photos", *images)
    of_folder, of_archive = (
        open_splits(Data(source=Folder(kind="folder", path=str(path))))
        for path in (root, place(root))
    )
    assert {split: source.names() for split, source in of_folder.items()} == {
        split: source.names() for split, source in of_archive.items()
    }
    assert [source.digest() for source in of_folder.values()] == [
        source.digest() for source in of_archive.values()
    ]
    first = of_archive["train"].read(tf.constant(0, tf.int64))
    assert first["bytes"].numpy() == of_folder["train"].read(tf.constant(0, tf.int64))["bytes"]


def test_the_form_of_unicode_does_not_change_held_out_images(tmp_path: Path) -> None:
    held_out = []
    for form in ("NFC", "NFD"):
        files = (
            unicodedata.normalize(form, f"{name}/é {n}.jpg") for name in "äb" for n in range(9)
        )
        path = make(tmp_path / form, *files)
        splits = open_splits(Data(source=Folder(kind="folder", path=str(path))))
        assert splits["test"].classes == ("b", "ä")
        held_out.append(splits["test"].names())
    assert held_out[0] == held_out[1] and len(held_out[0]) == 4


def test_images_beside_the_classes_are_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        opened(make(tmp_path, "a/1.jpg", "b/1.jpg", "loose.jpg", "other.PNG", "readme.md"))
    assert caplog.messages == [
        f"{tmp_path}: left out 2 images beside the folders of the classes, such as loose.jpg; move"
        " each into the folder of its class"
    ]


@pytest.mark.parametrize(
    "files, message",
    [
        (
            ["val/1.jpg", "val/2.jpg"],
            "val: 2 images outside the folders of the classes, such as val/1.jpg; put",
        ),
        (["test/1.jpg"], "test: 1 image outside the folders of the classes, such as test/1.jpg; "),
        (["validation/notes.txt"], "validation: the split is empty; put .*<class>/<image>"),
    ],
)
def test_a_split_without_classes_is_an_error(
    tmp_path: Path, files: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        opened(make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", *files))


@pytest.mark.parametrize("place", [lambda root: root, zipped], ids=["folder", "zip"])
def test_an_empty_folder_of_a_split_is_an_error(
    tmp_path: Path, place: Callable[[Path], Path]
) -> None:
    root = make(tmp_path / "photos", "train/a/1.jpg", "train/b/1.jpg")
    (root / "test").mkdir()
    with pytest.raises(DataError, match="test: the split is empty"):
        opened(place(root))


def test_folders_of_splits_may_be_in_upper_case_and_have_long_names(tmp_path: Path) -> None:
    splits = opened(make(tmp_path, "Training/a/1.jpg", "TEST/a/2.jpg", "Valid/a/3.jpg"))
    assert {split: source.names() for split, source in splits.items()} == {
        "test": ["TEST/a/2.jpg"],
        "train": ["Training/a/1.jpg"],
        "validation": ["Valid/a/3.jpg"],
    }


def test_a_split_that_is_a_link_to_another_is_an_error(tmp_path: Path) -> None:
    root = make(tmp_path / "photos", "train/a/1.jpg", "train/b/1.jpg")
    (root / "val").symlink_to(root / "train")
    with pytest.raises(
        DataError, match="val: a link to .*train, which is read already; remove one"
    ):
        opened(root)
