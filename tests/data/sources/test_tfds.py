"""Guards data sets of TensorFlow Datasets, against the library's own loading code."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets

from cvpipe.config.data import Data
from cvpipe.config.tfds import TfdsLabels
from cvpipe.data.decode import decode_image
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.sources.tfds import tfds
from cvpipe.errors import DataError

COUNTS = {"train": 40, "test": 12, "unlabeled": 5}


def image_of(split: str, number: int) -> np.ndarray:
    """Return an image that depends on split and number: uint8 [H, 6, 3]."""
    return np.random.default_rng([len(split), number]).integers(
        0, 256, (5 + number % 4, 6, 3), dtype=np.uint8
    )


class OnlyInFiles(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
    """A small data set that is opened without its loading code, from its files alone."""

    VERSION = tensorflow_datasets.core.Version("1.2.0")

    def _info(self) -> Any:
        kinds = tensorflow_datasets.features
        return tensorflow_datasets.core.DatasetInfo(
            builder=self,
            features=kinds.FeaturesDict(
                {
                    "image": kinds.Image(shape=(None, 6, 3), encoding_format="png"),
                    "label": kinds.ClassLabel(names=["cat", "dog", "owl"]),
                    "number": np.int64,
                    "box": kinds.BBoxFeature(),
                    "heat": kinds.Image(shape=(2, 2, 1), dtype=np.float32),
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> Any:
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split: str) -> Iterator[Any]:
        for number in range(COUNTS[split]):
            yield (
                number,
                {
                    "image": image_of(split, number),
                    "label": -1 if split == "unlabeled" else number % 3,
                    "number": number,
                    "box": tensorflow_datasets.features.BBox(0.0, 0.0, 1.0, 1.0),
                    "heat": np.zeros((2, 2, 1), np.float32),
                },
            )


class CvpipeRegistered(OnlyInFiles):
    """The same data set, opened with its registered loading code."""


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of data sets with three files per split."""
    place = tmp_path_factory.mktemp(request.param)
    shards = tensorflow_datasets.download.DownloadConfig(num_shards=3)
    for builder in (OnlyInFiles, CvpipeRegistered):
        builder(data_dir=place, file_format=request.param).download_and_prepare(
            download_config=shards
        )
    return place


def opened(folder: Path, name: str = "only_in_files", **settings: Any) -> dict[str, Source]:
    return tfds(TfdsLabels(kind="tfds", name=name, data_dir=str(folder), **settings))


def read(source: Source) -> list[tuple[bytes, int]]:
    rows = tf.data.Dataset.range(len(source)).map(
        source.read, num_parallel_calls=4, deterministic=True
    )
    assert rows.element_spec == {
        "bytes": tf.TensorSpec([], tf.string),
        "label": tf.TensorSpec([], tf.int32),
    }
    return [(row["bytes"], row["label"]) for row in rows.as_numpy_iterator()]


def by_the_library(folder: Path, expression: str) -> list[tuple[bytes, int]]:
    """Return (encoded image, label) as read by the library itself, in file order."""
    builder = tensorflow_datasets.builder("only_in_files", data_dir=folder)
    decoders = {"image": tensorflow_datasets.decode.SkipDecoding()}
    if builder.info.file_format.value == "array_record":
        rows = builder.as_data_source(expression, decoders=decoders)
    else:
        in_order = tensorflow_datasets.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        rows = builder.as_dataset(
            expression, decoders=decoders, read_config=in_order
        ).as_numpy_iterator()
    return [(row["image"], row["label"]) for row in rows]


@pytest.mark.parametrize(
    "expression",
    ["train", "train[:30%]", "train[7:33]", "train[-5:]+test", "test[3:]+train[:1]+train[20:25]"],
)
def test_any_expression_gives_what_the_library_reads(folder: Path, expression: str) -> None:
    source = opened(folder, train=expression, test=None)["train"]
    assert read(source) == by_the_library(folder, expression)
    assert source.classes == ("cat", "dog", "owl")


def test_images_are_encoded_and_decode_to_their_pixels(folder: Path) -> None:
    splits = opened(folder)
    for split, source in splits.items():
        rows = read(source)
        pixels = {
            decode_image(tf.constant(encoded), 3).numpy().tobytes(): label
            for encoded, label in rows
        }
        assert pixels == {
            image_of(split, number).tobytes(): number % 3 for number in range(COUNTS[split])
        }
        one = source.read(tf.constant(3, tf.int64))
        assert (one["bytes"].numpy(), int(one["label"])) == rows[3]


def test_an_example_is_named_by_its_position_in_the_data_sets_split(folder: Path) -> None:
    source = opened(folder, train="test[10:]+train[17:19]", test=None)["train"]
    assert source.names() == ["test[10]", "test[11]", "train[17]", "train[18]"]
    assert source.name(2) == f"{folder / 'only_in_files' / '1.2.0'}:train[17]"


