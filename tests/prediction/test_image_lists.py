"""Guards the images that `cvpipe predict` is given: files, folders, archives, patterns and lists,
in order.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from cvpipe.errors import DataError
from cvpipe.prediction.images import find_images


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with images and other files."""
    for name in ("b.JPG", "a.png", "deep/a.png", "notes.txt", ".hidden.png", "deep/c.webp"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    return tmp_path / "photos"


def contents(words: list[str]) -> list[bytes]:
    return [image.read() for image in find_images(words)]


def test_a_folder_gives_its_images_by_name_and_a_file_itself_whatever_its_name(
    photos: Path,
) -> None:
    assert contents([str(photos)]) == [b"a.png", b"b.JPG", b"deep/a.png", b"deep/c.webp"]
    assert contents([str(photos / "notes.txt"), str(photos / "a.png")]) == [b"notes.txt", b"a.png"]


def test_an_archive_gives_its_images(photos: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for file in photos.rglob("*"):
            archive.write(file, file.relative_to(photos))
    images = find_images([str(tmp_path / "photos.zip")])
    assert [image.read() for image in images] == contents([str(photos)])
    assert all("photos.zip" in image.name for image in images)


@pytest.mark.parametrize("name", ["photos.zip", "photos"])
def test_a_cut_off_archive_is_not_taken_for_an_image(photos: Path, name: str) -> None:
    whole = photos.parent / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.write(photos / "a.png", "a.png")
    file = photos / name
    file.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(DataError, match=f"{name}: a damaged or cut off zip archive; fetch or"):
        find_images([str(file)])


def test_patterns_and_lists_on_stdin(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert contents([f"{photos}/*.png"]) == [b"a.png"]
    assert contents([f"{photos}/**/*.png"]) == [b"a.png", b"deep/a.png"]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{photos}/b.JPG\n\n{photos}/deep\n"))
    assert contents(["-"]) == [b"b.JPG", b"deep/a.png", b"deep/c.webp"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].png").write_bytes(b"one")
    assert contents([str(tmp_path / "a[1].png")]) == [b"one"]


def test_files_about_images_of_one_name_have_different_names(photos: Path) -> None:
    images = find_images([str(photos), str(photos / "a.png")])
    assert [image.output for image in images] == ["a.png", "b.JPG", "a.png.2", "c.webp", "a.png.3"]


def test_images_that_the_command_writes_itself_are_left_out(photos: Path) -> None:
    written = ("answers/yolo/a.png", "drawn/a.png.prediction.png", "a.png.mask.png", "drawn/d.png")
    for name in written:
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(name.encode())
    (photos.parent / "link").symlink_to(photos)
    folders = [
        (photos.parent / "link" / "answers", ""),
        (photos / "drawn", ".prediction.png"),
        (photos, ".mask.png"),
    ]
    images = find_images([str(photos)], folders)
    own = [b"a.png", b"b.JPG", b"deep/a.png", b"deep/c.webp", b"drawn/d.png"]
    assert [image.read() for image in images] == own
    images = find_images([f"{photos}/**/*.png"], folders)
    assert [image.read() for image in images] == [b"a.png", b"deep/a.png", b"drawn/d.png"]
    # A file that is named itself is always meant.
    [image] = find_images([str(photos / written[2])], folders)
    assert image.read() == b"a.png.mask.png"


def test_a_missing_file_is_an_error_only_when_it_is_read(tmp_path: Path) -> None:
    [image] = find_images([str(tmp_path / "none.png")])
    with pytest.raises(FileNotFoundError):
        image.read()


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"has no image; names of images end in .jpg"):
        find_images([str(tmp_path)])
    with pytest.raises(DataError, match="no file matches the pattern"):
        find_images([str(tmp_path / "*.png")])


def test_images_of_other_formats_in_a_folder_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "b.gif", "c.tif", "notes.txt"):
        (tmp_path / name).touch()
    assert len(find_images([str(tmp_path)])) == 1
    assert caplog.messages == [
        f"{tmp_path}: 2 images skipped, such as b.gif; images are JPEG, PNG, BMP or WebP"
    ]
