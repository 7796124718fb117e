"""Guards the lookup of images by paths that labeling tools wrote on other machines."""

from __future__ import annotations

import posixpath
from pathlib import Path

import pytest

from cvpipe.data.sources.files import open_files
from cvpipe.data.sources.image_paths import find_image, images_by_last

IMAGES = ("cam1/1.jpg", "cam1/my photo.jpg", "set/images/2.jpg", "set/images/cam1/3.jpg")
FOUND = {
    "as written": ("cam1/1.jpg", "cam1/1.jpg"),
    "in another folder, with all its folders": ("cam1/3.jpg", "set/images/cam1/3.jpg"),
    "with backslashes": ("images\\2.jpg", "set/images/2.jpg"),
    "leading out of the folder": ("../images/2.jpg", "set/images/2.jpg"),
    "a name alone": ("2.jpg", "set/images/2.jpg"),
    "a name without extension": ("2", "set/images/2.jpg"),
    "an absolute path": ("/home/ann/cam9/1.jpg", "cam1/1.jpg"),
    "an absolute path of Windows": ("D:\\photos\\2.jpg", "set/images/2.jpg"),
    "a URL": ("https://host/a/my%20photo.jpg?size=9", "cam1/my photo.jpg"),
    "an upload": ("/data/upload/1/1a2b3c4d-1.jpg", "cam1/1.jpg"),
    "an upload without its first slash": ("upload/1/1a2b3c4d-1.jpg", "cam1/1.jpg"),
    "the prefix of an upload in its folder": ("cam1/1a2b3c4d-1.jpg", "cam1/1.jpg"),
    "a file of Label Studio's server": ("/data/local-files/?d=all/cam1/1.jpg", "cam1/1.jpg"),
    "another folder": ("cam2/1.jpg", None),
    "another folder, encoded": ("cam2/my%20photo.jpg", None),
    "another folder, with the prefix of an upload": ("cam2/1a2b3c4d-1.jpg", None),
    "another folder, without extension": ("cam2/1", None),
    "the end of a folder's name": ("am1/1.jpg", None),
}


@pytest.mark.parametrize("kind", FOUND)
def test_a_relative_path_keeps_its_folders_and_other_prefixes_are_removed(
    tmp_path: Path, kind: str
) -> None:
    for name in IMAGES:
        (tmp_path / posixpath.dirname(name)).mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = open_files(str(tmp_path))
    path, expected = FOUND[kind]
    assert find_image(files, path, "", images_by_last(files)) == expected
