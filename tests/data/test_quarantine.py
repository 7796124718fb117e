"""Guards bad records: each is named once with its reason, and too many are an error."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.digits import Digits
from cvpipe.config.label_sources import Csv, Folder
from cvpipe.data.decode import decode_image
from cvpipe.data.guard import or_zeros
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source
from cvpipe.data.sources.csv import csv
from cvpipe.data.sources.digits import digits
from cvpipe.data.sources.folder import folder
from cvpipe.errors import DataError
from image_files import BAD, JPEG, PNG, write_classes

NO_IMAGE = "not a JPEG, PNG, BMP or WebP image (GIF and other formats are refused)"
CUT_OFF = "the file is cut off inside its header"
DAMAGED = "the {} is damaged, cut off or of an unusual kind"
REASONS = {
    "empty": "the file is empty",
    "garbage": NO_IMAGE,
    "three bytes": NO_IMAGE,
    "text": NO_IMAGE,
    "truncated JPEG": DAMAGED.format("JPEG"),
    "JPEG without its last byte": DAMAGED.format("JPEG"),
    "truncated JPEG header": DAMAGED.format("JPEG"),
    "truncated PNG": DAMAGED.format("PNG"),
    "PNG without its end": DAMAGED.format("PNG"),
    "truncated PNG header": CUT_OFF,
    "truncated BMP": DAMAGED.format("BMP"),
    "truncated BMP header": CUT_OFF,
    "truncated WebP": DAMAGED.format("WebP"),
    "truncated WebP header": NO_IMAGE,
    "other RIFF": NO_IMAGE,
    "huge PNG": "the header says 20000 x 20000 pixels, but 1 to 100,000,000 are allowed",
    "GIF": NO_IMAGE,
    "TIFF": NO_IMAGE,
}


def make(tmp_path: Path, contents: list[bytes]) -> tuple[Source, list[Path]]:
    files = write_classes(tmp_path / "photos", {"a": contents})
    return folder(Folder(kind="folder", path=str(tmp_path / "photos")))["all"], files


def test_every_kind_of_bad_file_has_an_expected_reason() -> None:
    assert REASONS.keys() == BAD.keys()


@pytest.mark.parametrize("name", BAD)
def test_the_reason_of_each_kind_of_bad_file_is_logged(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    source, [file] = make(tmp_path, [BAD[name]])
    quarantine = Quarantine(source, "train", 1.0)
    with caplog.at_level(logging.WARNING):
        quarantine.note(0)
    assert quarantine.names == {str(file): REASONS[name]}
    assert caplog.messages == [f"left out (train split): {file}: {REASONS[name]}"]


def test_a_missing_file_is_called_missing(tmp_path: Path) -> None:
    source, [file] = make(tmp_path, [JPEG])
    file.unlink()
    quarantine = Quarantine(source, "train", 1.0)
    quarantine.note(0)
    assert quarantine.names == {str(file): "the file is missing"}


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_table_with_bad_files_is_opened_and_each_is_named_when_it_is_read(
    tmp_path: Path, kind: str
) -> None:
    contents = {
        "good.png": PNG,
        "animation.png": BAD["GIF"],
        "good.txt": PNG,
        "huge.png": BAD["huge PNG"],
    }
    (tmp_path / "data.csv").write_text(
        "file,kind\n" + "".join(f"{name},cat\n" for name in ["missing.png", *contents])
    )
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    path = tmp_path
    if kind == "zip":
        path = Path(shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path, "."))
    source = csv(Csv(kind="csv", path=str(path), train="data.csv"))["train"]
    quarantine = Quarantine(source, "train", 0.5)

    @tf.autograph.experimental.do_not_convert
    def load(index: tf.Tensor) -> tf.Tensor:
        return or_zeros(
            lambda index: tf.image.resize(decode_image(source.read(index)["bytes"], 3), [8, 8]),
            index,
        )

    for index, (image, readable) in enumerate(
        tf.data.Dataset.range(len(source)).map(load).as_numpy_iterator()
    ):
        # The content of a file counts, not its extension.
        assert readable == source.names()[index].startswith("good") == (image > 0).any()
        if not readable:
            quarantine.note(index)
    assert quarantine.names == {
        source.name(0): "the file is missing",
        source.name(2): NO_IMAGE,
        source.name(4): "the header says 20000 x 20000 pixels, but 1 to 100,000,000 are allowed",
    }
    with pytest.raises(DataError, match=r"3 of the train split's 5 records can't be read \(60.0%"):
        quarantine.check()


def test_a_file_that_was_replaced_by_a_folder_has_a_reason(tmp_path: Path) -> None:
    source, [file] = make(tmp_path, [JPEG])
    file.unlink()
    file.mkdir()
    quarantine = Quarantine(source, "train", 1.0)
    quarantine.note(0)
    assert quarantine.names[str(file)].startswith("the file can't be read")


def test_a_record_that_is_readable_on_the_second_try_has_a_reason(tmp_path: Path) -> None:
    for source in (make(tmp_path, [JPEG])[0], digits(Digits(kind="digits"))["all"]):
        quarantine = Quarantine(source, "train", 1.0)
        quarantine.note(0)
        assert list(quarantine.names.values()) == ["the file could be read on a second try"]


def test_a_record_is_counted_and_written_once(tmp_path: Path) -> None:
    source, files = make(tmp_path, [b"", JPEG, b"text"])
    quarantine = Quarantine(source, "train", 1.0, tmp_path / "quarantine.jsonl")
    for index in (2, 0, 2, 2, 0):
        quarantine.note(index)
    assert len(quarantine) == 2
    rows = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert rows == [
        {"split": "train", "record": str(files[2]), "reason": NO_IMAGE},
        {"split": "train", "record": str(files[0]), "reason": "the file is empty"},
    ]


def test_after_a_restart_a_bad_record_is_counted_again_but_not_written_twice(
    tmp_path: Path,
) -> None:
    source, files = make(tmp_path, [b"", b"text", JPEG])
    file = tmp_path / "quarantine.jsonl"
    Quarantine(source, "train", 1.0, file).note(0)
    Quarantine(source, "test", 1.0, file).note(1)
    resumed = Quarantine(source, "train", 1.0, file)
    assert len(resumed) == 0
    resumed.note(0)
    resumed.note(1)
    assert resumed.names == {str(files[0]): "the file is empty", str(files[1]): NO_IMAGE}
    assert [json.loads(line)["split"] for line in file.read_text().splitlines()] == [
        "train",
        "test",
        "train",
    ]


def test_a_line_cut_off_by_a_crash_does_not_affect_others(tmp_path: Path) -> None:
    source, files = make(tmp_path, [b"", b"text", JPEG])
    file = tmp_path / "quarantine.jsonl"
    Quarantine(source, "train", 1.0, file).note(0)
    with file.open("a") as lines:
        lines.write('{"split": "train", "rec')
    Quarantine(source, "train", 1.0, file).note(1)
    first, _, last = file.read_text().splitlines()
    assert [json.loads(line)["record"] for line in (first, last)] == [str(files[0]), str(files[1])]


@pytest.mark.parametrize(
    "examples, bad, share",
    [(20, 1, 0.05), (100, 29, 0.29), (100, 7, 0.07), (3, 0, 0.0), (7, 7, 1.0)],
)
def test_exactly_the_allowed_share_passes(
    tmp_path: Path, examples: int, bad: int, share: float
) -> None:
    source, _ = make(tmp_path, [b""] * bad + [JPEG] * (examples - bad))
    quarantine = Quarantine(source, "train", share)
    for index in range(bad):
        quarantine.note(index)
    quarantine.check()
    assert len(quarantine) == bad


def test_more_than_the_allowed_share_is_an_error_with_advice(tmp_path: Path) -> None:
    source, files = make(tmp_path, [b"", b"text"] + [JPEG] * 18)
    file = tmp_path / "quarantine.jsonl"
    quarantine = Quarantine(source, "validation", 0.05, file)
    quarantine.note(0)
    quarantine.check()
    quarantine.note(1)
    with pytest.raises(DataError) as error:
        quarantine.check()
    assert (
        str(error.value)
        == "2 of the validation split's 20 records can't be read (10.0%; data.max_bad_share allows"
        f" 5.0%), such as {files[0]}: the file is empty; all are listed in {file}. Correct or"
        " remove them, or raise data.max_bad_share"
    )


def test_an_error_without_a_file_names_no_file(tmp_path: Path) -> None:
    source, _ = make(tmp_path, [b"", JPEG])
    quarantine = Quarantine(source, "train", 0.0)
    quarantine.note(0)
    with pytest.raises(DataError, match=r"the file is empty\. Correct"):
        quarantine.check()


def test_concurrent_notes_are_all_written_completely(tmp_path: Path) -> None:
    source, files = make(tmp_path, [b""] * 40)
    file = tmp_path / "quarantine.jsonl"
    quarantine = Quarantine(source, "train", 1.0, file)

    def note(index: np.int64) -> np.int64:
        quarantine.note(int(index))
        return index

    numbers = tf.data.Dataset.range(80).map(
        lambda n: tf.numpy_function(note, [n % 40], tf.int64), num_parallel_calls=8
    )
    assert len(list(numbers)) == 80
    assert sorted(json.loads(line)["record"] for line in file.read_text().splitlines()) == sorted(
        map(str, files)
    )
