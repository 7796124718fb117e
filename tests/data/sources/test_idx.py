"""Guards MNIST's format: its layouts, damaged files, and a real data set."""

from __future__ import annotations

import gzip
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from conftest import FindData
from cvpipe.config.data import Data
from cvpipe.config.label_sources import Idx
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.sources.idx import idx
from cvpipe.errors import DataError
from labels import labels_of

TRAIN, TEST = (
    np.random.default_rng(n).integers(0, 256, (count, 5, 4), dtype=np.uint8)
    for n, count in enumerate((12, 6))
)
TRAIN_LABELS, TEST_LABELS = (np.arange(count, dtype=np.uint8) % 3 for count in (12, 6))
Files = dict[str, bytes]


def packed(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def files() -> Files:
    return {
        "train-images-idx3-ubyte": packed(TRAIN),
        "train-labels-idx1-ubyte": packed(TRAIN_LABELS),
        "t10k-images-idx3-ubyte": packed(TEST),
        "t10k-labels-idx1-ubyte": packed(TEST_LABELS),
    }


def as_folder(path: Path, contents: Files) -> Path:
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def as_zip(path: Path, contents: Files) -> Path:
    with zipfile.ZipFile(path / "data.zip", "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path / "data.zip"


def plain(contents: Files) -> Files:
    return contents


def zipped(contents: Files) -> Files:
    return {f"{name}.gz": gzip.compress(content) for name, content in contents.items()}


def nested(contents: Files) -> Files:
    """Put each file into a folder of its own name, as some tools unpack archives."""
    return {f"raw/{name}/{name}": content for name, content in contents.items()}


def with_mac_leftovers(contents: Files) -> Files:
    return {**contents, **{f"__MACOSX/._{name}": b"junk" for name in contents}}


def opened(path: Path, *classes: str) -> dict[str, Source]:
    return idx(Idx(kind="idx", path=str(path), classes=classes))


@pytest.mark.parametrize("place", [as_folder, as_zip])
@pytest.mark.parametrize("layout", [plain, zipped, nested, with_mac_leftovers])
def test_every_layout_gives_the_same_splits(
    tmp_path: Path, layout: Callable[[Files], Files], place: Callable[[Path, Files], Path]
) -> None:
    path = place(tmp_path, layout(files()))
    splits = opened(path)
    assert splits.keys() == {"train", "test"}
    for split, prefix, images, labels in (
        ("train", "train", TRAIN, TRAIN_LABELS),
        ("test", "t10k", TEST, TEST_LABELS),
    ):
        source = splits[split]
        assert source.classes == ("0", "1", "2")
        assert source.name(3) == f"{path}:{prefix}[3]"
        read = tf.data.Dataset.range(len(source)).map(source.read).batch(len(source))
        assert read.element_spec["image"] == tf.TensorSpec([None, 5, 4, 1], tf.uint8)
        [examples] = read.as_numpy_iterator()
        np.testing.assert_array_equal(examples["image"][..., 0], images)
        np.testing.assert_array_equal(examples["label"], labels)
        np.testing.assert_array_equal(
            source.read(tf.constant(2, tf.int64))["image"][..., 0], images[2]
        )


def test_classes_have_the_names_that_the_pipeline_gives(tmp_path: Path) -> None:
    splits = opened(as_folder(tmp_path, files()), "shirt", "shoe", "bag", "hat")
    assert {source.classes for source in splits.values()} == {("shirt", "shoe", "bag", "hat")}


def test_both_splits_have_the_training_classes(tmp_path: Path) -> None:
    few = {**files(), "t10k-labels-idx1-ubyte": packed(np.zeros(6, np.uint8))}
    assert opened(as_folder(tmp_path, few))["test"].classes == ("0", "1", "2")


def damaged(name: str, content: bytes) -> Files:
    return {**files(), name: content}


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
GZ = zipped(files())[f"{IMAGES}.gz"]
DAMAGES = {
    "another type": (
        damaged(IMAGES, b"\0\0\x0d\x03" + packed(TRAIN)[4:]),
        f"{IMAGES}: not an IDX file of unsigned bytes with 3 dimensions",
    ),
    "another rank": (
        damaged(LABELS, packed(TRAIN)),
        f"{LABELS}: not an IDX file of unsigned bytes with 1 dimensions",
    ),
    "empty": (damaged(IMAGES, b""), f"{IMAGES}: not an IDX file"),
    "only magic": (damaged(IMAGES, packed(TRAIN)[:10]), f"{IMAGES}: not an IDX file"),
    "too short": (
        damaged(IMAGES, packed(TRAIN)[:-7]),
        r"states \(12, 5, 4\), 240 bytes, but the file has 233; fetch it again",
    ),
    "too long": (
        damaged(IMAGES, packed(TRAIN) + b"x"),
        r"states \(12, 5, 4\), 240 bytes, but the file has 241",
    ),
    "absurd sizes": (
        damaged(IMAGES, packed(TRAIN)[:4] + b"\xff" * 12),
        r"states \(4294967295, 4294967295, 4294967295\)",
    ),
    "truncated gz": (
        {**zipped(files()), f"{IMAGES}.gz": GZ[:-20]},
        f"{IMAGES}.gz: can't be unpacked .*; fetch it again",
    ),
    "no gz": (
        {**zipped(files()), f"{IMAGES}.gz": b"<html>not found</html>"},
        f"{IMAGES}.gz: can't be unpacked .*; fetch it again",
    ),
    "damaged gz": (
        {**zipped(files()), f"{IMAGES}.gz": GZ[:30] + b"\xff" * 20 + GZ[50:]},
        f"{IMAGES}.gz: can't be unpacked",
    ),
    "one missing": (
        {k: v for k, v in files().items() if k != LABELS},
        f"no file named {LABELS} or {LABELS}.gz",
    ),
    "other counts": (
        damaged(LABELS, packed(TRAIN_LABELS[:-1])),
        "12 train images but 11 labels; the files don't belong together",
    ),
    "label in test alone": (
        damaged("t10k-labels-idx1-ubyte", packed(TEST_LABELS + 1)),
        "label 3 in t10k-labels, .* labels end at 2",
    ),
}


@pytest.mark.parametrize("place", [as_folder, as_zip])
@pytest.mark.parametrize("name", DAMAGES)
def test_the_error_of_damage_names_its_place(
    tmp_path: Path, name: str, place: Callable[[Path, Files], Path]
) -> None:
    contents, message = DAMAGES[name]
    with pytest.raises(DataError, match=message) as error:
        opened(place(tmp_path, contents))
    assert str(tmp_path) in str(error.value)


def test_a_label_beyond_the_named_classes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="label 2 in train-labels, counted from 0, but data.source.classes names 2"
    ):
        opened(as_folder(tmp_path, files()), "shirt", "shoe")


def test_a_damaged_zip_and_another_file_are_errors(tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_bytes(b"PK no zip at all")
    with pytest.raises(DataError, match="neither a folder nor a readable zip archive"):
        opened(tmp_path / "no.zip")
    whole = as_zip(tmp_path, files())
    content = whole.read_bytes()
    at = content.index(TRAIN.tobytes()[:40])
    whole.write_bytes(content[:at] + bytes(20) + content[at + 20 :])
    with pytest.raises(DataError, match="can't be unpacked"):
        opened(whole)


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder or zip archive; set data.source.path"):
        opened(tmp_path / "missing")


def test_fashion_mnist_has_60000_training_and_10000_test_images_of_ten_balanced_classes(
    public_data: FindData,
) -> None:
    source = Idx(kind="idx", path=str(public_data("fashion-mnist")))
    whole = idx(source)
    assert {name: np.bincount(labels_of(split)).tolist() for name, split in whole.items()} == {
        "train": [6000] * 10,
        "test": [1000] * 10,
    }
    splits = open_splits(Data(source=source, validation=0.05))
    assert {name: np.bincount(labels_of(split)).tolist() for name, split in splits.items()} == {
        "train": [5700] * 10,
        "validation": [300] * 10,
        "test": [1000] * 10,
    }
    mean = np.mean(
        [
            splits["train"].read(tf.constant(n, tf.int64))["image"].numpy().mean()
            for n in range(0, 57000, 570)
        ]
    )
    # The mean of all training pixels, divided by 255, is 0.286. The mean of 100 images is close.
    assert mean / 255 == pytest.approx(0.286, abs=0.06)
