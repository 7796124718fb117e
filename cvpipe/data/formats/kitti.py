"""KITTI's text files in label_2 beside image_2."""

from __future__ import annotations

from collections.abc import Iterator

from cvpipe.config.box_sources import Kitti
from cvpipe.data.formats.found import ANNOTATED, DETECTION, Found, Place, some
from cvpipe.data.sources.kitti import COLUMNS, text_file_of
from cvpipe.errors import counted


def find(place: Place) -> Iterator[Found]:
    """Yield KITTI's layout."""
    config = Kitti(kind="kitti", path=place.path)
    images = [name for name in place.images if config.images in name.split("/")[:-1]]
    texts = [text_file_of(place.files, name, config.images, config.labels) for name in images]
    there = [name for name in texts if name]
    lines = [line.split() for name in some(there) for line in (place.text(name) or "").splitlines()]
    if any(lines) and all(len(cells) in COLUMNS for cells in lines if cells):
        why = f"{counted(len(there), 'image')} have a text file of KITTI's 15 columns"
        yield Found(DETECTION, {"kind": "kitti", "path": place.path}, why, ANNOTATED)