def test_splits_are_read_or_held_out(folder: Path) -> None:
    every = TfdsLabels(kind="tfds", name="only_in_files", data_dir=str(folder))
    given = open_splits(
        Data(source=every.model_copy(update={"validation": "train[:9]", "train": "train[9:]"}))
    )
    assert {name: len(split) for name, split in given.items()} == {
        "train": 31,
        "validation": 9,
        "test": 12,
    }
    held = open_splits(Data(source=every.model_copy(update={"test": None}), validation=0))
    assert {name: len(split) for name, split in held.items()} == {"train": 31, "test": 9}


@pytest.mark.parametrize(
    "name", ["cvpipe_registered", "cvpipe_registered:1.2.0", "only_in_files:1.2.0"]
)
def test_a_data_set_is_found_by_its_code_and_by_its_files(folder: Path, name: str) -> None:
    assert len(opened(folder, name)["train"]) == 40


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "name": (
        {"name": "cifr10"},
        (
            r"data.source.name: TensorFlow Datasets has no 'cifr10', nor is it in .*; did you mean"
            r" 'cifar10'\?"
        ),
    ),
    "version": (
        {"name": "cvpipe_registered:9.9.9"},
        "TensorFlow Datasets can't open 'cvpipe_registered:9.9.9'.*only: 1.2.0",
    ),
    "no name at all": ({"name": "../x y"}, r"TensorFlow Datasets can't open '../x y'"),
    "not there": (
        {"name": "mnist"},
        (
            r"mnist/3.* is not in .*; set data.source.download: true to fetch it, or"
            r" data.source.data_dir"
        ),
    ),
    "split": (
        {"validation": "val"},
        r"data.source.validation: .* has no split 'val' .*it has .*train.*;"
        r" data.source.validation=null holds out images of train",
    ),
    "training split": (
        {"train": "trian"},
        r"data.source.train: only_in_files/1.2.0 has no split 'trian'",
    ),
    "expression": (
        {"train": "train[5"},
        r"data.source.train: only_in_files/1.2.0 has no split 'train\[5'",
    ),
    "empty": (
        {"train": "train[3:3]"},
        r"data.source.train: 'train\[3:3\]' of only_in_files/1.2.0 is empty",
    ),
    "overlap": (
        {"train": "train[:20]", "test": "test+train[17:]"},
        (
            r"data.source.train and data.source.test of .* have 3 examples in common, from"
            r" train\[17\] on"
        ),
    ),
    "image": (
        {"image": "picture"},
        (
            r"data.source.image: .* no feature 'picture' of the type Image; it has box .*, image"
            r" \(Image\), label \(ClassLabel\)"
        ),
    ),
    "no image": (
        {"image": "number"},
        "data.source.image: .* has no feature 'number' of the type Image",
    ),
    "floats": (
        {"image": "heat"},
        "data.source.image: .* has images of float32; only uint8 and uint16 are read",
    ),
    "label": (
        {"label": "number"},
        "data.source.label: .* has no feature 'number' of the type ClassLabel",
    ),
    "unlabeled": (
        {"test": "unlabeled[1:]"},
        r"unlabeled\[1\]: no label \(-1\), one of 4 such examples; choose splits that are",
    ),
}


@pytest.mark.parametrize("folder", ["tfrecord"], indirect=True)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_error_of_a_mistake_lists_the_available_names(folder: Path, mistake: str) -> None:
    settings, message = MISTAKES[mistake]
    with pytest.raises(DataError, match=message):
        opened(folder, **settings)


def test_a_missing_data_set_is_fetched_only_if_the_pipeline_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match="set data.source.download: true"):
        opened(tmp_path, "cvpipe_registered")
    assert not (tmp_path / "cvpipe_registered").exists()
    assert len(opened(tmp_path, "cvpipe_registered", download=True)["test"]) == 12
    assert capsys.readouterr().out == ""


def test_a_failed_download_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, dl_manager: Any) -> Any:
        raise ConnectionError("no network")

    monkeypatch.setattr(CvpipeRegistered, "_split_generators", broken)
    with pytest.raises(DataError, match="cvpipe_registered/1.2.0 can't be fetched: .*no network"):
        opened(tmp_path, "cvpipe_registered", download=True)


@pytest.mark.parametrize("folder", ["tfrecord"], indirect=True)
def test_a_damaged_example_is_an_error(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "only_in_files", tmp_path / "only_in_files")
    shard = sorted((tmp_path / "only_in_files" / "1.2.0").glob("*-train*"))[1]
    content = bytearray(shard.read_bytes())
    # Each example follows twelve bytes with its length and the checksum of the length.
    content[12:30] = b"\xff" * 18
    shard.write_bytes(content)
    with pytest.raises(
        DataError,
        match=(
            "1.2.0: one of 40 examples, from number 0 on, is damaged .*; remove the data set and"
            " prepare it"
        ),
    ):
        opened(tmp_path)
