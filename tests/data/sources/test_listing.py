"""Guards lists of files: leftovers are counted once, links are followed, paths are found."""

from __future__ import annotations

import logging
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.listing import list_folder
from cvpipe.errors import DataError
from image_files import zipped

LEFTOVERS = (
    "__MACOSX/a/._1.jpg",
    "a/.DS_Store",
    "a/._1.jpg",
    "a/.ipynb_checkpoints/1-checkpoint.jpg",
    "a/Thumbs.db",
    "desktop.ini",
    "a/@eaDir/1.jpg",
    "a/Icon\r",
)


def make(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(file)
    return root


@pytest.mark.parametrize("place", [lambda root: root, zipped], ids=["folder", "zip"])
def test_leftovers_are_counted_once_and_not_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: Callable[[Path], Path]
) -> None:
    files = open_files(str(place(make(tmp_path / "data", "a/1.jpg", "b.txt", *LEFTOVERS))))
    with caplog.at_level(logging.WARNING):
        assert files.names() == files.names() == ["a/1.jpg", "b.txt"]
    assert files.listing.folders == {"", "a"}
    [warning] = caplog.messages
    assert f"left out {len(LEFTOVERS)} files or folders, hidden or made by" in warning


def test_links_are_followed_and_each_real_folder_is_listed_once(tmp_path: Path) -> None:
    root = make(tmp_path / "data", "z/1.jpg", "z/deep/2.jpg")
    make(tmp_path / "elsewhere", "3.jpg", "more/4.jpg")
    for link, target in {
        "a": root / "z",
        "z/up": root,
        "b": tmp_path / "elsewhere",
        "c": tmp_path / "elsewhere" / "more",
        "z/5.jpg": tmp_path / "elsewhere" / "3.jpg",
        "gone": tmp_path / "nowhere",
    }.items():
        (root / link).symlink_to(target)
    listing = list_folder(root)
    assert listing.files == ["b/3.jpg", "b/more/4.jpg", "z/1.jpg", "z/5.jpg", "z/deep/2.jpg"]
    assert listing.aliases == {"a": "z", "c": "b/more", "z/up": ""}
    files = open_files(str(root))
    assert files.find_folder("c") == "b/more" and files.find_folder("a/deep") == "z/deep"
    assert files.read("a/1.jpg") == b"z/1.jpg"


def test_a_link_to_a_folder_above_the_root_is_not_followed_forever(tmp_path: Path) -> None:
    root = make(tmp_path / "data", "1.jpg")
    make(tmp_path, "beside/2.jpg")
    (root / "around").symlink_to(tmp_path)
    assert list_folder(root).files == ["1.jpg", "around/beside/2.jpg"]


PATHS = {
    "as it stands": "set 1/été.jpg",
    "a backslash": "set 1\\été.jpg",
    "the other form": unicodedata.normalize("NFD", "set 1/été.jpg"),
    "both": unicodedata.normalize("NFD", "set 1\\été.jpg"),
    "superfluous parts": "./set 1/../set 1//été.jpg",
}


@pytest.mark.parametrize("place", [lambda root: root, zipped], ids=["folder", "zip"])
@pytest.mark.parametrize("written", PATHS)
def test_files_are_found_in_every_notation_of_their_paths(
    tmp_path: Path, written: str, place: Callable[[Path], Path]
) -> None:
    make(tmp_path / "data", unicodedata.normalize("NFC", "set 1/été.jpg"), "x.txt")
    files = open_files(str(place(tmp_path / "data")))
    found = files.find(PATHS[written])
    assert found == unicodedata.normalize("NFC", "set 1/été.jpg")
    assert files.read(PATHS[written]).decode() == found
    assert files.find("set 1/ete.jpg") is None
    assert (files.find_folder("."), files.find_folder(".\\set 1")) == ("", "set 1")
    assert files.find_folder("set 2") is None


def test_the_error_of_a_missing_file_suggests_similar_paths(tmp_path: Path) -> None:
    files = open_files(str(make(tmp_path, "img/Set1/a.JPG", "img/b.jpg")))
    with pytest.raises(DataError, match=r"no such file; did you mean 'img/Set1/a.JPG'"):
        files.read("IMG/set1/a.jpg")
    with pytest.raises(DataError, match=r"no such file; .*known: img/b.jpg"):
        files.read("elsewhere/b.jpg")


def raw_zip(path: Path, names: dict[bytes, bytes]) -> Path:
    """Write an archive whose file names are these bytes, without the flag for UTF-8."""
    stand_ins = [bytes([97 + number]) * len(name) for number, name in enumerate(names)]
    with zipfile.ZipFile(path, "w") as archive:
        for stand_in, content in zip(stand_ins, names.values(), strict=True):
            archive.writestr(stand_in.decode(), content)
    content = path.read_bytes()
    for stand_in, name in zip(stand_ins, names, strict=True):
        content = content.replace(stand_in, name)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "raw, name",
    [
        ("größe/1.jpg".encode(), "größe/1.jpg"),
        ("猫/1.jpg".encode(), "猫/1.jpg"),
        (b"gr\x94\xe1e/1.jpg", "größe/1.jpg"),
        (rb"cats\1.jpg", "cats/1.jpg"),
        (b"./cats/1.jpg", "cats/1.jpg"),
    ],
    ids=["UTF-8", "UTF-8 of three bytes", "code page 437", "backslash", "dot"],
)
def test_names_in_archives_are_decoded_in_every_encoding(
    tmp_path: Path, raw: bytes, name: str
) -> None:
    files = open_files(str(raw_zip(tmp_path / "data.zip", {raw: b"cat", b"readme.txt": b"x"})))
    assert files.names() == sorted([name, "readme.txt"])
    assert files.read(name) == b"cat"


def wrapped(root: Path) -> Path:
    """A zip archive of the folder itself, as file managers make it."""
    path = root.parent / "wrapped.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root.parent))
        archive.writestr("__MACOSX/._x", b"")
    return path


def test_an_outer_folder_that_contains_all_files_is_not_part_of_names(tmp_path: Path) -> None:
    path = wrapped(make(tmp_path / "photos", "cats/1.jpg", "dogs/2.jpg"))
    files: Files = open_files(str(path))
    assert files.names() == ["cats/1.jpg", "dogs/2.jpg"]
    assert files.locate("cats/1.jpg") == f"{path}:photos/cats/1.jpg"
    assert files.find("photos/cats/1.jpg") == "cats/1.jpg"
    assert files.find_folder("photos/cats") == "cats" and files.find_folder("photos") == ""
    named = open_files(str(path), ["photos/cats"])
    assert named.names() == ["photos/cats/1.jpg", "photos/dogs/2.jpg"]


def test_links_to_missing_files_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "here.jpg").touch()
    for name in ("b.jpg", "a.jpg"):
        (tmp_path / name).symlink_to("/missing/annex")
    assert list_folder(tmp_path).files == ["here.jpg"]
    assert "left out 2 links whose target is missing, such as a.jpg" in caplog.text
