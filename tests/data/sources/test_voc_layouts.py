"""Guards Pascal VOC's files as tools write them: folders, lists, splits, encodings."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cvpipe.config.voc import Voc
from cvpipe.data.sources import Source
from cvpipe.data.sources.voc import voc
from cvpipe.errors import DataError
from image_files import zipped

SIZE = "<size><width>40</width><height>20</height></size>"
BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"


def xml(name: str = "cat") -> str:
    return f"<annotation>{SIZE}<object><name>{name}</name>{BOX}</object></annotation>"


def write(root: Path, *stems: str, **lists: str) -> Path:
    """Write images and XML files into the same folder, and lists beside them."""
    for stem in stems:
        (root / stem).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{stem}.jpg").write_text("x")
        (root / f"{stem}.xml").write_text(xml())
    for name, content in lists.items():
        (root / f"{name}.txt").write_text(content)
    return root


def opened(path: Path, **settings: Any) -> dict[str, Source]:
    return voc(Voc(kind="voc", path=str(path), **settings))


def names(splits: dict[str, Source]) -> dict[str, list[str]]:
    return {split: source.names() for split, source in splits.items()}


@pytest.mark.parametrize("place", [lambda root: root, zipped], ids=["folder", "zip"])
@pytest.mark.parametrize(
    "settings",
    [
        {"images": ".", "annotations": "."},
        {"images": "", "annotations": ""},
        {"images": "./", "annotations": "."},
        {},
    ],
    ids=["dot", "empty", "both", "unsaid"],
)
def test_images_and_xml_files_may_be_in_the_same_folder(
    tmp_path: Path, settings: dict[str, str], place: Callable[[Path], Path]
) -> None:
    path = place(write(tmp_path / "d", "1", "two words", "deeper/3", other="a note"))
    assert names(opened(path, **settings)) == {"all": ["1.jpg", "deeper/3.jpg", "two words.jpg"]}


@pytest.mark.parametrize("place", [lambda root: root, zipped], ids=["folder", "zip"])
def test_folders_of_splits_make_splits(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    path = place(write(tmp_path / "d", "train/1", "Valid/2", "test/3", "test/more/4"))
    assert names(opened(path)) == {
        "train": ["train/1.jpg"],
        "validation": ["Valid/2.jpg"],
        "test": ["test/3.jpg", "test/more/4.jpg"],
    }


def test_each_split_may_have_its_own_folders(tmp_path: Path) -> None:
    write(tmp_path / "a/x", "1", "2")
    write(tmp_path / "b", "3")
    (tmp_path / "b/xml").mkdir()
    (tmp_path / "b/3.xml").rename(tmp_path / "b/xml/3.xml")
    splits = {
        "train": {"images": "a/x", "annotations": "a\\x"},
        "test": {"images": "b", "annotations": "b/xml"},
    }
    assert names(opened(tmp_path, **splits)) == {
        "train": ["a/x/1.jpg", "a/x/2.jpg"],
        "test": ["b/3.jpg"],
    }


LISTED = {
    "names": "1\ntwo words\n",
    "a flag behind": "1 -1\ntwo words  1\n",
    "extensions": "1.jpg\ntwo words.jpg\n",
    "other folders": "./images/1.jpg\n/home/me/VOC/JPEGImages/two words.jpg\n",
    "backslashes": "C:\\data\\1.jpg\r\nJPEGImages\\two words.xml\r\n",
    "images and XML files": "1.jpg 1.xml\ntwo words.jpg\n",
}


@pytest.mark.parametrize("kind", LISTED)
def test_lines_of_lists_name_images_in_many_ways(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, "1", "two words", "3", train=LISTED[kind], test="3\n")
    assert names(opened(path, lists=".")) == {
        "train": ["1.jpg", "two words.jpg"],
        "test": ["3.jpg"],
    }


def test_lines_of_lists_may_have_folders(tmp_path: Path) -> None:
    path = write(tmp_path, "a/1", "b/1", train="a/1\n", valid="b/1\n")
    assert names(opened(path, lists="", images=".", annotations=".")) == {
        "train": ["a/1.jpg"],
        "validation": ["b/1.jpg"],
    }


def test_the_list_trainval_replaces_a_missing_list_train(tmp_path: Path) -> None:
    path = write(tmp_path, "1", "2", "3", trainval="1\n2\n", test="3\n")
    assert names(opened(path, lists=".")) == {"train": ["1.jpg", "2.jpg"], "test": ["3.jpg"]}


def test_names_in_different_forms_of_unicode_are_the_same(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "été") for form in ("NFC", "NFD"))
    path = write(tmp_path, composed, train=f"{decomposed}\n")
    (path / f"{composed}.jpg").rename(path / f"{decomposed}.jpg")
    assert names(opened(path, lists=".")) == {"train": [f"{composed}.jpg"]}


@pytest.mark.parametrize(
    "stems, lists, message",
    [
        (
            ["test/1", "val/2"],
            {},
            "files of test and validation, such as test/1.xml, but none of train; name",
        ),
        (["train/1", "2"], {}, "2.xml is in no split's folder, unlike other files; move it"),
        (["1"], {"train": "1\n", "test": "my photo\n"}, "my photo.xml: no such file"),
        (["1"], {"train": "1\n", "test": "2 -1\n"}, "2.xml: no such file; did you mean '1.xml'"),
    ],
)
def test_ambiguous_splits_are_an_error(
    tmp_path: Path, stems: list[str], lists: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        opened(write(tmp_path, *stems, **lists), lists=".")


def test_the_error_of_missing_xml_files_names_folders_that_have_some(tmp_path: Path) -> None:
    write(tmp_path / "VOC2007/JPEGImages", "1")
    (tmp_path / "VOC2007/Annotations").mkdir()
    (tmp_path / "VOC2007/JPEGImages/1.xml").rename(tmp_path / "VOC2007/Annotations/1.xml")
    with pytest.raises(DataError, match="no XML .*; there are XML files in VOC2007/Annotations$"):
        opened(tmp_path)


def test_a_split_without_images_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "train/1", "test/2")
    (path / "test/2.jpg").unlink()
    with pytest.raises(
        DataError,
        match="test: none of the annotated images of the test split exists; set"
        " data.source.images to the folder of the images",
    ):
        opened(path)
    splits = {name: {"images": name, "annotations": name} for name in ("train", "test")}
    with pytest.raises(DataError, match="set data.source.test.images to the folder of the images"):
        opened(path, **splits)


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"test": {"images": "a", "annotations": "b"}},
            "test can't be given without train; add the training split's folders",
        ),
        (
            {"train": {"images": "a", "annotations": "b"}, "lists": "."},
            "lists can't be combined with train, because both say where the files are",
        ),
    ],
)
def test_keys_that_contradict_each_other_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Voc(kind="voc", path=".", **settings)


ENCODINGS = ["gb2312", "shift_jis", "euc-kr", "big5", "utf-16", "windows-1251", "iso-8859-15"]
WORDS = {
    "gb2312": "方块",
    "shift_jis": "猫",
    "euc-kr": "고양이",
    "big5": "貓",
    "utf-16": "猫",
    "windows-1251": "кот",
    "iso-8859-15": "œuf",
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_xml_is_read_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path, "1")
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n{xml(WORDS[encoding])}'
    (path / "1.xml").write_bytes(text.encode(encoding))
    assert opened(path)["all"].classes == (WORDS[encoding],)


@pytest.mark.parametrize(
    "content, message",
    [
        (
            b'<?xml version="1.0" encoding="x-none"?><a/>',
            "1.xml: the declared encoding 'x-none' is unknown",
        ),
        (
            b'<?xml version="1.0" encoding="rot13"?><a/>',
            "1.xml: the declared encoding 'rot13' is unknown",
        ),
        (
            b'<?xml version="1.0" encoding="shift_jis"?><a>\x81</a>',
            "1.xml: this is not text in its encoding, shift_jis; save the file as UTF-8",
        ),
        (b'<?xml version="1.0" encoding="big5"?>\n<a>', "1.xml:2: not valid XML"),
        (b"\xff\xfe<", "1.xml:1: not valid XML"),
        (b"", "1.xml:1: not valid XML"),
    ],
)
def test_the_error_of_invalid_xml_names_its_place(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = write(tmp_path, "1")
    (path / "1.xml").write_bytes(content)
    with pytest.raises(DataError, match=message):
        opened(path)


def test_images_without_annotations_are_counted_in_each_split(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "a/1", "a/2", "b/3")
    (path / "a/2.xml").unlink()
    splits = {name: {"images": name, "annotations": name} for name in "ab"}
    with caplog.at_level(logging.WARNING):
        opened(path, train=splits["a"], test=splits["b"])
    assert caplog.messages == [f"{tmp_path}: left out 1 image without an XML file, such as a/2.jpg"]
